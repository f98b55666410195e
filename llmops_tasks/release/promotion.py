"""An approved candidate becomes the champion, or an earlier champion returns: the ledger's entry first, MLflow's aliases after.

Doing twice what was done changes nothing, and nothing here needs MLflow.
"""

from __future__ import annotations

from typing import Any

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef, Evidence, LedgerEntry
from llmops_tasks.errors import ReleaseError
from llmops_tasks.release import evidence as proof
from llmops_tasks.release import ledger, projection, registry
from llmops_tasks.release.ledger import Head


def promote(*, usecase: str, version: str) -> dict[str, Any]:
    """Make an approved candidate the champion: ledger entry first, then MLflow's aliases.

    Registration, verdict and answer are read from the ledger, the evidence from the store by the digests recorded
    there.

    Args:
        usecase: name or YAML path.
        version: of the candidate.

    Raises:
        EvidenceError: if verdict or approval are missing, negative, or about something else.
        ReleaseError: if another version was promoted after the verdict, or a newer candidate superseded this one.

    Example:
        >>> promote(usecase="triage", version="3")
    """
    rules, end = config.in_charge(usecase), ledger.newest(usecase)
    once = registry.once_of(version)
    if ledger.find_entry(usecase=usecase, kind="promotion", once=once) is None:
        found = proof.check(end, rules, version)
        evidence, dataset = proof.read(found["kept"], found["release"])

        def body(end: Head) -> dict[str, Any]:
            if proof.check(end, rules, version) != found:
                raise ReleaseError(
                    f"The ledger's last verdict or answer about version {version} changed just now. Try again."
                )
            proof.check_champion(end, found["verdict"].get("champion_version"))
            return _made(version, found, evidence, dataset)

        ledger.append(usecase=usecase, kind="promotion", once=once, body=body)
    projection.project(usecase)
    now = registry.find_champion(usecase=usecase)
    if now["version"] != version:
        raise ReleaseError(
            f"Version {version} was promoted before, and version {now['version']} serves since. "
            f"To return to it, start the rollback with version {version}."
        )
    return now


def _made(version: str, found: dict[str, Any], evidence: Evidence, dataset: ArtifactRef) -> dict[str, Any]:
    """The body of the entry; the candidate's report is what drift is measured against."""
    return {
        "version": version,
        "previous": found["verdict"].get("champion_version"),
        "release": found["release"],
        "dataset": dataset,
        "report": evidence["reports"][0],
        "verdict_evidence_sha256": found["verdict"]["evidence_sha256"],
        "approved_by": found["approved_by"],
    }


def rollback(
    *, usecase: str, reason: str, by: str, version: str | None = None, once: str | None = None
) -> dict[str, Any]:
    """Return to the previous champion, or to a given version that was promoted before.

    Rolling back twice changes nothing: a second call without `version` right after the first is a no-op. MLflow is not
    required: if it is unreachable, its alias follows later.

    Args:
        usecase: name or YAML path.
        reason: recorded in the ledger.
        by: likewise.
        version: where to return to; None: the previous champion.
        once: identifies the request: repeated, it changes nothing, even if another version was promoted since.

    Raises:
        ReleaseError: if there is nothing to return to.

    Example:
        >>> rollback(usecase="triage", reason="worse on the ward", by="Dr. Who")
    """
    last = ledger.newest(usecase).last(ledger.CHANGE)
    if last is None:
        raise ReleaseError("Nothing was promoted yet, so there is nothing to roll back.")
    target = version or (last["body"]["version"] if last["kind"] == "rollback" else last["body"]["previous"])
    if target is None:
        raise ReleaseError(f"Version {last['body']['version']} is the first champion; there is none to return to.")
    if target != last["body"]["version"]:
        _roll_back(usecase, last, target, {"reason": reason, "by": by}, once)
    projection.project(usecase)
    return registry.find_champion(usecase=usecase)


def _roll_back(usecase: str, last: LedgerEntry, target: str, why: dict[str, Any], once: str | None) -> None:
    promotion = registry.promotion_of(ledger.newest(usecase), usecase, target)  # raises if it was never promoted
    pinned = {"seq": promotion["seq"], "sha256": promotion["sha256"]}
    made = {"version": target, "previous": last["body"]["version"], "promotion": pinned, **why}

    def body(end: Head) -> dict[str, Any]:
        proof.check_champion(end, last["body"]["version"], since="the rollback began")
        return made

    once = once or f"after {last['seq']} to {target}"
    ledger.append(usecase=usecase, kind="rollback", once=once, body=body)
