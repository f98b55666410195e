"""Registered releases and the champion, by the ledger; projected to MLflow.

The ledger's last promotion or rollback says who is champion; MLflow's versions and aliases are its projection and are
made again whenever they differ. Doing twice what was done changes nothing, and nothing here needs MLflow.
"""

from __future__ import annotations

import datetime
import logging
from typing import Any

from llmops_tasks import config, tracking
from llmops_tasks.contracts import ArtifactRef, LedgerEntry
from llmops_tasks.errors import InputError, ModelError, ReleaseError
from llmops_tasks.release import evaluations, ledger, logged_model, projection, witnesses
from llmops_tasks.release.evidence import EVIDENCE, VERDICT
from llmops_tasks.release.ledger import Head
from llmops_tasks.store import artifacts, objects

log = logging.getLogger(__name__)


def register_release(*, usecase: str, release: ArtifactRef, started_by: str | None = None) -> dict[str, Any]:
    """Register a release: the next version number in the ledger, and a version of the use case's MLflow model.

    In MLflow the version has the alias `challenger`, and `mlflow.pyfunc.load_model` opens it; the weights stay in the
    store. A retry completes what a killed process left undone.

    Args:
        usecase: name or YAML path.
        release: from `package_release`; its stamps are read from the store.
        started_by: the user who started the training; None: a schedule or an event.

    Returns:
        {version, release, run_id}; the same release keeps its version. `run_id` is None while MLflow is unreachable.

    Raises:
        IntegrityError: if the release is damaged; it is not registered then.

    Example:
        >>> candidate = register_release(usecase="triage", release=release)
    """
    artifacts.fetch(release)
    kept = artifacts.at(release["uri"])  # `meta` is in no digest: the stamps of a smoke run are not taken from a hand

    def body(end: Head) -> dict[str, Any]:
        newest = end.last("registration")
        version = str(int(newest["body"]["version"]) + 1 if newest else 1)
        return {"version": version, "release": kept, "started_by": started_by}

    entry = ledger.append(usecase=usecase, kind="registration", once=release["sha256"], body=body)
    shown, version = projection.project(usecase), entry["body"]["version"]
    return {"version": version, "release": kept, "run_id": shown["run_ids"].get(version) if shown else None}


def annotate_version(*, usecase: str, candidate: dict[str, Any], verdict: ArtifactRef) -> dict[str, str | None]:
    """Write metrics with their intervals, and the verdict, to the candidate's MLflow run, model and version.

    Args:
        usecase: name or YAML path.
        candidate: from `register_release` or `find_candidate`.
        verdict: from `apply_gate`.

    Example:
        >>> annotate_version(usecase="triage", candidate=candidate, verdict=verdict)
    """
    name, release = config.usecase_name(usecase), candidate["release"]
    found, evidence = (objects.parsed(verdict["uri"], artifacts.read(verdict, file)) for file in (VERDICT, EVIDENCE))
    run_id = evaluations.write(name, release, evidence, found)
    end = ledger.head(usecase=usecase)

    def show(api: Any) -> None:
        api.set_model_version_tag(name, candidate["version"], "gate", found["verdict"])
        logged_model.link_figures(api, api.get_model_version(name, candidate["version"]))
        witnesses.tell(api, name, end)

    tracking.attempt(f"the verdict about version {candidate['version']}", show)
    return {"run_id": run_id, "verdict": found["verdict"]}


# ---------------------------------------------------------------- who is champion


def find_champion(*, usecase: str, version: str | None = None, as_of: str | None = None) -> dict[str, Any]:
    """Find the champion: now, at a given time, or as promoted under a version number.

    Args:
        usecase: name or YAML path.
        version: a promoted version, in place of the champion.
        as_of: ISO 8601 with a UTC offset: the champion at that time, by the ledger's timestamps.

    Returns:
        {version, release, dataset, report, seq, head}; version is None before the first promotion. `head` is the
        newest ledger entry; keeping it makes the result a witness.

    Raises:
        ReleaseError: if that version was never promoted.
        InputError: if the time has no UTC offset, or is in the future.

    Example:
        >>> champion = find_champion(usecase="triage")
    """
    end = ledger.newest(usecase)
    entry = promotion_of(end, usecase, version) if version else _serving(end, _moment(as_of) if as_of else None)
    known = entry["body"] if entry else dict.fromkeys(("version", "release", "dataset", "report"))
    found = {name: known[name] for name in ("version", "release", "dataset", "report")}
    seen = {"seq": end.seq, "sha256": end.sha256}
    return found | {"seq": entry["seq"] if entry else 0, "head": seen}


def _moment(as_of: str) -> datetime.datetime:
    try:
        moment = datetime.datetime.fromisoformat(as_of)
    except ValueError:
        moment = datetime.datetime.max
    if moment.tzinfo is None or moment > datetime.datetime.now(datetime.UTC):
        raise InputError(f"'{as_of:.40}' is not a past time with a UTC offset. Allowed: 2026-03-30T06:00:00+02:00.")
    return moment


def _serving(end: Head, moment: datetime.datetime | None = None) -> LedgerEntry | None:
    """The promotion of the version that serves, or served at that moment."""
    changes = end.walk(ledger.CHANGE)
    if moment is None:
        change = next(changes, None)
    else:
        change = next((e for e in changes if datetime.datetime.fromisoformat(e["time"]) <= moment), None)
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
    """Find the weights that training starts from, by `finetune.start`: the base model, or a champion's release.

    Args:
        usecase: name or YAML path.
        base: the use case's base model; also used while there is no champion.

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
