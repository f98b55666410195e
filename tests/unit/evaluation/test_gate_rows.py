"""What an approver reads: each check's row says what was seen and what is asked, whatever the verdict."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tasks.config import Limit
from llmops_tasks.evaluation import gate
from tests.support.judging import POLICY, figure, sound_evidence


def _row(name: str, **changes: Any) -> dict[str, Any]:
    """The check of this name, of sound evidence with something changed in its only report."""
    evidence = sound_evidence()
    evidence["stamps"] |= changes.pop("stamps", {})
    evidence["reports"][0] |= changes
    return next(dict(check) for check in gate.apply_policy(**evidence)["checks"] if check["name"] == name)


@pytest.mark.parametrize(("low", "high", "verdict"), [(0, 0, "pass"), (0, 0.2, "insufficient"), (0.1, 0.2, "fail")])
def test_a_ceiling_of_zero_lets_nothing_through(low: float, high: float, verdict: str) -> None:
    evidence = sound_evidence()
    none_missed = Limit.model_validate({"metric": "under_triage_rate", "at_most": 0.0})
    evidence["policy"] = POLICY.model_copy(update={"limits": [none_missed]})
    evidence["reports"][0]["metrics"]["under_triage_rate"] = figure(low, high)
    assert gate.apply_policy(**evidence)["verdict"] == verdict


def test_a_figure_of_too_few_records_is_shown_with_its_limit_all_the_same() -> None:
    few = {"quadratic_kappa": figure(0.6, 0.8, n=99)}
    assert _row("quadratic_kappa", metrics=few) == {
        "name": "quadratic_kappa", "observed": pytest.approx(0.7), "limit": 0.5, "rule": "at least", "n": 99,
        "verdict": "insufficient", "reason": "quadratic_kappa: 99 records, 100 are needed",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("overlap", "verdict", "said"),
    [
        (0, "pass", "0 groups overlap"),
        (1, "insufficient", "1 groups overlap"),
        (None, "insufficient", "unknown"),
    ],
)
def test_how_many_patients_a_subject_has_met_before_is_shown(overlap: int | None, verdict: str, said: str) -> None:
    name = "groups of the test set in the training data of candidate"
    row = {"name": name, "observed": overlap, "limit": 0.0, "rule": "at most", "n": 150, "verdict": verdict}
    assert _row(name, overlap=overlap, n=150) == row | {"reason": f"{name}: {said}"}


@pytest.mark.parametrize(
    ("stamp", "name", "said"),
    [
        ({"smoke": True}, "a smoke run", "trained for a few steps only"),
        (
            {"control": "shuffled_labels"},
            "a negative control",
            "trained as a negative control (shuffled_labels)",
        ),
    ],
)
def test_a_run_that_is_never_promoted_says_so(stamp: dict[str, Any], name: str, said: str) -> None:
    row = {"name": name, "observed": None, "limit": 0.0, "rule": "at most", "n": 0, "verdict": "fail"}
    assert _row(name, stamps=stamp) == row | {"reason": f"{name}: {said}"}


def test_a_verdict_about_nothing_names_nothing() -> None:
    verdict = gate.apply_policy(**sound_evidence() | {"reports": []})
    assert (verdict["candidate_sha256"], verdict["dataset_sha256"]) == ("", "")
