"""What stages write into the ledger, each once: verdicts, answers, decisions, choices; and which decisions they read."""

from __future__ import annotations

import datetime
from functools import partial
from typing import Any

from llmops_tasks import config
from llmops_tasks.contracts import LedgerEntry, Selected, Verdict
from llmops_tasks.release import ledger
from llmops_tasks.store import digests


def record_verdict(*, usecase: str, verdict: Verdict) -> LedgerEntry:
    """Record what the gate said; the same verdict on the same evidence once.

    Example:
        >>> record_verdict(usecase="triage", verdict=verdict)
    """
    once = digests.digest([verdict["evidence_sha256"], verdict["policy_sha256"], verdict.get("candidate_version")])
    return ledger.record_entry(usecase=usecase, kind="gate", body={"verdict": verdict}, once=once)


def record_approval(
    *, usecase: str, candidate: dict[str, Any], verdict: Verdict, champion: dict[str, Any], response: dict[str, Any]
) -> dict[str, Any]:
    """Record a person's answer, bound to the verdict (hence to evidence, policy and dataset) and the champion.

    Args:
        usecase: name or YAML path.
        candidate: what was asked about.
        verdict: what was shown.
        champion: who served then.
        response: of Airflow's approval: `chosen_options`, `responded_by_user`, `responded_at`.

    Returns:
        The entry's body, as `promote` takes it.

    Example:
        >>> approval = record_approval(usecase="triage", candidate=candidate, verdict=verdict, champion=champion, response=response)
    """
    user = response.get("responded_by_user") or {}
    body = {
        "choice": response["chosen_options"][0],
        "by": user.get("name") or user.get("id") or "nobody: time ran out",
        "at": str(response.get("responded_at")),
        "version": candidate["version"],
        "evidence_sha256": verdict["evidence_sha256"],
        "verdict_sha256": digests.digest(verdict),
        "champion_version": champion["version"],
    }
    return ledger.record_entry(usecase=usecase, kind="approval", body=body, once=digests.digest(body))["body"]


def record_decisions(*, usecase: str, decisions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Record retraining decisions, yes or no; returns them as they were recorded.

    A yes that another run has come before, for a day within the cooldown, is recorded as a no: of several runs at once
    one retrains.

    Example:
        >>> record_decisions(usecase="triage", decisions=[decision])
    """
    cooldown = config.load(usecase).monitoring.cooldown_days
    return [
        ledger.append(usecase=usecase, kind="retrain", once=one["once"], body=partial(_held_back, one, cooldown))[
            "body"
        ]
        for one in decisions
    ]


def _held_back(decision: dict[str, Any], cooldown: int, end: ledger.Head) -> dict[str, Any]:
    """The decision as it may stand at this end of the ledger."""
    others = [entry["body"] for entry in end.walk(ledger.RETRAINING)] if decision["retrain"] else []
    near = [other["date"] for other in others if _days_between(other["date"], decision["date"]) < cooldown]
    if not near:
        return decision
    reason = f"retraining is decided on for {max(near)} already; cooldown {cooldown} days"
    return {**decision, "retrain": False, "reasons": [*decision.get("reasons", []), reason]}


def _days_between(one: str, two: str) -> int:
    return abs((datetime.date.fromisoformat(one) - datetime.date.fromisoformat(two)).days)


def record_selection(*, usecase: str, decision: Selected) -> LedgerEntry:
    """Record which base model was chosen; the same choice on the same evidence once.

    Example:
        >>> record_selection(usecase="triage", decision=decision)
    """
    once = digests.digest([decision["evidence_sha256"], decision["policy_sha256"]])
    return ledger.record_entry(usecase=usecase, kind="base_model_selection", body={"decision": decision}, once=once)


def find_retrainings(*, usecase: str, drifts: list[dict[str, Any]]) -> list[LedgerEntry]:
    """The decisions to retrain that can still hold back one of these days; the rest of the history stays where it is.

    Args:
        usecase: name or YAML path.
        drifts: of days that are to be decided, each with its `date`.

    Example:
        >>> find_retrainings(usecase="triage", drifts=[drift])
    """
    if not drifts:
        return []
    cooldown = config.load(usecase).monitoring.cooldown_days
    first, last = (pick(str(drift["date"]) for drift in drifts) for pick in (min, max))
    since = (datetime.date.fromisoformat(first) - datetime.timedelta(days=cooldown)).isoformat()
    found = ledger.newest(usecase).walk(ledger.RETRAINING)
    return [entry for entry in found if since <= str(entry["body"]["date"]) <= last][::-1]
