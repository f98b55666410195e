"""MLflow's projection of the ledger: a version for every registration, two aliases, and the newest entry.

A version is backed by a LoggedModel (`logged_model`). Those of an earlier layout, with manifest and card alone, stay as
they are: MLflow gives no number twice. To have them loaded too, remove the registered model and rebuild.

Everything here can be made again from the ledger and the store, so nothing is lost when MLflow is unreachable: the
next projection adds what is missing. No decision is based on MLflow.
"""

from __future__ import annotations

import fcntl
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmops_tasks import tracking
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import IntegrityError, ReleaseError, StorageError
from llmops_tasks.release import ledger, logged_model, witnesses
from llmops_tasks.release.ledger import Head
from llmops_tasks.release.logged_model import PROMPT, RELEASE
from llmops_tasks.store import artifacts, digests, files

log = logging.getLogger(__name__)
LONGEST = 5000  # characters of a description in MLflow


def project(usecase: str) -> dict[str, Any] | None:
    """Let MLflow say what the ledger says, if it can be reached; if not, the next projection does.

    Returns:
        {versions, run_ids}: all that MLflow has, and each one's run; None if it is unreachable or refuses.
    """
    end = ledger.newest(usecase)
    try:
        shown = tracking.attempt(f"showing the ledger of '{end.name}'", lambda api: show(api, end))
    except (ReleaseError, StorageError) as exc:
        log.error("%s", exc)
        shown = None
    if shown is None:
        log.warning(
            "MLflow's view of '%s' is out of date; the ledger is valid, and the next change synchronises it", end.name
        )
    return shown


def show(api: Any, end: Head) -> dict[str, Any]:
    """`project` with a client, of a ledger as it was seen.

    Raises:
        ReleaseError: if MLflow's versions are not those of this ledger.
        StorageError: if the store is unreachable.
    """
    if end.entry is None:
        return {"versions": [], "run_ids": {}}
    with _alone(end.name):
        there = _versions(api, end)
        if newest := end.last("registration"):
            _point(api, end.name, "challenger", newest["body"]["version"])
        if change := end.last(ledger.CHANGE):
            version, promotion = change["body"]["version"], change["body"].get("promotion", change)
            _point(api, end.name, "champion", version)
            api.set_model_version_tag(end.name, version, "ledger_seq", str(promotion["seq"]))
        witnesses.tell(api, end.name, {"seq": end.seq, "sha256": end.sha256})
    ids = {str(number): there[number].run_id for number in sorted(there)}
    return {"versions": list(ids), "run_ids": ids}


def _point(api: Any, name: str, alias: str, version: str) -> None:
    """Let an alias lead to a version, and to its prompt."""
    api.set_registered_model_alias(name, alias, version)
    logged_model.link(api, api.get_model_version(name, version), alias)


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """One process of this machine at a time: of two that make the same version, MLflow would number both."""
    files.private_folder(folder := files.home() / "locks")
    with (folder / f"projection-{name}").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _versions(api: Any, end: Head) -> dict[int, Any]:
    """All versions by number; those that MLflow lacks are made, in order, so that it gives them the ledger's numbers."""
    _ensure_model(api, end.name)
    there = {int(found.version): found for found in api.search_model_versions(f"name = '{end.name}'")}
    for body in reversed([entry["body"] for entry in _unknown(end, there)]):
        if int(body["version"]) in there:
            api.set_model_version_tag(end.name, body["version"], RELEASE, body["release"]["sha256"])
        else:
            there[int(body["version"])] = _create(api, end.name, body)
    return there


def _unknown(end: Head, there: dict[int, Any]) -> Iterator[Any]:
    """Registrations that MLflow lacks, the newest first, up to the first that it has whole."""
    for entry in end.walk("registration"):
        found = there.get(int(entry["body"]["version"]))
        tagged = found.tags.get(RELEASE) if found else None
        if tagged == entry["body"]["release"]["sha256"]:
            return
        if tagged:
            raise ReleaseError(
                f"MLflow's version {entry['body']['version']} of '{end.name}' is release {tagged[:12]}, the ledger's is "
                f"{entry['body']['release']['sha256'][:12]}: they do not match. Set MLFLOW_TRACKING_URI to "
                "the server of this store, or remove the registered model and run 'release.rebuild_registry'."
            )
        yield entry


def _create(api: Any, name: str, body: dict[str, Any]) -> Any:
    run = _run(api, name, body["release"])
    made = api.create_model_version(name, run_id=run.info.run_id, **_backing(api, name, body, run))
    if str(made.version) != body["version"]:
        api.set_model_version_tag(name, made.version, RELEASE, "")  # not assigned yet: see _unknown
        raise ReleaseError(
            f"MLflow numbered a version of '{name}' {made.version}, the ledger {body['version']}. If two machines "
            "registered at once, do it again; else MLflow's registered model is older than this ledger: remove it, and "
            "run 'release.rebuild_registry'."
        )
    return made


def _backing(api: Any, name: str, body: dict[str, Any], run: Any) -> dict[str, Any]:
    """What a version consists of: the release's model, prompt and card."""
    release, tags = body["release"], _tags(body["release"])
    try:
        if artifacts.at(release["uri"]) is None:
            raise IntegrityError(f"'{release['uri']}' is gone. Restore it, to have a version that can be loaded.")
        card = artifacts.read(release, "README.md").decode()[:LONGEST]
        model, prompt = logged_model.ensure(api, name, body, run, tags | {logged_model.NOTE: card})
    except IntegrityError as exc:  # the version is shown even so; a store that is unreachable will be back
        log.warning("no model for MLflow: %s", exc)
        return {"source": f"{run.info.artifact_uri}/release", "tags": tags}
    found = {"source": f"{logged_model.SCHEME}{model}", "model_id": model, "tags": tags | {PROMPT: prompt}}
    return found | {"description": card}


def _tags(release: ArtifactRef) -> dict[str, str]:
    return {
        RELEASE: release["sha256"],
        "release_uri": release["uri"],
        "dataset_sha256": release["meta"]["dataset_sha256"],
        "control": release["meta"]["control"],
        "smoke": str(release["meta"]["smoke"]),
    }


def _run(api: Any, name: str, release: ArtifactRef) -> Any:
    """The run with the release's manifest, card and settings; the weights stay in the store."""
    with tracking.run(usecase=name, name=f"release {release['sha256'][:8]}", key=release["key"]) as run:
        try:
            with _small_files(release) as folder:
                run.files(folder, "release")
        except StorageError as exc:  # the version is shown even if its release was removed or damaged since
            log.warning("no card for MLflow: %s", exc)
        for parent in release["meta"].get("parents", []):
            if parent["kind"] == "dataset":
                run.dataset(name=name, sha256=parent["sha256"], uri=parent["uri"], context="training")
        run.tags({RELEASE: release["sha256"]})
    return api.get_run(run.id)


@contextmanager
def _small_files(release: ArtifactRef) -> Iterator[Path]:
    source, manifest = artifacts.fetch_whole(release)
    with artifacts.scratch() as out:
        (out / artifacts.MANIFEST).write_bytes(digests.canonical(manifest))
        for name in ("README.md", "release.json"):
            shutil.copyfile(source / name, out / name)
        yield out


def _ensure_model(api: Any, name: str) -> None:
    if not api.search_registered_models(f"name = '{name}'"):
        api.create_registered_model(name)
