"""An inference server is named by its address; secrets stay out of it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from llmops_tasks import process
from llmops_tasks.config.server import Server


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000/v1", "https://models.hospital.example/v1", "http://vllm:8000"])
def test_an_address_may_have_a_path(url: str) -> None:
    assert Server(url=url).url == url


@pytest.mark.parametrize(
    "url", ["vllm:8000", "file:///etc/passwd", "http://user:secret@host/v1", "http://host /v1", "http://"]
)
def test_a_password_or_another_scheme_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        Server(url=url)


def test_the_key_is_named_not_given() -> None:
    assert Server(url="http://host", key_variable="LLMOPS_SERVER_KEY").key_variable == "LLMOPS_SERVER_KEY"
    with pytest.raises(ValidationError):
        Server(url="http://host", key_variable="sk-123")


@pytest.mark.parametrize("name", ["LLMOPS_SERVER_KEY", "VLLM_KEY", "LLMOPS_AIRFLOW_PASSWORD"])
def test_a_key_is_accepted_where_processes_that_run_models_are_given_it(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "secret")
    given = name in process.environment()
    try:
        Server(url="http://host", key_variable=name)
    except ValidationError:
        assert not given
    else:
        assert given
