"""Releases of a few bytes with all that a promotion asks for: what registry and ledger look at, and no model."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from llmops_tasks import config, tracking
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.prompts import interface
from llmops_tasks.release import evidence, ledger, promotion, records, registry
from llmops_tasks.store import artifacts, digests
from tests.support import tiny

USECASE = "triage"
CHECK = {
    "name": "accuracy", "observed": 0.4, "rule": "at least", "limit": 0.3, "n": 300, "verdict": "pass", "reason": ""
}  # fmt: skip
REPORT = {
    "subject": "candidate",
    "n": 300,
    "metrics": {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6, "n": 300, "groups": 250}},
}


def dataset(number: int = 1) -> ArtifactRef:
    """A dataset version, told from others by its number."""

    def build(out: Path) -> dict[str, Any]:
        (out / "data.parquet").write_text(f"rows {number}")
        return {"rows": 3}

    return artifacts.publish(usecase=USECASE, kind="dataset", inputs={"number": number}, build=build)


def released(number: int, data: ArtifactRef | None = None, **stamps: Any) -> ArtifactRef:
    """A release, told from others by its number."""
    data = data or dataset()

    def build(out: Path) -> dict[str, Any]:
        for name in ("README.md", "model.safetensors"):
            (out / name).write_text(f"{name} {number}")
        interface.of_usecase(config.load(USECASE)).write(out)
        made_from = {"dataset_sha256": data["sha256"], "parents": [artifacts.parent(data)]}
        return {**made_from, "smoke": False, "control": "none", "mlflow_run": "r", **stamps}

    inputs = {"number": number, "data": data["sha256"], **stamps}
    return artifacts.publish(usecase=USECASE, kind="release", inputs=inputs, build=build)


def registered(
    number: int, started_by: str | None = None, data: ArtifactRef | None = None, **stamps: Any
) -> dict[str, Any]:
    """That release as a candidate."""
    release = released(number, data, **stamps)
    return registry.register_release(usecase=USECASE, release=release, started_by=started_by)


def verdict_on(candidate: dict[str, Any], *others: dict[str, Any], said: str = "pass", **changes: Any) -> ArtifactRef:
    """A verdict with its evidence in the store, beside today's champion.

    Args:
        candidate: that was judged.
        others: reports that stood before its own.
        said: by the gate.
        changes: of the verdict.
    """
    reports = [*others, reported(candidate)]
    verdict: Any = {
        "verdict": said,
        "checks": [CHECK],
        "candidate_version": candidate["version"],
        "champion_version": registry.find_champion(usecase=USECASE)["version"],
        "candidate_sha256": candidate["release"]["sha256"],
        "dataset_sha256": dataset()["sha256"],
        "policy_sha256": evidence.policy_of(config.load(USECASE)),
        "evidence_sha256": digests.evidence_digest(reports, [], candidate["release"]["meta"]),
    } | changes

    def build(out: Path) -> dict[str, Any]:
        (out / "verdict.json").write_bytes(digests.canonical(verdict))
        (out / "evidence.json").write_bytes(digests.canonical({"reports": reports, "comparisons": []}))
        parents = [artifacts.parent(candidate["release"]), artifacts.parent(dataset())]
        return {"verdict": said, "parents": parents}

    inputs = {"verdict": verdict, "reports": reports}
    return artifacts.publish(usecase=USECASE, kind="verdict", inputs=inputs, build=build)


def judged(candidate: dict[str, Any], *others: dict[str, Any], said: str = "pass", **changes: Any) -> dict[str, Any]:
    """What the gate said about this candidate, as the ledger has it; a passed one, unless told otherwise."""
    ref = verdict_on(candidate, *others, said=said, **changes)
    return dict(records.record_verdict(usecase=USECASE, verdict=ref)["body"]["verdict"])


def answered(
    candidate: dict[str, Any], verdict: dict[str, Any], choice: str = "Approve", at: str = "noon", by: str = "Dr. Who"
) -> dict[str, Any]:
    """A person's answer, recorded."""
    response = {"chosen_options": [choice], "responded_by_user": {"id": by, "name": by}, "responded_at": at}
    about = {"version": candidate["version"], "verdict_sha256": digests.digest(verdict)}
    return records.record_approval(usecase=USECASE, **about, response=response)


def approved(candidate: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    """A passed gate and its approval, both in the ledger; returns the verdict."""
    verdict = judged(candidate, *others)
    answered(candidate, verdict)
    return verdict


def reported(candidate: dict[str, Any]) -> dict[str, Any]:
    """The candidate's report."""
    return copy.deepcopy(REPORT) | {
        "subject_sha256": candidate["release"]["sha256"],
        "dataset_sha256": dataset()["sha256"],
    }


def promoted(candidate: dict[str, Any]) -> dict[str, Any]:
    """The champion after the candidate was judged, approved and promoted."""
    approved(candidate)
    return promoted_as_it_is(candidate)


def promoted_as_it_is(candidate: dict[str, Any]) -> dict[str, Any]:
    """The champion after a promotion on what the ledger holds."""
    return promotion.promote(usecase=USECASE, version=candidate["version"])


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


def approval_rules(folder: Path, patch: Any, **rules: Any) -> None:
    """The shipped use case with these rules about approval."""
    raw = yaml.safe_load(tiny.TRIAGE.read_text(encoding="utf-8")) | {"approval": rules}
    (folder / "triage.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    patch.setenv("LLMOPS_USECASES", str(folder))
