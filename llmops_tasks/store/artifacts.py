"""Artifacts: immutable folders with a manifest, addressed by everything they were made from.

`publish` makes an artifact once and returns its reference; `fetch` gives a verified local copy.
On a file system the whole folder appears by one rename; on S3 the manifest is written last, by a
conditional PUT. What this module does not do: update or delete.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from llmops_tasks.contracts import SCHEMA_VERSION, ArtifactRef
from llmops_tasks.errors import ConflictError, IntegrityError, StorageError
from llmops_tasks.store import objects
from llmops_tasks.store.digests import canonical, digest, file_digest
from llmops_tasks.store.objects import (
    create,
    download_file,
    exists,
    find,
    fsync_path,
    home,
    is_s3,
    local_path,
    read_json,
    remove_folder,
    store_uri,
    upload_file,
)

log = logging.getLogger(__name__)
STALE = 24 * 3600  # seconds after which what a killed process left is removed
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a disk says that is full, for this user or this file
MANIFEST = "_manifest.json"  # readers of Parquet folders pass over names with an underscore


def address(usecase: str, kind: str, key: str) -> str:
    """Where the artifact with this key is, or will be."""
    return f"{store_uri()}/{usecase}/{kind}/{key[:32]}"


def parent(ref: ArtifactRef) -> dict[str, str]:
    """How an artifact names one that it was made from, under `meta.parents`."""
    return {"kind": ref["kind"], "uri": ref["uri"], "sha256": ref["sha256"]}


def at(uri: str) -> ArtifactRef | None:
    """The finished artifact at an address, or None."""
    manifest = f"{uri}/{MANIFEST}"
    return _ref(read_json(manifest)) if exists(manifest) else None


def newest(usecase: str, kind: str) -> ArtifactRef | None:
    """The artifact of a kind that was published last, or None."""
    last = objects.newest(f"{store_uri()}/{usecase}/{kind}/*/{MANIFEST}")
    return _ref(read_json(last)) if last else None


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
        (_publish_s3 if is_s3(uri) else _publish_files)(folder, manifest)
    return _finished(uri, key) or _ref(manifest)


def _built(build: Callable[[Path], dict[str, Any]], folder: Path, uri: str) -> dict[str, Any]:
    """A full disk is no fault of what is built, and may pass: it is told as what it is."""
    try:
        return build(folder)
    except OSError as exc:
        if exc.errno not in FULL:
            raise
        raise StorageError(
            f"Cannot make '{uri}': {exc.strerror} at '{home()}'. Free space, or set LLMOPS_HOME."
        ) from exc


def _finished(uri: str, key: str) -> ArtifactRef | None:
    if not exists(f"{uri}/{MANIFEST}"):
        return None
    manifest = read_json(f"{uri}/{MANIFEST}")
    if manifest["key"] != key:
        raise ConflictError(
            f"'{uri}' holds the result of other inputs ({manifest['key'][:12]}, now {key[:12]}). "
            "Published results are never overwritten: give the new one its own address, or remove the old by hand."
        )
    return _ref(manifest)


def _manifest(folder: Path, uri: str, kind: str, key: str, meta: dict[str, Any]) -> dict[str, Any]:
    files = {
        str(path.relative_to(folder)): {"sha256": file_digest(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    rows = meta.pop("rows", 0)
    head = {"uri": uri, "kind": kind, "key": key, "sha256": _content_digest(files), "schema_version": SCHEMA_VERSION}
    return head | {"rows": rows, "meta": meta, "files": files}


def _content_digest(files: dict[str, Any]) -> str:
    return digest({name: entry["sha256"] for name, entry in files.items()})


def _ref(manifest: dict[str, Any]) -> ArtifactRef:
    return cast(ArtifactRef, {name: manifest[name] for name in ArtifactRef.__annotations__})


def _publish_files(folder: Path, manifest: dict[str, Any]) -> None:
    target = local_path(manifest["uri"])
    staged = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _sweep(target.parent.glob(".*.tmp"))
        (folder / MANIFEST).write_bytes(canonical(manifest))
        shutil.move(folder, staged)  # a rename when home and store share a file system
        for path in [*staged.rglob("*"), staged]:
            path.chmod(0o700 if path.is_dir() else 0o600)
            fsync_path(path)  # fsync works alike on files and folders
        if target.exists() and not (target / MANIFEST).exists():
            shutil.rmtree(target)  # no manifest: not an artifact, nobody believes it
        staged.rename(target)
        fsync_path(target.parent)
    except OSError as exc:
        shutil.rmtree(staged, ignore_errors=True)
        if exc.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return  # another worker published first; the caller compares keys
        raise StorageError(
            f"Cannot publish '{manifest['uri']}': {exc.strerror}. Free space or mend permissions."
        ) from exc


def _publish_s3(folder: Path, manifest: dict[str, Any]) -> None:
    for name in manifest["files"]:
        upload_file(folder / name, f"{manifest['uri']}/{name}")
    try:
        create(f"{manifest['uri']}/{MANIFEST}", canonical(manifest))
    except ConflictError:
        log.info("another worker published %s first", manifest["key"][:12])


@contextmanager
def scratch() -> Iterator[Path]:
    """A private folder (mode 0700) under `LLMOPS_HOME`, removed afterwards; a killed process's, by others a day later."""
    with ExitStack() as stack:
        try:
            root = home() / "tmp"
            root.mkdir(mode=0o700, exist_ok=True)
            _sweep(root.iterdir())
            outer = Path(tempfile.mkdtemp(dir=root))
            stack.callback(shutil.rmtree, outer, ignore_errors=True)
            stack.enter_context(_held(outer))
            (folder := outer / "work").mkdir(mode=0o700)
        except OSError as exc:
            raise StorageError(
                f"Cannot write below '{home()}': {exc.strerror}. Free space or mend permissions."
            ) from exc
        yield folder


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Lock a folder for as long as this process lives; a training may take longer than a day.

    Raises:
        BlockingIOError: if another process holds it.
    """
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _sweep(folders: Iterable[Path]) -> None:
    """Remove what is a day old and held by nobody."""
    for folder in folders:
        with suppress(OSError):  # in use, or another sweeper was quicker
            if time.time() - folder.stat().st_mtime > STALE:
                with _held(folder):
                    shutil.rmtree(folder)


def fetch(ref: ArtifactRef) -> Path:
    """A local, verified copy of an artifact; `file://` artifacts are read in place.

    Raises:
        IntegrityError: if a file is absent or its bytes are not those of the manifest.
    """
    folder, manifest = fetch_at(ref["uri"])
    if manifest["sha256"] != ref["sha256"]:
        raise IntegrityError(f"'{ref['uri']}' is {manifest['sha256'][:12]}, not {ref['sha256'][:12]} as referred to.")
    return folder


def fetch_at(uri: str) -> tuple[Path, dict[str, Any]]:
    """A local copy of the artifact at an address, every file checked against the manifest; and the manifest."""
    manifest = cast(dict[str, Any], read_json(f"{uri}/{MANIFEST}"))
    if _content_digest(manifest["files"]) != manifest["sha256"]:
        raise IntegrityError(f"The manifest of '{uri}' was changed. Restore it, or make the artifact again.")
    folder = _download(uri, manifest) if is_s3(uri) else local_path(uri)
    for name, entry in manifest["files"].items():
        path = folder / name
        if not path.is_file() or file_digest(path) != entry["sha256"]:
            raise IntegrityError(f"'{uri}/{name}' is damaged or absent. Restore it, or make the artifact again.")
    return folder, manifest


def read(ref: ArtifactRef, name: str) -> bytes:
    """One small file of an artifact, checked; nothing else is brought here.

    Raises:
        IntegrityError: if it is absent, or its bytes are not those of the manifest.
    """
    manifest = cast(dict[str, Any], read_json(f"{ref['uri']}/{MANIFEST}"))
    entry = manifest["files"].get(name)
    data = objects.read_bytes(f"{ref['uri']}/{name}") if entry else b""
    if entry is None or digest(data) != entry["sha256"] or manifest["sha256"] != ref["sha256"]:
        raise IntegrityError(f"'{ref['uri']}/{name}' is damaged or absent. Restore it, or make the artifact again.")
    return data


def drop_unused(*, usecase: str, kind: str, days: float) -> None:
    """Remove what can be made again and was not marked as used for so long; in S3 a lifecycle rule does that."""
    for uri in find(f"{store_uri()}/{usecase}/{kind}/*/{MANIFEST}") if not is_s3(store_uri()) else []:
        with suppress(FileNotFoundError):  # another process was quicker
            if time.time() - local_path(uri).stat().st_mtime > days * 86_400:
                remove_folder(uri.rsplit("/", 1)[0])


def mark_used(ref: ArtifactRef) -> None:
    """Keep it for another while. One that is just being dropped stays so: to read it is an error then."""
    if not is_s3(ref["uri"]):
        with suppress(FileNotFoundError):
            os.utime(local_path(f"{ref['uri']}/{MANIFEST}"))


def _download(uri: str, manifest: dict[str, Any]) -> Path:
    folder: Path = home() / "cache" / str(manifest["sha256"])
    for name, entry in manifest["files"].items():
        path = folder / name
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise IntegrityError(f"The manifest of '{uri}' names a file outside its folder.")
        if not (path.is_file() and path.stat().st_size == entry["bytes"]):
            download_file(f"{uri}/{name}", path, entry["sha256"])
    return folder
