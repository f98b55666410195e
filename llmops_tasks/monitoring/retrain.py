"""Whether to retrain: a reasoned decision, made of drift, what happened lately, and nothing else. Pure."""

from __future__ import annotations

import datetime
from typing import Any

from llmops_tasks import config
from llmops_tasks.contracts import LedgerEntry
from llmops_tasks.store.digests import digest


def decide_retraining(*, usecase: str, drift: dict[str, Any], history: list[dict[str, Any]]) -> dict[str, Any]:
    """Decide on retraining for one partition.

    Args:
        usecase: name or YAML path.
        drift: from `drift.measure`.
        history: earlier decisions, as this function returned them.

    Returns:
        {retrain, date, reasons, alarm, drift_sha256, predictions_sha256, once}. Dates are compared with dates, never with the clock, so
        a rerun decides the same.

    Example:
        >>> decide_retraining(usecase="triage", drift=drift, history=history)
    """
    settings = config.load(usecase).monitoring
    date, once = drift["date"], digest(["retrain", drift["date"], drift["predictions_sha256"]])
    earlier = [past["date"] for past in history if past["retrain"] and past["once"] != once]
    recent = [day for day in earlier if 0 <= _days(day, date) < settings.cooldown_days]
    if drift["verdict"] == "insufficient":
        retrain, reason = False, "too few records to judge drift; the day is judged once more have arrived"
    elif not drift["alarm"]:
        retrain, reason = False, f"no drift: {len(drift['drifting'])} of {settings.min_signals} signals"
    elif recent:
        retrain, reason = (
            False,
            f"drift in {drift['drifting']}, but retraining was decided on {max(recent)}; cooldown {settings.cooldown_days} days",
        )
    else:
        retrain, reason = True, f"drift in {drift['drifting']}"
    return {
        "retrain": retrain,
        "date": date,
        "reasons": [reason],
        "alarm": drift["alarm"],
        "drift_sha256": drift["report"]["sha256"],
        "predictions_sha256": drift["predictions_sha256"],
        "once": once,
    }


def decide_for_days(*, usecase: str, drifts: list[dict[str, Any]], history: list[LedgerEntry]) -> list[dict[str, Any]]:
    """Decide for several partitions, earliest first; a decision to retrain starts the cooldown of the later ones.

    Example:
        >>> decide_for_days(usecase="triage", drifts=[drift], history=history)
    """
    decisions: list[dict[str, Any]] = []
    for drift in sorted(drifts, key=lambda drift: str(drift["date"])):
        known = [*(entry["body"] for entry in history), *decisions]
        decisions.append(decide_retraining(usecase=usecase, drift=drift, history=known))
    return decisions


def first_retraining(*, decisions: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first decision to retrain, as the event that starts it; None if there is none.

    Example:
        >>> first_retraining(decisions=[decision])
    """
    yes = [decision for decision in decisions if decision["retrain"]]
    return {"sha256": yes[0]["once"], "date": yes[0]["date"]} if yes else None


def _days(earlier: str, later: str) -> int:
    return (datetime.date.fromisoformat(later) - datetime.date.fromisoformat(earlier)).days
