"""Ledger entries written by stages, each once: verdicts, answers, decisions, choices."""

from __future__ import annotations

import datetime
from functools import partial
from typing import Any

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef, LedgerEntry, Selected, Verdict
from llmops_tasks.errors import EvidenceError
from llmops_tasks.release import evidence as proof
from llmops_tasks.release import ledger
from llmops_tasks.release.evidence import VERDICT
from llmops_tasks.release.ledger import Head
from llmops_tasks.store import artifacts, digests, objects


def record_verdict(*, usecase: str, verdict: ArtifactRef) -> LedgerEntry:
    """Record the gate's verdict and the address of its evidence; the same verdict only once.

    Args:
        usecase: name or YAML path.
        verdict: from `apply_gate`; what is recorded is read from the store.

    Raises:
        EvidenceError: if it is about another release than the one registered under its version.

    Example:
        >>> record_verdict(usecase="triage", verdict=verdict)
    """
    found: Verdict = objects.parsed(verdict["uri"], artifacts.read(verdict, VERDICT))
    version = found.get("candidate_version", "")
    end = ledger.newest(usecase)
    last = next((e for e in end.walk("gate") if e["body"]["verdict"].get("candidate_version") == version), None)
    if last and digests.digest(last["body"]["verdict"]) == digests.digest(found):
        return last
    once = digests.digest(
        [digests.digest(found), last["seq"] if last else 0]
    )  # an earlier one may have become true again
    kept = {"verdict": found, "kept": {name: verdict[name] for name in ("uri", "sha256")}}

    def body(end: Head) -> dict[str, Any]:
        registered = proof.registered(end, version)
        if registered["sha256"] != found["candidate_sha256"]:
            raise EvidenceError(
                f"The verdict is about another release than version {version}. Run the evaluation again."
            )
        return kept

    return ledger.append(usecase=usecase, kind="gate", body=body, once=once)


def record_approval(*, usecase: str, version: str, verdict_sha256: str, response: dict[str, Any]) -> dict[str, Any]:
    """Record an approver's answer, or a timeout, bound to the verdict that was shown.

    Args:
        usecase: name or YAML path.
        version: what was asked about.
        verdict_sha256: of the verdict that was shown, hence of evidence, policy, dataset and champion.
        response: of Airflow's approval: `chosen_options`, `responded_by_user`, `responded_at`, `timedout`.

    Returns:
        The entry's body.

    Raises:
        EvidenceError: if the ledger has no such verdict about this version, or the user may not answer.

    Example:
        >>> answer = record_approval(usecase="triage", version="3", verdict_sha256=sha256, response=response)
    """
    user = response.get("responded_by_user") or {}
    timed_out = bool(response.get("timedout"))
    given = {
        "choice": proof.TIMED_OUT if timed_out else response["chosen_options"][0],
        "by": user.get("name") or user.get("id") or "none: timed out",
        "by_id": user.get("id"),
        "at": str(response.get("responded_at")),
        "version": version,
        "verdict_sha256": verdict_sha256,
    }
    rule = config.in_charge(usecase).approval

    def body(end: Head) -> dict[str, Any]:
        verdict = proof.judged(end, version, verdict_sha256)["verdict"]
        proof.check_person(end, rule, given)
        about = {"evidence_sha256": verdict["evidence_sha256"], "champion_version": verdict.get("champion_version")}
        return {**given, **about}

    return ledger.append(usecase=usecase, kind="approval", body=body, once=digests.digest(given))["body"]


def record_decisions(*, usecase: str, decisions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Record retraining decisions, positive or negative; returns them as recorded.

    If another run has decided to retrain within the cooldown, the decision is recorded as negative: of several
    concurrent runs, one retrains.

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
    """Record the chosen base model; the same choice on the same evidence only once.

    Example:
        >>> record_selection(usecase="triage", decision=decision)
    """
    once = digests.digest([decision["evidence_sha256"], decision["policy_sha256"]])
    return ledger.record_entry(usecase=usecase, kind="base_model_selection", body={"decision": decision}, once=once)


def find_retrainings(*, usecase: str, drifts: list[dict[str, Any]]) -> list[LedgerEntry]:
    """Find the earlier decisions to retrain whose cooldown may cover one of these days.

    Args:
        usecase: name or YAML path.
        drifts: drift results to decide on, each with its `date`.

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
