"""What a promotion asks for, as ledger and store have it: nothing that is handed in counts."""

from __future__ import annotations

from typing import Any, cast

from llmops_tasks.config import UseCase
from llmops_tasks.config.usecase import Approval
from llmops_tasks.contracts import ArtifactRef, Evidence
from llmops_tasks.errors import EvidenceError, ReleaseError
from llmops_tasks.release import ledger
from llmops_tasks.release.ledger import Head
from llmops_tasks.store import artifacts, digests, objects

VERDICT, EVIDENCE = "verdict.json", "evidence.json"  # of an artifact of kind "verdict"
TIMED_OUT = "Timed out"  # what is recorded as the choice where nobody made one


def registered(end: Head, version: str) -> ArtifactRef:
    """The release that is registered under a version.

    Raises:
        EvidenceError: if there is none.
    """
    found = newest(end, "registration", lambda body: body["version"] == version)
    if found is None:
        raise EvidenceError(f"The ledger has no version '{version}'. Register the release first.")
    return cast(ArtifactRef, found["release"])


def judged(end: Head, version: str, verdict_sha256: str | None = None) -> dict[str, Any]:
    """The newest verdict about a version, {verdict, kept}; or the one with this digest.

    Raises:
        EvidenceError: if there is none.
    """
    found = newest(
        end,
        "gate",
        lambda body: (
            body["verdict"].get("candidate_version") == version
            and verdict_sha256 in (None, digests.digest(body["verdict"]))
        ),
    )
    if found is None or "kept" not in found:  # earlier versions kept no evidence
        which = "such verdict" if verdict_sha256 else "verdict"
        raise EvidenceError(
            f"The ledger has no {which} about version '{version}'. Run the evaluation, which records it."
        )
    return found


def answer(end: Head, version: str, verdict_sha256: str) -> dict[str, Any] | None:
    """The newest answer to the question about this verdict on a version."""
    asked = (version, verdict_sha256)
    return newest(end, "approval", lambda body: (body["version"], body["verdict_sha256"]) == asked)


def approvers(end: Head, version: str, verdict_sha256: str) -> list[str]:
    """Who approved this verdict since anybody answered otherwise, each once; the last first."""
    found: dict[str, str] = {}
    for body in (entry["body"] for entry in end.walk("approval")):
        if (body["version"], body["verdict_sha256"]) != (version, verdict_sha256):
            continue
        if body["choice"] != "Approve":
            break
        found.setdefault(str(body.get("by_id") or body["by"]), body["by"])
    return list(found.values())


def newest(end: Head, kind: str, about: Any) -> dict[str, Any] | None:
    """The body of the newest entry of a kind that a test holds for."""
    return next((entry["body"] for entry in end.walk(kind) if about(entry["body"])), None)


def newest_verdicts(end: Head) -> dict[str, dict[str, Any]]:
    """The newest verdict about every version that has one."""
    found: dict[str, dict[str, Any]] = {}
    for entry in end.walk("gate"):
        verdict = entry["body"]["verdict"]
        found.setdefault(str(verdict.get("candidate_version")), verdict)
    return found


def newest_answers(end: Head) -> dict[tuple[str, str], str]:
    """The newest answer to every question, by version and digest of the verdict."""
    found: dict[tuple[str, str], str] = {}
    for entry in end.walk("approval"):
        body = entry["body"]
        found.setdefault((body["version"], body["verdict_sha256"]), body["choice"])
    return found


def standing(verdicts: dict[str, dict[str, Any]], answers: dict[tuple[str, str], str]) -> set[str]:
    """Versions that passed by their newest verdict, and were not rejected on it: they supersede earlier ones."""
    passed = {version: digests.digest(verdict) for version, verdict in verdicts.items() if verdict["verdict"] == "pass"}
    return {version for version, sha256 in passed.items() if answers.get((version, sha256)) != "Reject"}


def superseded_by(end: Head, version: str) -> str | None:
    """The newest later version that passed the gate and was not rejected, if there is one."""
    later = {other for other in standing(newest_verdicts(end), newest_answers(end)) if int(other) > int(version)}
    return max(later, key=int, default=None)


def policy_of(case: UseCase) -> str:
    """By what a verdict names the gate's policy."""
    return digests.digest(case.gate.model_dump(mode="json"))


def check(end: Head, rules: UseCase, version: str) -> dict[str, Any]:
    """Refuse a promotion that registration, verdict and answer, each the newest about this version, do not carry.

    Returns:
        {release, verdict, kept, approved_by}, as the ledger has them.

    Raises:
        EvidenceError: if one is missing, negative, or about something else.
        ReleaseError: if a newer candidate took its place, by the use case's policy.
    """
    release, gate, rule = registered(end, version), judged(end, version), rules.approval
    verdict = gate["verdict"]
    given = answer(end, version, digests.digest(verdict))
    if release["meta"]["smoke"] or release["meta"]["control"] != "none":
        raise EvidenceError(f"Version {version} is a smoke run or a negative control and can never be promoted.")
    if verdict["verdict"] != "pass":
        raise EvidenceError(f"The gate said '{verdict['verdict']}' about version {version}; only 'pass' is promoted.")
    if verdict["candidate_sha256"] != release["sha256"]:
        raise EvidenceError(f"The verdict is about another release than version {version}. Run the evaluation again.")
    if verdict["policy_sha256"] != policy_of(rules):
        raise EvidenceError(
            f"The gate of the use case was changed since version {version} was judged. Run the evaluation again."
        )
    agreed = approvers(end, version, digests.digest(verdict))
    if len(agreed) < rule.people:
        last = f"the last answer is '{given['choice']}'" if given else "no answer yet"
        raise EvidenceError(
            f"Version {version} has no approval of this evidence by {rule.people} person(s): {last}. Ask an approver."
        )
    if rule.newer_candidate == "supersedes" and (later := superseded_by(end, version)):
        raise ReleaseError(
            f"Version {version} is superseded: version {later} has passed the gate since. Decide on that one, "
            "or set approval.newer_candidate to 'keeps_open'."
        )
    return {"release": release, **gate, "approved_by": ", ".join(reversed(agreed))}


def check_champion(end: Head, expected: str | None, since: str = "the verdict") -> None:
    """Refuse if another version was promoted since.

    Raises:
        ReleaseError: in that case.
    """
    change = end.last(ledger.CHANGE)
    serves = change["body"]["version"] if change else None
    if serves != expected:
        raise ReleaseError(
            f"Another version was promoted since {since}: {serves} serves, not {expected}. "
            "Check what serves now and repeat: evaluate against it, or roll back from it."
        )


def check_person(end: Head, rule: Approval, given: dict[str, Any]) -> None:
    """Refuse the answer of a user who may not give it. A timeout is no user's answer.

    Raises:
        EvidenceError: if the policy assigns other users; or, for an approval, if that user started the training or
            approved already, and the policy requires another one.
    """
    person, version = {given["by"], given["by_id"]} - {None}, given["version"]
    if rule.assigned and given["choice"] != TIMED_OUT and not person & set(rule.assigned):
        raise EvidenceError(
            f"{given['by']} is not assigned to answer about version {version} (approval.assigned). "
            f"Ask one of {', '.join(rule.assigned)}."
        )
    if given["choice"] != "Approve":
        return
    found = newest(end, "registration", lambda body: body["version"] == version) or {}
    if rule.four_eyes and found.get("started_by") in person:
        raise EvidenceError(
            f"{given['by']} started the training of version {version} and may not approve it (approval.four_eyes). "
            "Ask another approver."
        )
    if rule.people > 1 and person & set(approvers(end, version, given["verdict_sha256"])):
        raise EvidenceError(
            f"{given['by']} has approved version {version} already; {rule.people} different people are needed "
            "(approval.people). Ask another approver."
        )


def read(kept: dict[str, Any], release: ArtifactRef) -> tuple[Evidence, ArtifactRef]:
    """The evidence that a recorded verdict was reached on, and the dataset, from the store.

    Raises:
        IntegrityError: if they are gone, or other bytes.
        EvidenceError: if the first report is not about this release.
    """
    ref = artifacts.at(kept["uri"])
    if ref is None or ref["sha256"] != kept["sha256"]:
        raise EvidenceError(
            f"The evidence at '{kept['uri']}' is not that of the verdict. Restore it, or run the evaluation again."
        )
    verdict, evidence = (objects.parsed(ref["uri"], artifacts.read(ref, name)) for name in (VERDICT, EVIDENCE))
    dataset = artifacts.made_from(ref, "dataset")
    report = evidence["reports"][0]
    if (report["subject_sha256"], report["dataset_sha256"]) != (release["sha256"], dataset["sha256"]):
        raise EvidenceError(
            "The first report of the evidence is about another release or dataset than the verdict. Run the evaluation again."
        )
    if digests.evidence_digest(**evidence, run=release["meta"]) != verdict["evidence_sha256"]:
        raise EvidenceError("The verdict does not match the evidence stored with it. Run the evaluation again.")
    return evidence, dataset
