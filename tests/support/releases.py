"""Releases of a few bytes with all that a promotion asks for: what registry and ledger look at, and no model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from llmops_tasks import config, tracking
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.prompts import interface
from llmops_tasks.release import ledger, promotion, records, registry
from llmops_tasks.store import artifacts, digests

USECASE = "triage"
DATASET = {"uri": "file:///data", "sha256": "d" * 64}
CHECK = {
    "name": "accuracy", "observed": 0.4, "rule": "at least", "limit": 0.3, "n": 300, "verdict": "pass", "reason": ""
}  # fmt: skip
REPORT = {
    "subject": "candidate",
    "n": 300,
    "metrics": {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 300, "groups": 250}},
}


def released(number: int, **stamps: Any) -> ArtifactRef:
    """A release, told from others by its number."""

    def build(out: Path) -> dict[str, Any]:
        for name in ("README.md", "model.safetensors"):
            (out / name).write_text(f"{name} {number}")
        interface.of_usecase(config.load(USECASE)).write(out)
        parents = [{"kind": "dataset", **DATASET}]
        made = {"dataset_sha256": DATASET["sha256"], "smoke": False, "control": "none", "mlflow_run": "r"}
        return {**made, "parents": parents, **stamps}

    return artifacts.publish(usecase=USECASE, kind="release", inputs={"number": number, **stamps}, build=build)


def registered(number: int, **stamps: Any) -> dict[str, Any]:
    """That release as a candidate."""
    return registry.register_release(usecase=USECASE, release=released(number, **stamps))


def judged(candidate: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    """A passed gate and its approval, both about this candidate and today's champion, and both in the ledger.

    Args:
        candidate: that was judged.
        others: reports that stood before its own.
    """
    reports = [*others, reported(candidate)]
    verdict: Any = {
        "verdict": "pass",
        "checks": [CHECK],
        "candidate_version": candidate["version"],
        "candidate_sha256": candidate["release"]["sha256"],
        "dataset_sha256": DATASET["sha256"],
        "policy_sha256": "p" * 64,
        "evidence_sha256": digests.evidence_digest(reports, [], candidate["release"]["meta"]),
    }
    records.record_verdict(usecase=USECASE, verdict=verdict)
    approval, evidence = answered(candidate, verdict), {"reports": reports, "comparisons": []}
    return {"verdict": verdict, "approval": approval, "evidence": evidence, "dataset": DATASET}


def answered(candidate: dict[str, Any], verdict: Any, choice: str = "Approve", at: str = "noon") -> dict[str, Any]:
    """A person's answer, recorded."""
    response = {"chosen_options": [choice], "responded_by_user": {"name": "Dr. Who"}, "responded_at": at}
    now = registry.find_champion(usecase=USECASE)
    given: dict[str, Any] = {"candidate": candidate, "verdict": verdict, "champion": now, "response": response}
    return records.record_approval(usecase=USECASE, **given)


def reported(candidate: dict[str, Any]) -> dict[str, Any]:
    """The candidate's report."""
    return copy.deepcopy(REPORT) | {
        "subject_sha256": candidate["release"]["sha256"],
        "dataset_sha256": DATASET["sha256"],
    }


def promoted(candidate: dict[str, Any], evidence: dict[str, Any] | None = None) -> dict[str, Any]:
    """The champion after the candidate's promotion."""
    return promotion.promote(usecase=USECASE, candidate=candidate, **(evidence or judged(candidate)))


def rolled_back(**more: Any) -> dict[str, Any]:
    """The champion after a rollback."""
    return promotion.rollback(usecase=USECASE, reason="worse on the ward", by="Dr. Who", **more)


def changes() -> list[tuple[str, str]]:
    """Promotions and rollbacks in the ledger, with their versions."""
    chain = ledger.read_ledger(usecase=USECASE)
    return [(e["kind"], e["body"]["version"]) for e in chain if e["kind"] in ("promotion", "rollback")]


def champion_alias() -> str:
    """The version that MLflow shows as the champion."""
    return str(tracking.client().get_model_version_by_alias("triage", "champion").version)
