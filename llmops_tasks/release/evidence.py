"""What a promotion asks for. A verdict and an approval count only as the ledger has them: what is handed in may be made up."""

from __future__ import annotations

from typing import Any

from llmops_tasks.contracts import ArtifactRef, Evidence, Verdict
from llmops_tasks.errors import EvidenceError, ReleaseError
from llmops_tasks.release import ledger
from llmops_tasks.release.ledger import Head
from llmops_tasks.store import digests


def check(
    candidate: dict[str, Any], verdict: Verdict, approval: dict[str, Any], evidence: Evidence, dataset: ArtifactRef
) -> None:
    """Refuse what does not fit together, before the ledger is asked.

    Raises:
        EvidenceError: if verdict or approval are missing, negative, or about something else.
    """
    version, release = candidate["version"], candidate["release"]
    if verdict["verdict"] != "pass":
        raise EvidenceError(f"The gate said '{verdict['verdict']}' about version {version}; only 'pass' is promoted.")
    if verdict["candidate_sha256"] != release["sha256"] or verdict.get("candidate_version") != version:
        raise EvidenceError(f"The verdict is about other bytes than version {version}. Run the evaluation again.")
    if approval.get("choice") != "Approve" or approval.get("verdict_sha256") != digests.digest(verdict):
        raise EvidenceError(f"Version {version} has no approval of this evidence. Ask an approver.")
    if release["meta"]["smoke"] or release["meta"]["control"] != "none":
        raise EvidenceError(f"Version {version} is a smoke or control run and can never be promoted.")
    if dataset["sha256"] != verdict["dataset_sha256"]:
        raise EvidenceError(
            f"The verdict is about dataset {verdict['dataset_sha256'][:12]}, not {dataset['sha256'][:12]}. "
            "Hand in what the candidate was evaluated on, or run the evaluation again."
        )
    if not evidence or set(evidence) != {"reports", "comparisons"}:
        raise EvidenceError(
            "The evidence must have reports and comparisons, and nothing else. Hand in what the gate was given."
        )
    if digests.evidence_digest(**evidence, run=release["meta"]) != verdict["evidence_sha256"]:
        raise EvidenceError(f"Version {version}'s verdict is about other evidence. Hand in what the gate was given.")
    report = evidence["reports"][0]
    if (report["subject_sha256"], report["dataset_sha256"]) != (release["sha256"], dataset["sha256"]):
        raise EvidenceError(f"The first report is about other bytes or rows than version {version}'s verdict.")


def check_recorded(end: Head, candidate: dict[str, Any], verdict: Verdict, approval: dict[str, Any]) -> None:
    """Find registration, verdict and approval in the ledger; each must be the newest of its kind about this version.

    Raises:
        EvidenceError: if one is not there, says something else, or a later one took its place.
    """
    version = candidate["version"]
    registered = _newest(end, "registration", lambda body: body["version"] == version)
    if registered is None or registered["release"] != candidate["release"]:
        raise EvidenceError(f"The ledger knows no version {version} with these bytes. Register the release first.")
    judged = _newest(end, "gate", lambda body: body["verdict"].get("candidate_version") == version)
    if judged is None or digests.digest(judged["verdict"]) != digests.digest(verdict):
        raise EvidenceError(
            f"The ledger's last verdict about version {version} is {'another' if judged else 'none'}. "
            "Only a recorded verdict counts: run the evaluation, which records it."
        )
    answered = _newest(end, "approval", lambda body: body["version"] == version)
    if answered is None or digests.digest(answered) != digests.digest(approval):
        raise EvidenceError(
            f"The ledger's last answer about version {version} is {'another' if answered else 'none'}. "
            "Only a recorded answer counts: ask an approver in the evaluation."
        )


def check_champion(end: Head, expected: str | None, since: str = "the verdict") -> None:
    """Refuse if somebody else was promoted since.

    Raises:
        ReleaseError: in that case.
    """
    change = end.last(ledger.CHANGE)
    serves = change["body"]["version"] if change else None
    if serves != expected:
        raise ReleaseError(
            f"Another version was promoted since {since}: {serves} serves, not {expected}. "
            "Look at what serves now, and do it again: evaluate against it, or roll back from it."
        )


def _newest(end: Head, kind: str, about: Any) -> dict[str, Any] | None:
    return next((entry["body"] for entry in end.walk(kind) if about(entry["body"])), None)
