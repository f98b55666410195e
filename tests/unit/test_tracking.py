"""MLflow: one run per piece of work, whatever happened on the way."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops_tasks import tracking

pytestmark = pytest.mark.usefixtures("mlflow")


def test_a_run_keeps_what_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "card.md").write_text("card")
    with tracking.run(usecase="demo", name="work", key="k1") as run:
        run.params({"a": 1})
        run.metrics({"loss": 0.5}, step=3)
        run.tags({"b": "c"})
        run.json("report.json", {"n": 1})
        run.files(tmp_path / "files", "release")
    found = tracking.client().get_run(run.id)
    assert found.info.status == "FINISHED"
    assert (found.data.params["a"], found.data.metrics["loss"], found.data.tags["b"]) == ("1", 0.5, "c")
    assert {item.path for item in tracking.client().list_artifacts(run.id)} == {"report.json", "release"}


def test_the_same_key_continues_the_same_run_and_keeps_its_parameters() -> None:
    with tracking.run(usecase="demo", name="work", key="k1") as first:
        first.params({"a": 1})
    with tracking.run(usecase="demo", name="work", key="k1") as again:
        again.params({"a": 2, "b": 3})  # MLflow refuses to change a parameter; a retry must not fail on it
    assert again.id == first.id
    assert tracking.client().get_run(first.id).data.params == {"a": "1", "b": "3"}
    with tracking.run(usecase="demo", name="work", key="k2") as other:
        pass
    assert other.id != first.id


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_marks_the_run_failed_and_passes_through(error: type[BaseException]) -> None:
    with pytest.raises(error), tracking.run(usecase="demo", name="work", key="k") as run:
        raise error
    assert tracking.client().get_run(run.id).info.status == "FAILED"
    with tracking.run(usecase="demo", name="work", key="k") as again:
        assert tracking.client().get_run(again.id).info.status == "RUNNING"
    assert (again.id, tracking.client().get_run(run.id).info.status) == (run.id, "FINISHED")


def test_a_prompt_is_registered_once_until_it_changes() -> None:
    first = tracking.register_prompt(name="demo-prompt", template="{{ text }}", sha256="a")
    assert first == {"name": "demo-prompt", "version": "1", "sha256": "a"}
    assert tracking.register_prompt(name="demo-prompt", template="{{ text }}", sha256="a") == first
    assert tracking.register_prompt(name="demo-prompt", template="{{ text }}!", sha256="b")["version"] == "2"


def test_everything_is_under_the_home_unless_a_server_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking.tracking_uri() == f"sqlite:///{home}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert tracking.tracking_uri() == "http://mlflow:5000"


def test_initializing_twice_is_harmless() -> None:
    assert tracking.initialize() == tracking.initialize()
