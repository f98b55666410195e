"""Which release serves: registered in MLflow, decided in the ledger.

The ledger's last promotion or rollback says who is champion; MLflow's aliases are its projection and are
set again whenever they differ. Doing twice what was done changes nothing.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from llmops_tasks import config, tracking
from llmops_tasks.contracts import ArtifactRef, Evidence, LedgerEntry, Verdict
from llmops_tasks.errors import EvidenceError, ModelError, ReleaseError
from llmops_tasks.release import ledger
from llmops_tasks.store import artifacts

log = logging.getLogger(__name__)


def register_release(*, usecase: str, release: ArtifactRef) -> dict[str, Any]:
    """Register a release as a version of the model named like the use case, with the alias `challenger`.

    The version's files in MLflow are the manifest and the card; the weights stay in the store.

    Returns:
        {version, release, run_id}; the same release keeps its version.
    """
    name, api = config.usecase_name(usecase), tracking.client()
    found = [
        v for v in api.search_model_versions(f"name = '{name}'") if v.tags.get("release_sha256") == release["sha256"]
    ]
    if found:
        return {"version": str(found[0].version), "release": release, "run_id": found[0].run_id}
    with (
        _small_files(release) as folder,
        tracking.run(usecase=name, name=f"release {release['sha256'][:8]}", key=release["key"]) as run,
    ):
        run.files(folder, "release")
        run.tags({"release_sha256": release["sha256"]})
    _ensure_model(api, name)
    tags = {
        "release_uri": release["uri"],
        "release_sha256": release["sha256"],
        "dataset_sha256": release["meta"]["dataset_sha256"],
        "control": release["meta"]["control"],
        "smoke": str(release["meta"]["smoke"]),
    }
    source = api.get_run(run.id).info.artifact_uri + "/release"
    version = api.create_model_version(name, source=source, run_id=run.id, tags=tags).version
    api.set_registered_model_alias(name, "challenger", version)
    return {"version": str(version), "release": release, "run_id": run.id}


def annotate_version(
    *, usecase: str, candidate: dict[str, Any], evidence: Evidence, verdict: Verdict
) -> dict[str, str]:
    """Write the figures with their intervals, and the verdict, to the candidate's MLflow run and version."""
    name, api = config.usecase_name(usecase), tracking.client()
    figures: dict[str, float] = {}
    for report in evidence["reports"]:
        for metric, found in report["metrics"].items():
            figures |= {f"{report['subject']}.{metric}": found["value"]}
            figures |= {f"{report['subject']}.{metric}.{end}": found[end] for end in ("low", "high")}
    run = tracking.Run(api, candidate["run_id"])
    run.metrics(figures)
    run.json("evaluation.json", {"evidence": evidence, "verdict": verdict})
    api.set_model_version_tag(name, candidate["version"], "gate", verdict["verdict"])
    return {"run_id": candidate["run_id"], "verdict": verdict["verdict"]}


@contextmanager
def _small_files(release: ArtifactRef) -> Iterator[Path]:
    """A folder with the release's manifest, card and settings."""
    source = artifacts.fetch(release)
    with artifacts.scratch() as out:
        for name in (artifacts.MANIFEST, "README.md", "release.json"):
            shutil.copyfile(source / name, out / name)
        yield out


def _ensure_model(api: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        api.create_registered_model(name)
    except MlflowException as exc:
        if exc.error_code != "RESOURCE_ALREADY_EXISTS":
            raise ReleaseError(f"MLflow refused to create the model '{name}' ({exc.error_code}).") from exc


# ---------------------------------------------------------------- who is champion


def find_champion(*, usecase: str, version: str | None = None) -> dict[str, Any]:
    """Who serves now, resolved once; or, with `version`, what was promoted under that number.

    Returns:
        {version, release, dataset, report, seq}; version is None before the first promotion.

    Raises:
        ReleaseError: if that version was never promoted.
    """
    chain = ledger.read_ledger(usecase=usecase)
    promotions = {entry["body"]["version"]: entry for entry in chain if entry["kind"] == "promotion"}
    wanted = version or ledger.current_version(chain)
    if wanted is None:
        return {"version": None, "release": None, "dataset": None, "report": None, "seq": 0}
    if wanted not in promotions:
        raise ReleaseError(f"Version '{wanted}' was never promoted. Promoted versions: {sorted(promotions)}.")
    body = promotions[wanted]["body"]
    return {name: body[name] for name in ("version", "release", "dataset", "report")} | {
        "seq": promotions[wanted]["seq"]
    }


def find_starting_point(*, usecase: str, base: ArtifactRef) -> ArtifactRef:
    """The weights that training starts from, as `finetune.start` says: the base model, or a champion's release.

    Args:
        usecase: name or YAML path.
        base: the use case's base model; also where there is no champion yet.

    Raises:
        ModelError: if the champion is an ensemble, which is not one set of weights.
    """
    start = config.load(usecase).finetune.start
    if start == "base":
        return base
    whose = start.partition(":")[2] or usecase
    found: ArtifactRef | None = find_champion(usecase=whose)["release"]
    if found is None:
        log.info("'%s' has no champion yet: training starts from the base model", config.usecase_name(whose))
        return base
    if (members := found["meta"].get("members", 1)) > 1:
        raise ModelError(
            f"The champion of '{config.usecase_name(whose)}' is an ensemble of {members} members: training starts from "
            "one set of weights. Set finetune.start to 'base', or promote a release with one member first."
        )
    return found


def add_champions(*, usecase: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For answered days: {day, predictions, champion}, the champion being the version that answered last."""
    return [
        {
            "day": event["day"],
            "predictions": event["predictions"],
            "champion": find_champion(usecase=usecase, version=event["predictions"]["release_version"]),
        }
        for event in events
    ]


def promote(
    *,
    usecase: str,
    candidate: dict[str, Any],
    verdict: Verdict,
    approval: dict[str, Any],
    evidence: Evidence,
    dataset: ArtifactRef,
) -> dict[str, Any]:
    """Make an approved candidate the champion: ledger entry first, then MLflow's aliases.

    Args:
        usecase: name or YAML path.
        candidate: from `register`.
        verdict: from the gate; must be `pass` and about these bytes.
        approval: {choice, by, at, evidence_sha256, champion_version}; must be about this evidence.
        evidence: what was judged; the candidate's report is kept as what drift is measured against.
        dataset: what it was evaluated on.

    Raises:
        EvidenceError: if verdict or approval are missing, negative, or about something else.
        ReleaseError: if another version was promoted after the verdict.
    """
    _check_evidence(candidate, verdict, approval)
    body = {
        "version": candidate["version"],
        "previous": approval["champion_version"],
        "release": candidate["release"],
        "dataset": dataset,
        "report": evidence["reports"][0],
        "verdict_evidence_sha256": verdict["evidence_sha256"],
        "approved_by": approval["by"],
    }
    once = f"promote {candidate['version']}"
    check = partial(_check_champion, approval["champion_version"])
    ledger.append(usecase=usecase, kind="promotion", body=body, once=once, check=check)
    now = _project(usecase)
    if now["version"] != candidate["version"]:
        raise ReleaseError(
            f"Version {candidate['version']} was promoted before, and version {now['version']} serves since. "
            f"To return to it, start the rollback with version {candidate['version']}."
        )
    return now


def _check_champion(expected: str | None, chain: list[LedgerEntry]) -> None:
    """Refuse if somebody else was promoted since the approval."""
    if ledger.current_version(chain) != expected:
        raise ReleaseError(
            "Another version was promoted since the verdict. Run the evaluation again, against the new champion."
        )


def _check_evidence(candidate: dict[str, Any], verdict: Verdict, approval: dict[str, Any]) -> None:
    release = candidate["release"]
    if verdict["verdict"] != "pass":
        raise EvidenceError(
            f"The gate said '{verdict['verdict']}' about version {candidate['version']}; only 'pass' is promoted."
        )
    if verdict["candidate_sha256"] != release["sha256"] or verdict.get("candidate_version") != candidate["version"]:
        raise EvidenceError(
            f"The verdict is about other bytes than version {candidate['version']}. Run the evaluation again."
        )
    if approval.get("choice") != "Approve" or approval.get("evidence_sha256") != verdict["evidence_sha256"]:
        raise EvidenceError(f"Version {candidate['version']} has no approval of this evidence. Ask an approver.")
    if release["meta"]["smoke"] or release["meta"]["control"] != "none":
        raise EvidenceError(f"Version {candidate['version']} is a smoke or control run and can never be promoted.")


def rollback(*, usecase: str, reason: str, by: str, version: str | None = None) -> dict[str, Any]:
    """Return to the version that served before the current one, or to a given one that was promoted once.

    Rolling back twice changes nothing: a second call without `version` right after the first is a no-op.

    Raises:
        ReleaseError: if there is nothing to return to.
    """
    chain = ledger.read_ledger(usecase=usecase)
    changes = [entry for entry in chain if entry["kind"] in ("promotion", "rollback")]
    if not changes:
        raise ReleaseError("Nothing was promoted yet, so there is nothing to roll back.")
    last = changes[-1]
    target = version or (last["body"]["version"] if last["kind"] == "rollback" else last["body"]["previous"])
    if target is None:
        raise ReleaseError(f"Version {last['body']['version']} is the first champion; there is none to return to.")
    find_champion(usecase=usecase, version=target)  # raises if it was never promoted
    if target != last["body"]["version"]:
        body = {"version": target, "previous": last["body"]["version"], "reason": reason, "by": by}
        check = partial(_check_champion, last["body"]["version"])
        once = f"after {last['seq']} to {target}"
        ledger.append(usecase=usecase, kind="rollback", body=body, once=once, check=check)
    return _project(usecase)


def _project(usecase: str) -> dict[str, Any]:
    """Let MLflow's aliases say what the ledger says; returns the champion."""
    from mlflow.exceptions import MlflowException

    name, current = config.usecase_name(usecase), find_champion(usecase=usecase)
    try:
        api = tracking.client()
        api.set_registered_model_alias(name, "champion", current["version"])
        api.set_model_version_tag(name, current["version"], "ledger_seq", str(current["seq"]))
    except MlflowException as exc:
        raise ReleaseError(
            f"The ledger says version {current['version']}, but MLflow refused the alias. Run this again."
        ) from exc
    return current
