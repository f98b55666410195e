"""Retraining: for a reason, once, and not again before the cooldown is over."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tasks.monitoring.retrain import decide_for_days, decide_retraining, first_retraining


def _drift(date: str, alarm: bool = True, sha: str = "a") -> dict[str, Any]:
    verdict = "alarm" if alarm else "quiet"
    return {
        "date": date,
        "verdict": verdict,
        "alarm": alarm,
        "drifting": ["age"] if alarm else [],
        "report": {"sha256": sha},
        "predictions_sha256": sha,
    }


def test_drift_asks_for_retraining_with_its_reason() -> None:
    decision = decide_retraining(usecase="triage", drift=_drift("2026-03-31"), history=[])
    assert (decision["retrain"], decision["date"], decision["drift_sha256"]) == (True, "2026-03-31", "a")
    assert decision["reasons"] == ["drift in ['age']"]


def test_no_drift_asks_for_none() -> None:
    decision = decide_retraining(usecase="triage", drift=_drift("2026-03-31", alarm=False), history=[])
    assert not decision["retrain"]
    assert decision["reasons"] == ["no drift: 0 of 1 signals"]


def test_a_day_with_too_few_rows_decides_nothing_and_says_so() -> None:
    small = _drift("2026-03-31", alarm=False) | {"verdict": "insufficient"}
    decision = decide_retraining(usecase="triage", drift=small, history=[])
    assert not decision["retrain"] and "too few records" in decision["reasons"][0]


@pytest.mark.parametrize(
    ("date", "expected"),
    [("2026-03-31", False), ("2026-04-06", False), ("2026-04-07", True), ("2026-05-01", True), ("2026-03-30", True)],
)
def test_the_cooldown_is_seven_days_after_the_last_retraining(date: str, expected: bool) -> None:
    earlier = decide_retraining(usecase="triage", drift=_drift("2026-03-31", sha="first"), history=[])
    decision = decide_retraining(usecase="triage", drift=_drift(date, sha="second"), history=[earlier])
    assert decision["retrain"] is expected
    assert expected or "retraining was decided on 2026-03-31; cooldown 7 days" in decision["reasons"][0]


def test_a_refused_retraining_starts_no_cooldown() -> None:
    no = decide_retraining(usecase="triage", drift=_drift("2026-03-30", alarm=False), history=[])
    assert decide_retraining(usecase="triage", drift=_drift("2026-03-31"), history=[no])["retrain"]


def test_a_rerun_decides_alike_though_its_decision_is_in_the_history() -> None:
    first = decide_retraining(usecase="triage", drift=_drift("2026-03-31"), history=[])
    assert decide_retraining(usecase="triage", drift=_drift("2026-03-31"), history=[first]) == first


def test_every_day_and_every_report_has_a_decision_of_its_own() -> None:
    days = [_drift("2026-03-31"), _drift("2026-04-01"), _drift("2026-03-31", sha="b")]
    assert len({decide_retraining(usecase="triage", drift=day, history=[])["once"] for day in days}) == 3


def test_the_first_yes_starts_retraining() -> None:
    no = decide_retraining(usecase="triage", drift=_drift("2026-03-30", alarm=False), history=[])
    yes = decide_retraining(usecase="triage", drift=_drift("2026-03-31"), history=[])
    assert first_retraining(decisions=[no, yes]) == {"sha256": yes["once"], "date": "2026-03-31"}
    assert first_retraining(decisions=[no]) is None
    assert first_retraining(decisions=[]) is None


def test_a_yes_counts_for_the_days_judged_together_with_it_whatever_their_order() -> None:
    days = [_drift(date, sha=date) for date in ("2026-04-08", "2026-04-01", "2026-03-31")]
    decisions = decide_for_days(usecase="triage", drifts=days, history=[])
    assert [(d["date"], d["retrain"]) for d in decisions] == [
        ("2026-03-31", True),
        ("2026-04-01", False),
        ("2026-04-08", True),
    ]
    ledger: Any = [{"kind": "retrain", "body": decision} for decision in decisions]
    assert decide_for_days(usecase="triage", drifts=days, history=ledger) == decisions
    later = decide_for_days(usecase="triage", drifts=[_drift("2026-04-10", sha="x")], history=ledger)
    assert not later[0]["retrain"]
