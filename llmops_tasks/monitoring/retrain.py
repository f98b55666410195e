"""Whether to retrain: a reasoned decision, made of drift, what happened lately, and nothing else. Pure."""

from __future__ import annotations

import datetime
from typing import Any

from llmops_tasks import config
from llmops_tasks.contracts import LedgerEntry
from llmops_tasks.storage import digest


def decide(*, usecase: str, drift: dict[str, Any], history: list[LedgerEntry]) -> dict[str, Any]:
    """Decide for one day.

    Args:
        usecase: name or YAML path.
        drift: from `drift.measure`.
        history: the ledger's entries of the kind "retrain".

    Returns:
        {retrain, date, reasons, drift_sha256, once}. Days are compared with days, never with the clock, so
        a rerun decides alike.
    """
    settings = config.load(usecase).monitoring
    date, once = drift["date"], digest(["retrain", drift["date"], drift["report"]["sha256"]])
    earlier = [entry["body"]["date"] for entry in history if entry["body"]["retrain"] and entry["body"]["once"] != once]
    recent = [day for day in earlier if 0 <= _days(day, date) < settings.cooldown_days]
    if not drift["alarm"]:
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
        "drift_sha256": drift["report"]["sha256"],
        "once": once,
    }


def wanted(*, decisions: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first decision that says yes, as the event that starts retraining; None if none does."""
    yes = [decision for decision in decisions if decision["retrain"]]
    return {"sha256": yes[0]["once"], "date": yes[0]["date"]} if yes else None


def _days(earlier: str, later: str) -> int:
    return (datetime.date.fromisoformat(later) - datetime.date.fromisoformat(earlier)).days
