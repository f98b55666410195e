"""Texts through a release: one row each, whatever the batch, and nothing from bytes that are not the release's."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import IntegrityError
from llmops_tasks.models.generator import Stub
from llmops_tasks.prompts import answering, interface
from llmops_tasks.store import artifacts
from tests.support import tiny

ASKED = interface.of_usecase(config.load("triage"))


def test_the_label_is_the_one_with_the_highest_probability() -> None:
    table = answering.answer(ASKED, Stub(tiny.ROOT), [f"note {number}" for number in range(20)])
    assert list(table) == ["label", "score", *(f"p_{name}" for name in ASKED.labels)]
    parts = table[[f"p_{name}" for name in ASKED.labels]]
    assert (parts.idxmax(axis=1).str.removeprefix("p_") == table["label"]).all()
    assert (parts.max(axis=1) == table["score"]).all()
    assert table["label"].nunique() > 1


def test_no_text_gives_no_row_of_the_same_columns() -> None:
    empty, one = (answering.answer(ASKED, Stub(tiny.ROOT), texts) for texts in ([], ["note"]))
    assert (len(empty), len(one)) == (0, 1)
    assert empty.dtypes.to_dict() == one.dtypes.to_dict()


def test_a_damaged_release_answers_nothing(released: ArtifactRef) -> None:
    def build(out: Any) -> dict[str, Any]:
        (out / "model.safetensors").write_text("weights")
        return {}

    release = artifacts.publish(usecase="triage", kind="release", inputs={}, build=build)
    (artifacts.fetch(release) / "model.safetensors").write_text("other weights")
    with pytest.raises(IntegrityError, match="damaged"):
        answering.open_release(release)
    with pytest.raises(IntegrityError, match="as its reference says"):
        answering.open_release({**released, "sha256": "0" * 64})


def test_a_generation_answers_with_text() -> None:
    asked = interface.of_usecase(config.load("faq"))
    empty, one = (answering.answer(asked, Stub(tiny.ROOT), texts) for texts in ([], ["How do I print?"]))
    assert list(one) == answering.columns(asked) == ["answer", "tokens", "finish_reason", "error", "bits"]
    assert (len(empty), len(one["answer"][0])) == (0, 48)
    assert empty.dtypes.to_dict() == one.dtypes.to_dict()
