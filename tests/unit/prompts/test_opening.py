"""Models of the store are opened whole, or a server is asked that has loaded them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.config.server import Server
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import IntegrityError
from llmops_tasks.models.local import LocalModel
from llmops_tasks.models.server import ServedModel
from llmops_tasks.prompts import opening
from llmops_tasks.store import artifacts

SERVER = Server(url="http://127.0.0.1:9/v1")


@pytest.fixture
def model(tiny_model: Path) -> ArtifactRef:
    def build(out: Path) -> dict[str, Any]:
        for path in tiny_model.iterdir():
            (out / path.name).write_bytes(path.read_bytes())
        return {}

    return artifacts.publish(usecase="desk", kind="release", inputs={}, build=build)


@pytest.mark.parametrize("server", [None, SERVER])
def test_every_byte_is_checked_first(model: ArtifactRef, server: Server | None) -> None:
    assert isinstance(opening.open_model(model, "fp32", server), LocalModel if server is None else ServedModel)
    (artifacts.fetch(model) / "config.json").write_text("{}")
    with pytest.raises(IntegrityError, match="damaged"):
        opening.open_model(model, "fp32", server)


def test_a_model_here_computes_in_the_format_that_is_asked_for(model: ArtifactRef) -> None:
    import torch

    found = opening.open_model(model, "bf16")
    assert isinstance(found, LocalModel) and found._model.dtype == torch.bfloat16


def test_answers_of_one_engine_are_not_taken_for_anothers() -> None:
    assert [opening.engine("fp32", None), opening.engine("bf16", None), opening.engine("fp32", SERVER)] == [
        "fp32",
        "bf16",
        "server",
    ]
