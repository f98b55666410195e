"""Which releases there are and which one serves, by the ledger; shown in MLflow.

The ledger's last promotion or rollback says who is champion; MLflow's versions and aliases are its projection and are
made again whenever they differ. Doing twice what was done changes nothing, and nothing here needs MLflow.
"""

from __future__ import annotations

import logging
from typing import Any

from llmops_tasks import config, tracking
from llmops_tasks.contracts import ArtifactRef, Evidence, LedgerEntry, Verdict
from llmops_tasks.errors import ModelError, ReleaseError
from llmops_tasks.release import evaluations, ledger, logged_model, projection, witnesses
from llmops_tasks.release.ledger import Head
from llmops_tasks.store import artifacts

log = logging.getLogger(__name__)


def register_release(*, usecase: str, release: ArtifactRef) -> dict[str, Any]:
    """Give a release its version: the next number in the ledger, and a version of the model named like the use case.

    In MLflow the version has the alias `challenger`, and `mlflow.pyfunc.load_model` opens it; the weights stay in the
    store. What a killed process did not get to there, the retry does.

    Returns:
        {version, release, run_id}; the same release keeps its version. `run_id` is None while MLflow is out of reach.

    Raises:
        IntegrityError: if the release is damaged; it gets no number then.

    Example:
        >>> candidate = register_release(usecase="triage", release=release)
    """
    artifacts.fetch(release)

    def body(end: Head) -> dict[str, Any]:
        newest = end.last("registration")
        return {"version": str(int(newest["body"]["version"]) + 1 if newest else 1), "release": release}

    entry = ledger.append(usecase=usecase, kind="registration", once=release["sha256"], body=body)
    shown, version = projection.project(usecase), entry["body"]["version"]
    return {"version": version, "release": release, "run_id": shown["run_ids"].get(version) if shown else None}


def annotate_version(
    *, usecase: str, candidate: dict[str, Any], evidence: Evidence, verdict: Verdict
) -> dict[str, str | None]:
    """Write the figures with their intervals, and the verdict, to the candidate's MLflow run, model and version.

    Example:
        >>> annotate_version(usecase="triage", candidate=candidate, evidence=evidence, verdict=verdict)
    """
    name, release = config.usecase_name(usecase), candidate["release"]
    evaluations.write(name, release, evidence, verdict)
    end = ledger.head(usecase=usecase)

    def show(api: Any) -> None:
        api.set_model_version_tag(name, candidate["version"], "gate", verdict["verdict"])
        logged_model.link_figures(api, api.get_model_version(name, candidate["version"]))
        witnesses.tell(api, name, end)

    tracking.attempt(f"the verdict about version {candidate['version']}", show)
    return {"run_id": candidate["run_id"], "verdict": verdict["verdict"]}


# ---------------------------------------------------------------- who is champion


def find_champion(*, usecase: str, version: str | None = None) -> dict[str, Any]:
    """Who serves now, resolved once; or, with `version`, what was promoted under that number.

    Returns:
        {version, release, dataset, report, seq, head}; version is None before the first promotion. `head` is where the
        ledger ended: who keeps it is a witness of that.

    Raises:
        ReleaseError: if that version was never promoted.

    Example:
        >>> champion = find_champion(usecase="triage")
    """
    return _champion(ledger.newest(usecase), usecase, version)


def _champion(end: Head, usecase: str, version: str | None = None) -> dict[str, Any]:
    entry = promotion_of(end, usecase, version) if version else _serving(end)
    known = entry["body"] if entry else dict.fromkeys(("version", "release", "dataset", "report"))
    found = {name: known[name] for name in ("version", "release", "dataset", "report")}
    seen = {"seq": end.seq, "sha256": end.sha256}
    return found | {"seq": entry["seq"] if entry else 0, "head": seen}


def _serving(end: Head) -> LedgerEntry | None:
    """The promotion of the version that serves."""
    change = end.last(ledger.CHANGE)
    if change is None or change["kind"] == "promotion":
        return change
    return ledger.entry_at(end, change["body"]["promotion"])


def promotion_of(end: Head, usecase: str, version: str) -> LedgerEntry:
    """The entry by which a version was promoted.

    Raises:
        ReleaseError: if it never was.
    """
    entry = ledger.find_entry(usecase=usecase, kind="promotion", once=once_of(version))
    if entry is None:
        promoted = sorted(entry["body"]["version"] for entry in end.walk("promotion"))
        raise ReleaseError(f"Version '{version}' was never promoted. Promoted versions: {promoted}.")
    return entry


def once_of(version: str) -> str:
    """What makes a promotion the same one."""
    return f"promote {version}"


def find_starting_point(*, usecase: str, base: ArtifactRef) -> ArtifactRef:
    """The weights that training starts from, as `finetune.start` says: the base model, or a champion's release.

    Args:
        usecase: name or YAML path.
        base: the use case's base model; also where there is no champion yet.

    Raises:
        ModelError: if the champion is an ensemble, which is not one set of weights.

    Example:
        >>> find_starting_point(usecase="triage", base=base)
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
    """For answered days: {day, predictions, champion}, the champion being the version that answered last.

    Example:
        >>> add_champions(usecase="triage", events=events)
    """
    return [
        {
            "day": event["day"],
            "predictions": event["predictions"],
            "champion": find_champion(usecase=usecase, version=event["predictions"]["release_version"]),
        }
        for event in events
    ]
