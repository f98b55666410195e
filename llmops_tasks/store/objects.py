"""Bytes at `file://` and `s3://` addresses: read, list, publish once.

Publishing is all or nothing: on a file system by a name beside its own (see `files`), on S3 by a conditional `PUT`
(`If-None-Match: *`), the manifest last. Readers believe only manifests. S3 requests are in `s3`.
Nothing is overwritten but marks (`replace`).
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from fnmatch import fnmatch
from glob import glob
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from llmops_tasks.errors import InputError, IntegrityError, StorageError
from llmops_tasks.store import digests, files, s3


def store_uri() -> str:
    """Where artifacts and the ledger live (`LLMOPS_STORE`, default `file://<home>/store`)."""
    return os.environ.get("LLMOPS_STORE", f"file://{files.home() / 'store'}").rstrip("/")


# ---------------------------------------------------------------- addresses


def is_s3(uri: str) -> bool:
    """Return whether it is S3; anything but file:// and s3:// is refused."""
    scheme = urlsplit(uri).scheme
    if scheme not in ("file", "s3"):
        raise InputError(f"Address '{uri}' has the scheme '{scheme}'. Allowed: file:///path and s3://bucket/key.")
    return scheme == "s3"


def local_path(uri: str) -> Path:
    """The path behind a file:// address."""
    return Path("/", _bucket_key(uri)[1])


def _bucket_key(uri: str) -> tuple[str, str]:
    """Host or bucket, and the rest: here `?` is a wildcard and `#` a letter, so urlsplit would cut too much off."""
    bucket, _, key = uri.partition("://")[2].partition("/")
    return bucket, unquote(key.lstrip("/"))


# ---------------------------------------------------------------- single objects


def exists(uri: str) -> bool:
    """Whether an object is at this address."""
    if not is_s3(uri):
        return local_path(uri).exists()
    bucket, key = _bucket_key(uri)
    return key in s3.listed(bucket, key, limit=1)


def fingerprints(pattern: str) -> dict[str, str]:
    """All objects that match a pattern with `*` and `?`, sorted by name, each with a fingerprint of its content.

    It is cheap: size and time of the last change, on S3 the ETag. Nothing is read.
    """
    if not is_s3(pattern):
        return dict(_fingerprinted(sorted(glob(str(local_path(pattern))))))
    bucket, key = _bucket_key(pattern)
    found = s3.listed(bucket, key.split("*")[0].split("?")[0])
    return {f"s3://{bucket}/{name}": found[name] for name in sorted(found) if fnmatch(name, key)}


def _fingerprinted(paths: list[str]) -> Iterator[tuple[str, str]]:
    for path in paths:  # from glob, not Path.glob: the pattern is absolute and may have wildcards in any part
        with suppress(FileNotFoundError):
            found = Path(path).stat()
            if stat.S_ISREG(found.st_mode):
                yield f"file://{path}", f"{found.st_size}-{found.st_mtime_ns}"


def find(pattern: str) -> list[str]:
    """All objects that match a pattern with `*` and `?`, sorted by name."""
    return list(fingerprints(pattern))


def first(folder: str, count: int) -> list[str]:
    """The first so many objects below an S3 folder, sorted by name; one request."""
    bucket, key = _bucket_key(f"{folder}/")
    return [f"s3://{bucket}/{name}" for name in s3.listed(bucket, key, limit=count)]


def written(pattern: str) -> dict[str, float]:
    """All objects that match a pattern, each with the time it was last written, in seconds since 1970.

    For housekeeping alone: no result, and no order of results, may follow from a clock.
    """
    if not is_s3(pattern):
        found = {uri: local_path(uri) for uri in find(pattern)}
        return {uri: path.stat().st_mtime for uri, path in found.items() if path.exists()}
    bucket, key = _bucket_key(pattern)
    times = s3.written(bucket, key.split("*")[0].split("?")[0])
    return {f"s3://{bucket}/{name}": times[name] for name in sorted(times) if fnmatch(name, key)}


def read_bytes(uri: str) -> bytes:
    """The whole object."""
    try:
        if not is_s3(uri):
            return local_path(uri).read_bytes()
    except OSError as exc:
        raise StorageError(f"Cannot read '{uri}': {exc.strerror}. Check the path and its permissions.") from exc
    return b"".join(s3.ranges(*_bucket_key(uri)))


def read_if_there(uri: str) -> bytes | None:
    """A small object by one request; None if there is none."""
    if is_s3(uri):
        return s3.get(*_bucket_key(uri))
    try:
        return local_path(uri).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        raise StorageError(f"Cannot read '{uri}': {exc.strerror}. Check the path and its permissions.") from exc


@contextmanager
def open_stream(uri: str) -> Iterator[io.BufferedIOBase]:
    """An object as a buffered, seekable stream; S3 objects go through a private temporary file."""
    if not is_s3(uri):
        with local_path(uri).open("rb") as stream:
            yield stream
        return
    with _temporary(uri) as copy:
        yield cast(io.BufferedIOBase, copy)


@contextmanager
def _temporary(uri: str) -> Iterator[Any]:
    with ExitStack() as stack:
        try:
            copy = stack.enter_context(tempfile.TemporaryFile(dir=files.home()))
            for data in s3.ranges(*_bucket_key(uri)):
                copy.write(data)
            copy.seek(0)
        except OSError as exc:
            raise files.full(files.home(), exc) from exc
        yield copy


def stream_digest(uri: str) -> str:
    """SHA-256 of an object's bytes."""
    if is_s3(uri):
        sha256 = hashlib.sha256()
        for data in s3.ranges(*_bucket_key(uri)):
            sha256.update(data)
        return sha256.hexdigest()
    try:
        return digests.file_digest(local_path(uri))
    except OSError as exc:
        raise StorageError(f"Cannot read '{uri}': {exc.strerror}. Check the path and its permissions.") from exc


def read_json(uri: str) -> Any:
    """The object as JSON."""
    return parsed(uri, read_bytes(uri))


def parsed(uri: str, data: bytes) -> Any:
    """Bytes read at an address, as JSON."""
    try:
        return json.loads(data)
    except ValueError as exc:
        raise IntegrityError(f"'{uri}' is not valid JSON: it was damaged, or was not written by this program.") from exc


def create(uri: str, data: bytes) -> None:
    """Write an object that must not exist yet; exactly one of several writers wins.

    Raises:
        ConflictError: if something is at that address already.
    """
    if is_s3(uri):
        s3.create(*_bucket_key(uri), data)
    else:
        files.write(local_path(uri), data, files.link)


def replace(uri: str, data: bytes) -> None:
    """Write an object over what is there. For marks that decide nothing: evidence is created, never replaced."""
    if is_s3(uri):
        s3.put(*_bucket_key(uri), data)
    else:
        files.write(local_path(uri), data, os.replace)


def upload_file(path: Path, uri: str) -> None:
    """Upload a file of any size to an S3 address that no manifest names yet."""
    s3.upload(*_bucket_key(uri), path)


def download_file(uri: str, path: Path, sha256: str | None = None) -> None:
    """Download an object of any size; the file appears when it is whole.

    Args:
        sha256: what its bytes must be.

    Raises:
        IntegrityError: if they are others. There is no file then.
    """
    with files.aside(path) as temporary:
        found = _save(uri, temporary, IntegrityError if sha256 else StorageError)
        if sha256 not in (None, found):
            raise IntegrityError(f"'{uri}' is damaged or absent. Restore it, or make the artifact again.")
        temporary.rename(path)


def _save(uri: str, path: Path, replaced: type[StorageError]) -> str:
    """Download to a file; returns the SHA-256 of what arrived."""
    sha256 = hashlib.sha256()
    with path.open("xb") as stream:
        for data in s3.ranges(*_bucket_key(uri), replaced=replaced):
            stream.write(data)
            sha256.update(data)
        stream.flush()
        os.fsync(stream.fileno())  # or a power cut could leave a file of the right size and no bytes
    return sha256.hexdigest()


def remove(uri: str) -> None:
    """Remove a mark, if it is there."""
    if is_s3(uri):
        s3.remove([_bucket_key(uri)])
    else:
        with suppress(OSError):
            local_path(uri).unlink(missing_ok=True)


def remove_folder(uri: str) -> None:
    """Remove working state (checkpoints). The manifest goes first, so that the rest is invalid."""
    if not is_s3(uri):
        path = local_path(uri)
        (path / "_manifest.json").unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)
        return
    names = sorted(find(f"{uri}/*"), key=lambda item: not item.endswith("/_manifest.json"))
    s3.remove([_bucket_key(name) for name in names])
