"""Texts through a release: one row each, whatever the batch, and nothing from bytes that are not the release's."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.contracts import ABSTAINED, ArtifactRef
from llmops_tasks.errors import IntegrityError
from llmops_tasks.models.generator import Stub
from llmops_tasks.models.label_tree import Scoring
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


SCORES = [[0.5, 0.3, 0.1, 0.1, 0.0], [0.1, 0.2, 0.61, 0.05, 0.04]]


def _asked(**task: Any) -> interface.Interface:
    return ASKED.model_copy(update={"task": ASKED.task.model_copy(update=task)})


def test_what_is_less_likely_than_the_limit_is_no_answer() -> None:
    assert answering.decide(_asked(abstain_below=0.6), SCORES) == ([ABSTAINED, "urgent"], SCORES)
    assert answering.decide(_asked(abstain_below=0.61), SCORES)[0] == [ABSTAINED, "urgent"]  # not below
    assert answering.decide(_asked(), SCORES)[0] == ["resuscitation", "urgent"]


def test_it_is_the_calibrated_probability_that_is_held_against_the_limit() -> None:
    careful = _asked(abstain_below=0.6).model_copy(update={"temperature": 2.0})
    names, rows = answering.decide(careful, SCORES)
    assert names == [ABSTAINED, ABSTAINED]
    bold = careful.model_copy(update={"temperature": 0.5})
    assert answering.decide(bold, SCORES)[0] == ["resuscitation", "urgent"]
    assert rows[1][2] == pytest.approx(0.61**0.5 / sum(p**0.5 for p in SCORES[1]))


def test_a_release_is_scored_by_its_own_rule() -> None:
    class Noting(Stub):
        def scores(self, *given: Any) -> list[list[float]]:
            noted.append(given[2:])
            return super().scores(*given)

    noted: list[Any] = []
    for task in ({}, {"scoring": "whole_text"}, {"scoring": "whole_text", "length_normalised": True}):
        answering.answer(_asked(**task), Noting(tiny.ROOT), ["note"], 4)
    rules = (Scoring(), Scoring(whole_text=True), Scoring(whole_text=True, length_normalised=True))
    assert noted == [(4, ASKED.max_length, rule) for rule in rules]


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
    with pytest.raises(IntegrityError, match="damaged or absent"):
        answering.open_release({**released, "sha256": "0" * 64})


def test_a_generation_answers_with_text() -> None:
    asked = interface.of_usecase(config.load("faq"))
    empty, one = (answering.answer(asked, Stub(tiny.ROOT), texts) for texts in ([], ["How do I print?"]))
    assert list(one) == answering.columns(asked) == ["answer", "tokens", "finish_reason", "error", "bits"]
    assert (len(empty), len(one["answer"][0])) == (0, 48)
    assert empty.dtypes.to_dict() == one.dtypes.to_dict()
