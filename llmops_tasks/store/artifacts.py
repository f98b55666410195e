"""Artifacts: immutable folders with a manifest, addressed by everything they were made from.

`publish` makes an artifact once and returns its reference; `fetch` gives a verified local copy.
On a file system the whole folder appears by one rename; on S3 the files are uploaded under a name of their own, and
the manifest, which names it, is written last by a conditional PUT. Artifacts are never updated or deleted.
"""

from __future__ import annotations

import errno
import logging
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any, cast

from llmops_tasks.contracts import SCHEMA_VERSION, ArtifactRef
from llmops_tasks.errors import ConflictError, IntegrityError, StorageError
from llmops_tasks.store import attempts, cache, journal, objects
from llmops_tasks.store.attempts import MANIFEST as MANIFEST
from llmops_tasks.store.digests import canonical, digest, file_digest
from llmops_tasks.store.files import fsync_path, home, private_folder
from llmops_tasks.store.objects import is_s3, local_path, read_if_there, store_uri
from llmops_tasks.store.scratch import FULL as FULL
from llmops_tasks.store.scratch import scratch as scratch
from llmops_tasks.store.scratch import sweep

log = logging.getLogger(__name__)
ORDERED = ("dataset",)  # kinds of which the newest is asked for: their order is kept in a journal


def address(usecase: str, kind: str, key: str) -> str:
    """Where the artifact with this key is, or will be."""
    return f"{store_uri()}/{usecase}/{kind}/{key[:32]}"


def parent(ref: ArtifactRef) -> dict[str, str]:
    """How an artifact names one that it was made from, under `meta.parents`."""
    return {"kind": ref["kind"], "uri": ref["uri"], "sha256": ref["sha256"]}


def made_from(ref: ArtifactRef, kind: str) -> ArtifactRef:
    """The artifact of this kind that another one names as a parent, as the store has it.

    Raises:
        IntegrityError: if it names none, or that one is gone or has become another.
    """
    named = next((above for above in ref["meta"].get("parents", []) if above["kind"] == kind), None)
    found = at(named["uri"]) if named else None
    if named is None or found is None or found["sha256"] != named["sha256"]:
        raise IntegrityError(
            f"'{ref['uri']}' was made from a '{kind}' that is not in the store. Restore it from a backup."
        )
    return found


def at(uri: str) -> ArtifactRef | None:
    """The finished artifact at an address, or None."""
    manifest = _manifest_at(uri)
    return _ref(manifest) if manifest else None


def _manifest_at(uri: str) -> dict[str, Any] | None:
    data = read_if_there(f"{uri}/{MANIFEST}")
    return None if data is None else _formed(uri, objects.parsed(f"{uri}/{MANIFEST}", data))


def _formed(uri: str, found: Any) -> dict[str, Any]:
    """A manifest with all that is asked of one."""
    parts = {"files": dict, "meta": dict} | dict.fromkeys(("uri", "kind", "key", "sha256"), str) | {"rows": int}
    if not isinstance(found, dict) or not all(isinstance(found.get(name), kind) for name, kind in parts.items()):
        raise IntegrityError(f"'{uri}/{MANIFEST}' is not a manifest. Restore it, or make the artifact again.")
    return found


def newest(usecase: str, kind: str, sha256: str = "") -> ArtifactRef | None:
    """The artifact of a kind in `ORDERED` that was published last, or None. Order is a number, never a time.

    Args:
        usecase: whose.
        kind: one of `ORDERED`.
        sha256: what its digest begins with.
    """
    folder = _order(usecase, kind)
    for number in range(journal.last(folder), 0, -1):
        entry = read_if_there(where := journal.address(folder, number))
        manifest = _manifest_at(objects.parsed(where, entry)["uri"]) if entry else None
        found = manifest and manifest.get("number") == number and manifest["sha256"].startswith(sha256)
        if manifest and found:  # else it was begun and never finished, or removed since
            return _ref(manifest)
    return None


def _order(usecase: str, kind: str) -> str:
    return f"{store_uri()}/{usecase}/{kind}_order"


def publish(
    *, usecase: str, kind: str, inputs: dict[str, Any], build: Callable[[Path], dict[str, Any]], at: str | None = None
) -> ArtifactRef:
    """Make an artifact once: a finished one with the same inputs is returned, not made again.

    Args:
        usecase: whose artifact it is.
        kind: the folder under the use case.
        inputs: everything the content follows from; its digest is the address.
        build: fills the (private, empty) folder it is given; returns `rows` and a few figures.
        at: a fixed address instead, e.g. a partition; other inputs there fail closed.

    Raises:
        ConflictError: if `at` holds an artifact made from other inputs.
        StorageError: if the store cannot be written; nothing is left under the final name.
    """
    key = digest(inputs)
    uri = at or address(usecase, kind, key)
    if (done := _finished(uri, key)) is not None:
        log.info("%s %s is finished already: skipped", kind, key[:12])
        return done
    with scratch() as folder:
        meta = _built(build, folder, uri)
        manifest = _manifest(folder, uri, kind, key, meta)
        if kind in ORDERED:  # before it is finished: what is finished has its place in the order
            manifest["number"] = journal.push(_order(usecase, kind), canonical({"uri": uri}))
        (_publish_s3 if is_s3(uri) else _publish_files)(folder, manifest)
    if (done := _finished(uri, key)) is None:
        raise StorageError(f"'{uri}' was removed while it was published. Try again.")
    return done


def _built(build: Callable[[Path], dict[str, Any]], folder: Path, uri: str) -> dict[str, Any]:
    """A full disk is not the build's fault and may pass, so it is a StorageError."""
    try:
        return build(folder)
    except OSError as exc:
        if exc.errno not in FULL:
            raise
        raise StorageError(
            f"Cannot make '{uri}': {exc.strerror} at '{home()}'. Free space, or set LLMOPS_HOME."
        ) from exc


def _finished(uri: str, key: str) -> ArtifactRef | None:
    manifest = _manifest_at(uri)
    if manifest is None:
        return None
    if manifest["key"] != key:
        raise ConflictError(
            f"'{uri}' holds the result of other inputs ({manifest['key'][:12]}, now {key[:12]}). "
            "Published results are never overwritten: give the new one its own address, or remove the old by hand."
        )
    return _ref(manifest)


def _manifest(folder: Path, uri: str, kind: str, key: str, meta: dict[str, Any]) -> dict[str, Any]:
    files = {
        name: {"sha256": file_digest(folder / name), "bytes": (folder / name).stat().st_size}
        for name in _names(folder, uri)
    }
    rows = meta.pop("rows", 0)
    head = {"uri": uri, "kind": kind, "key": key, "sha256": _content_digest(files), "schema_version": SCHEMA_VERSION}
    return head | {"rows": rows, "meta": meta, "files": files}


def _names(folder: Path, uri: str) -> list[str]:
    """The paths of all files in a folder.

    Raises:
        IntegrityError: if there is anything but files and folders; a link would lead out of what was checked.
    """
    paths = sorted(folder.rglob("*"))
    for path in paths:
        if path.is_symlink() or not (path.is_file() or path.is_dir()):
            raise IntegrityError(
                f"'{uri}' has '{path.relative_to(folder)}', which is neither a file nor a folder. Only these can be published."
            )
    return [str(path.relative_to(folder)) for path in paths if path.is_file()]


def _content_digest(files: dict[str, Any]) -> str:
    return digest({name: entry["sha256"] for name, entry in files.items()})


def _ref(manifest: dict[str, Any]) -> ArtifactRef:
    return cast(ArtifactRef, {name: manifest[name] for name in ArtifactRef.__annotations__})


def _publish_files(folder: Path, manifest: dict[str, Any]) -> None:
    target = local_path(manifest["uri"])
    staged = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        private_folder(target.parent)
        sweep(target.parent.glob(".*.tmp"))
        (folder / MANIFEST).write_bytes(canonical(manifest))
        shutil.move(folder, staged)  # a rename when home and store share a file system
        for path in [*staged.rglob("*"), staged]:
            path.chmod(0o700 if path.is_dir() else 0o600)
            fsync_path(path)  # fsync works alike on files and folders
        if target.exists() and not (target / MANIFEST).exists():
            shutil.rmtree(target)  # no manifest: not an artifact
        staged.rename(target)
        fsync_path(target.parent)
    except OSError as exc:
        shutil.rmtree(staged, ignore_errors=True)
        if exc.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return  # another worker published first; the caller compares keys
        raise StorageError(
            f"Cannot publish '{manifest['uri']}': {exc.strerror}. Free space or fix the permissions."
        ) from exc


def _publish_s3(folder: Path, manifest: dict[str, Any]) -> None:
    uri = manifest["uri"]
    attempts.sweep(uri.rsplit("/", 1)[0])
    manifest["attempt"] = attempts.upload(folder, uri, list(manifest["files"]))
    try:
        objects.create(f"{uri}/{MANIFEST}", canonical(manifest))
    except ConflictError:
        log.info("another worker published %s first", manifest["key"][:12])
        attempts.discard(uri, manifest["attempt"])


# ---------------------------------------------------------------- reading


def fetch(ref: ArtifactRef) -> Path:
    """A local, verified copy of an artifact; `file://` artifacts are read in place.

    Raises:
        IntegrityError: if a file is absent or its bytes are not those of the manifest, or there is one too many.
    """
    return fetch_whole(ref)[0]


def fetch_whole(ref: ArtifactRef) -> tuple[Path, dict[str, Any]]:
    """`fetch`, and the manifest, which lies beside the files on a file system only."""
    folder, manifest = fetch_at(ref["uri"])
    if manifest["sha256"] != ref["sha256"]:
        raise IntegrityError(
            f"'{ref['uri']}' is {manifest['sha256'][:12]}, not {ref['sha256'][:12]} as its reference says."
        )
    return folder, manifest


def fetch_at(uri: str) -> tuple[Path, dict[str, Any]]:
    """A local copy of the artifact at an address, every file checked against the manifest; and the manifest."""
    manifest = _checked_manifest(uri)
    if is_s3(uri):
        pieces = {
            name: cache.Piece(_place(uri, manifest, name), entry["sha256"], entry["bytes"])
            for name, entry in manifest["files"].items()
        }
        return cache.local_copy(manifest["sha256"], pieces), manifest
    folder = local_path(uri)
    if extra := sorted({*_names(folder, uri)} - {*manifest["files"], MANIFEST}):
        raise IntegrityError(f"'{uri}' has {extra[:3]}, which its manifest does not name. Remove it.")
    for name, entry in manifest["files"].items():
        if not (folder / name).is_file() or file_digest(folder / name) != entry["sha256"]:
            raise IntegrityError(f"'{uri}/{name}' is damaged or absent. Restore it, or make the artifact again.")
    return folder, manifest


def _checked_manifest(uri: str) -> dict[str, Any]:
    manifest = _formed(uri, objects.read_json(f"{uri}/{MANIFEST}"))
    if any(not _is_inside(name) for name in manifest["files"]):
        raise IntegrityError(f"The manifest of '{uri}' names a file outside its folder. Nothing of it was read.")
    if _content_digest(manifest["files"]) != manifest["sha256"]:
        raise IntegrityError(f"The manifest of '{uri}' was changed. Restore it, or make the artifact again.")
    return manifest


def _is_inside(name: str) -> bool:
    """Whether a path stays in the folder it is relative to."""
    path = PurePosixPath(name)
    return bool(path.parts) and not path.is_absolute() and ".." not in path.parts and "\0" not in name


def _place(uri: str, manifest: dict[str, Any], name: str) -> str:
    """Where a file of an artifact is."""
    if not is_s3(uri):
        return f"{uri}/{name}"
    if not attempts.is_name(manifest.get("attempt")):
        raise IntegrityError(f"The manifest of '{uri}' names no attempt. Restore it, or make the artifact again.")
    return f"{uri}/{manifest['attempt']}/{name}"


def read(ref: ArtifactRef | str, name: str) -> bytes:
    """One small file of an artifact, checked; nothing else is brought here.

    Args:
        ref: the artifact, or its address.
        name: the file's path in it.

    Raises:
        IntegrityError: if it is absent, or its bytes are not those of the manifest.
    """
    uri = ref if isinstance(ref, str) else ref["uri"]
    manifest = _checked_manifest(uri)
    entry = manifest["files"].get(name)
    data = objects.read_bytes(_place(uri, manifest, name)) if entry else b""
    same = isinstance(ref, str) or manifest["sha256"] == ref["sha256"]
    if entry is None or digest(data) != entry["sha256"] or not same:
        raise IntegrityError(f"'{uri}/{name}' is damaged or absent. Restore it, or make the artifact again.")
    return data


def is_damaged(uri: str) -> bool:
    """Whether the artifact itself, read anew in the store and through no local copy, is not what it must be.

    Raises:
        StorageError: if the store cannot be read, which says nothing about what is in it.
    """
    try:
        manifest = _checked_manifest(uri)
        entries = [(_place(uri, manifest, name), entry["sha256"]) for name, entry in manifest["files"].items()]
    except IntegrityError:
        return True
    return any(not objects.exists(place) or objects.stream_digest(place) != sha256 for place, sha256 in entries)
