"""Who decided what, when, and why: an append-only hash chain, one small object an entry.

An entry is written by a conditional PUT at the next sequence number, which makes it a compare-and-set: of
two writers one wins, the other reads on and tries again. Order is the sequence, never the clock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, cast

from llmops_tasks import config
from llmops_tasks.contracts import LedgerEntry, Selected, Verdict
from llmops_tasks.errors import ConflictError, InputError, IntegrityError
from llmops_tasks.store import digests, objects

log = logging.getLogger(__name__)
KINDS = ("gate", "approval", "promotion", "rollback", "retrain", "base_model_selection")
GENESIS = "0" * 64
_TRIES = 50


def record_entry(*, usecase: str, kind: str, body: dict[str, Any], once: str) -> LedgerEntry:
    """Append an entry, unless one with the same `once` is there: a retried task adds nothing.

    Args:
        usecase: whose ledger.
        kind: one of KINDS.
        body: what was decided, on what evidence; digests and numbers, no record text.
        once: identifies the decision.

    Raises:
        InputError: if the kind is unknown.
        IntegrityError: if the chain is damaged; nothing is appended to a damaged chain.
    """
    return append(usecase=usecase, kind=kind, body=body, once=once, check=lambda chain: None)


def append(
    *, usecase: str, kind: str, body: dict[str, Any], once: str, check: Callable[[list[LedgerEntry]], None]
) -> LedgerEntry:
    """`record`, with a condition: `check` sees the very chain that the entry would follow, and may refuse by raising.

    As the entry is written at the next number or not at all, nothing can come between the check and the entry.
    """
    if kind not in KINDS:
        raise InputError(f"Ledger kind '{kind}' is unknown. Allowed: {list(KINDS)}.")
    name = config.usecase_name(usecase)
    for _ in range(_TRIES):
        chain = read_ledger(usecase=usecase)
        for entry in chain:
            if entry["kind"] == kind and entry["body"].get("once") == once:
                return entry
        check(chain)
        entry = _next(chain, kind, {**body, "once": once})
        try:
            objects.create(_uri(name, entry["seq"]), digests.canonical(entry))
        except ConflictError:
            continue
        log.info("ledger %d: %s", entry["seq"], kind)
        return entry
    raise ConflictError(f"The ledger of '{name}' was busy for {_TRIES} tries; nothing was written. Try again.")


def record_verdict(*, usecase: str, verdict: Verdict) -> LedgerEntry:
    """Record what the gate said; the same verdict on the same evidence once."""
    once = digests.digest([verdict["evidence_sha256"], verdict["policy_sha256"], verdict.get("candidate_version")])
    return record_entry(usecase=usecase, kind="gate", body={"verdict": verdict}, once=once)


def record_approval(
    *, usecase: str, candidate: dict[str, Any], verdict: Verdict, champion: dict[str, Any], response: dict[str, Any]
) -> dict[str, Any]:
    """Record a person's answer, bound to the evidence and the champion it was given for.

    Args:
        usecase: name or YAML path.
        candidate: what was asked about.
        verdict: what was shown.
        champion: who served then.
        response: of Airflow's approval: `chosen_options`, `responded_by_user`, `responded_at`.
    """
    user = response.get("responded_by_user") or {}
    body = {
        "choice": response["chosen_options"][0],
        "by": user.get("name") or user.get("id") or "nobody: time ran out",
        "at": str(response.get("responded_at")),
        "version": candidate["version"],
        "evidence_sha256": verdict["evidence_sha256"],
        "champion_version": champion["version"],
    }
    return record_entry(usecase=usecase, kind="approval", body=body, once=digests.digest(body))["body"]


def record_decisions(*, usecase: str, decisions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Record retraining decisions, yes or no; returns them."""
    for decision in decisions:
        record_entry(usecase=usecase, kind="retrain", body=decision, once=decision["once"])
    return decisions


def record_selection(*, usecase: str, decision: Selected) -> LedgerEntry:
    """Record which base model was chosen; the same choice on the same evidence once."""
    once = digests.digest([decision["evidence_sha256"], decision["policy_sha256"]])
    return record_entry(usecase=usecase, kind="base_model_selection", body={"decision": decision}, once=once)


def _next(chain: list[LedgerEntry], kind: str, body: dict[str, Any]) -> LedgerEntry:
    seq, previous = (chain[-1]["seq"] + 1, chain[-1]["sha256"]) if chain else (1, GENESIS)
    time = datetime.now(UTC).isoformat(timespec="seconds")
    head = {"seq": seq, "previous_sha256": previous, "kind": kind, "time": time, "body": body}
    return cast(LedgerEntry, {**head, "sha256": digests.digest(head)})


def _uri(name: str, seq: int) -> str:
    return f"{objects.store_uri()}/{name}/ledger/{seq:08d}.json"


def read_ledger(*, usecase: str, kind: str | None = None) -> list[LedgerEntry]:
    """All entries in order, the chain verified.

    Raises:
        IntegrityError: naming the first entry that is damaged, missing or out of order.
    """
    name = config.usecase_name(usecase)
    chain: list[LedgerEntry] = []
    for expected, uri in enumerate(objects.find(f"{objects.store_uri()}/{name}/ledger/*.json"), start=1):
        entry = cast(LedgerEntry, objects.read_json(uri))
        _check(entry, expected, chain[-1]["sha256"] if chain else GENESIS)
        chain.append(entry)
    return [entry for entry in chain if kind in (None, entry["kind"])]


def _check(entry: LedgerEntry, expected: int, previous: str) -> None:
    head = {name: value for name, value in entry.items() if name != "sha256"}
    if entry.get("seq") != expected or entry.get("previous_sha256") != previous:
        raise IntegrityError(
            f"Ledger entry {expected} is missing, moved or reordered. Restore the ledger from its copy."
        )
    if digests.digest(head) != entry.get("sha256"):
        raise IntegrityError(
            f"Ledger entry {expected} was changed after it was written. Restore the ledger from its copy."
        )


def current_version(chain: list[LedgerEntry]) -> str | None:
    """Who is champion after these entries."""
    changes = [entry for entry in chain if entry["kind"] in ("promotion", "rollback")]
    return str(changes[-1]["body"]["version"]) if changes else None


def verify_ledger(*, usecase: str) -> dict[str, Any]:
    """Check the whole chain; returns how long it is and its head's digest."""
    chain = read_ledger(usecase=usecase)
    return {"entries": len(chain), "head_sha256": chain[-1]["sha256"] if chain else GENESIS}
