"""Bytes at `file://` and `s3://` addresses: read, list, publish once.

Publishing is all or nothing. On a file system: write to a temporary name, fsync, link or rename.
On S3: conditional `PUT` (`If-None-Match: *`), the manifest last. Readers believe only manifests.
What this module does not do: overwrite anything, or follow any other scheme.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from glob import glob
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from llmops_tasks.errors import ConflictError, InputError, IntegrityError, StorageError


def home() -> Path:
    """The folder for everything local (`LLMOPS_HOME`, default `var/`), readable by the owner only."""
    path = Path(os.environ.get("LLMOPS_HOME", "var")).absolute()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def store_uri() -> str:
    """Where artifacts and the ledger live (`LLMOPS_STORE`, default `file://<home>/store`)."""
    return os.environ.get("LLMOPS_STORE", f"file://{home() / 'store'}").rstrip("/")


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes. NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: Any) -> str:
    """SHA-256 of bytes, or of the canonical JSON of anything else."""
    return hashlib.sha256(value if isinstance(value, bytes) else canonical(value)).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in chunks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def code_digest(*module_files: str) -> str:
    """SHA-256 over the sources that a result follows from, so that changed code gives a new address.

    Args:
        module_files: `__file__` of modules; one in a room stands for its whole room.
    """
    package = Path(__file__).parent
    files: set[Path] = set()
    for path in map(Path, module_files):
        files |= {path} if path.parent == package else set(path.parent.glob("*.py"))
    return digest({f"{path.parent.name}/{path.name}": file_digest(path) for path in files})


# ---------------------------------------------------------------- addresses


def is_s3(uri: str) -> bool:
    """Tell the scheme; anything but file:// and s3:// is refused."""
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


def _s3() -> Any:
    """A boto3 client; endpoint and credentials come from the usual AWS_* variables."""
    import boto3
    from botocore.config import Config

    retries = {"max_attempts": 5, "mode": "adaptive"}
    return boto3.client("s3", config=Config(retries=retries, connect_timeout=5, read_timeout=60))


@contextmanager
def _s3_errors(uri: str) -> Iterator[None]:
    """Translate boto's errors once, at this boundary."""
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import BotoCoreError, ClientError

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS"
    try:
        yield
    except ClientError as exc:
        code = exc.response.get("Error", {}).get("Code", "unknown")
        if code in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409"):
            raise ConflictError(f"{uri} is taken already; nothing was written.") from exc
        raise StorageError(
            f"S3 at {endpoint} refused '{uri}' ({code}). Check the bucket, key and credentials."
        ) from exc
    except S3UploadFailedError as exc:
        raise StorageError(
            f"S3 at {endpoint} refused the upload to '{uri}'. Check the bucket and credentials."
        ) from exc
    except BotoCoreError as exc:
        name = type(exc).__name__
        raise StorageError(
            f"S3 at {endpoint} cannot be reached for '{uri}' ({name}). Check AWS_ENDPOINT_URL_S3 and the network."
        ) from exc


# ---------------------------------------------------------------- single objects


def exists(uri: str) -> bool:
    """Whether an object is at this address."""
    if not is_s3(uri):
        return local_path(uri).exists()
    bucket, key = _bucket_key(uri)
    with _s3_errors(uri):
        found = _s3().list_objects_v2(Bucket=bucket, Prefix=key, MaxKeys=1).get("Contents", [])
    return bool(found) and found[0]["Key"] == key


def find(pattern: str) -> list[str]:
    """All objects that match a pattern with `*` and `?`, sorted by name."""
    if not is_s3(pattern):
        # glob, not Path.glob: the pattern is absolute and may have wildcards in any part
        return [f"file://{path}" for path in sorted(glob(str(local_path(pattern)))) if Path(path).is_file()]
    bucket, key = _bucket_key(pattern)
    prefix = key.split("*")[0].split("?")[0]
    with _s3_errors(pattern):
        pages = _s3().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
    return [f"s3://{bucket}/{name}" for name in sorted(keys) if fnmatch(name, key)]


def read_bytes(uri: str) -> bytes:
    """The whole object."""
    try:
        if not is_s3(uri):
            return local_path(uri).read_bytes()
    except OSError as exc:
        raise StorageError(f"Cannot read '{uri}': {exc.strerror}. Check the path and its permissions.") from exc
    bucket, key = _bucket_key(uri)
    with _s3_errors(uri):
        return cast(bytes, _s3().get_object(Bucket=bucket, Key=key)["Body"].read())


@contextmanager
def open_stream(uri: str) -> Iterator[io.BufferedIOBase]:
    """An object as a buffered, seekable stream; S3 objects go through a private temporary file."""
    if not is_s3(uri):
        with local_path(uri).open("rb") as stream:
            yield stream
        return
    bucket, key = _bucket_key(uri)
    with tempfile.TemporaryFile(dir=home()) as copy:
        with _s3_errors(uri):
            _s3().download_fileobj(bucket, key, copy)
        copy.seek(0)
        yield cast(io.BufferedIOBase, copy)


def stream_digest(uri: str) -> str:
    """SHA-256 of an object's bytes."""
    with open_stream(uri) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_json(uri: str) -> Any:
    """The object as JSON."""
    try:
        return json.loads(read_bytes(uri))
    except ValueError as exc:
        raise IntegrityError(f"'{uri}' is not valid JSON: it was damaged or is not ours.") from exc


def create(uri: str, data: bytes) -> None:
    """Write an object that must not exist yet; exactly one of several writers wins.

    Raises:
        ConflictError: if something is at that address already.
    """
    if is_s3(uri):
        bucket, key = _bucket_key(uri)
        with _s3_errors(uri):
            _s3().put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
        return
    _create_file(local_path(uri), data)


def _create_file(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.link(temporary, path)  # unlike rename, fails if the name is taken
    except FileExistsError as exc:
        raise ConflictError(f"file://{path} is taken already; nothing was written.") from exc
    except OSError as exc:
        raise StorageError(f"Cannot write 'file://{path}': {exc.strerror}. Free space or mend permissions.") from exc
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    fsync_path(path.parent)


def fsync_path(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def upload_file(path: Path, uri: str) -> None:
    """Upload a file of any size to an S3 address nobody believes yet (no manifest names it)."""
    bucket, key = _bucket_key(uri)
    with _s3_errors(uri):
        _s3().upload_file(str(path), bucket, key)


def download_file(uri: str, path: Path) -> None:
    """Download an object of any size."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    bucket, key = _bucket_key(uri)
    with _s3_errors(uri):
        _s3().download_file(bucket, key, str(path))


def remove_folder(uri: str) -> None:
    """Remove working state (checkpoints). The manifest goes first, so that nobody believes the rest."""
    if not is_s3(uri):
        path = local_path(uri)
        (path / "_manifest.json").unlink(missing_ok=True)
        shutil.rmtree(path, ignore_errors=True)
        return
    bucket, _ = _bucket_key(uri)
    with _s3_errors(uri):
        client = _s3()
        for name in sorted(find(f"{uri}/*"), key=lambda item: not item.endswith("/_manifest.json")):
            client.delete_object(Bucket=bucket, Key=_bucket_key(name)[1])
