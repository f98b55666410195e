"""S3 requests with retries.

A request that the server was too busy for, or that got lost, is repeated with exponential backoff and full
jitter, a bounded number of times, each noted in the log. Objects are read in ranges, so that a lost
connection costs one range; all ranges are of one version of the object (`If-Match`).
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from llmops_tasks.errors import ConflictError, StorageError

log = logging.getLogger(__name__)
RANGE = 8 << 20  # bytes
PAGE = 1000  # keys, S3's own limit
ATTEMPTS = 8
BACKOFF = 0.1  # seconds; doubled with every attempt, up to the longest
LONGEST = 5.0
TIMEOUTS = (5, 60)  # seconds, to connect and between two bytes
_PARTED = 8 << 20  # bytes, from which boto uploads in parts
_TAKEN = ("PreconditionFailed", "412")
_CONFLICT = ("ConditionalRequestConflict", "OperationAborted", "409")  # S3: two at once, ask again
_BUSY = ("SlowDown", "Throttling", "ThrottlingException", "RequestTimeout", "InternalError", "ServiceUnavailable")
_Result = TypeVar("_Result")


def _client(attempts: int = 1) -> Any:
    """A boto3 client; endpoint and credentials come from the usual AWS_* variables."""
    settings = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    return _made(os.getpid(), tuple(sorted(settings.items())), TIMEOUTS, attempts)


@lru_cache(maxsize=4)
def _made(_process: int, _settings: tuple[tuple[str, str], ...], timeouts: tuple[float, float], attempts: int) -> Any:
    """One client a process, as its connections must not be shared with a fork."""
    import boto3
    from botocore.config import Config

    logging.getLogger("botocore").setLevel(logging.INFO)  # its debug lines hold the session token
    retries = {"total_max_attempts": attempts, "mode": "standard"}
    return boto3.client("s3", config=Config(retries=retries, connect_timeout=timeouts[0], read_timeout=timeouts[1]))


@contextmanager
def _errors(uri: str) -> Iterator[None]:
    """Translate boto's errors once, at this boundary."""
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import BotoCoreError, ClientError

    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "AWS"
    try:
        yield
    except ClientError as exc:
        code = exc.response.get("Error", {}).get("Code", "unknown")
        if code in (*_TAKEN, *_CONFLICT):
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


# ---------------------------------------------------------------- asking again


def _again(uri: str, ask: Callable[[], _Result], attempts: int | None = None) -> _Result:
    """The answer of a request, at one of several attempts."""
    attempts = attempts or ATTEMPTS
    with _errors(uri):
        for attempt in range(1, attempts):
            try:
                return ask()
            except _boto_errors() as exc:
                if (reason := _passing(exc)) is None:
                    raise
                pause = random.uniform(0, min(LONGEST, BACKOFF * 2**attempt))  # noqa: S311  (jitter is no secret)
                log.warning("S3, attempt %d of %d for %s: %s; again in %.1f s", attempt, attempts, uri, reason, pause)
                time.sleep(pause)
        return ask()


def _boto_errors() -> tuple[type[Exception], ...]:
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import BotoCoreError, ClientError

    return ClientError, BotoCoreError, S3UploadFailedError


def _passing(exc: BaseException | None) -> str | None:
    """What went wrong, if it may go right the next time."""
    from boto3.exceptions import S3UploadFailedError
    from botocore.exceptions import ClientError, ConnectionError, HTTPClientError, IncompleteReadError

    if isinstance(exc, S3UploadFailedError):
        return _passing(exc.__context__)
    if isinstance(exc, ClientError):
        code = str(exc.response.get("Error", {}).get("Code", ""))
        status = exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return f"{status} {code}" if status in (409, 429) or status >= 500 or code in _BUSY else None
    lost = isinstance(exc, ConnectionError | HTTPClientError | IncompleteReadError)
    return type(exc).__name__ if lost else None


# ---------------------------------------------------------------- requests


def listed(bucket: str, prefix: str, limit: int | None = None) -> dict[str, str]:
    """Keys with this prefix, sorted, each with a mark of its content; or the first of them only."""
    return {item["Key"]: f"{item['Size']}-{item['ETag'].strip(chr(34))}" for item in _items(bucket, prefix, limit)}


def written(bucket: str, prefix: str) -> dict[str, float]:
    """Keys with this prefix, each with the time of its writing by the server's clock, in seconds since 1970."""
    return {item["Key"]: float(item["LastModified"].timestamp()) for item in _items(bucket, prefix)}


def _items(bucket: str, prefix: str, limit: int | None = None) -> Iterator[dict[str, Any]]:
    """A listing's objects, page by page; with a limit, of one page of so many."""
    more: dict[str, Any] = {"MaxKeys": limit or PAGE}
    while True:
        request = partial(_client().list_objects_v2, Bucket=bucket, Prefix=prefix, **more)
        page = _again(f"s3://{bucket}/{prefix}", request)
        yield from page.get("Contents", [])
        if limit or not page.get("IsTruncated"):
            return
        more["ContinuationToken"] = page["NextContinuationToken"]


def get(bucket: str, key: str) -> bytes | None:
    """A small object by one request; None if there is none."""
    from botocore.exceptions import ClientError, IncompleteReadError

    def ask() -> bytes | None:
        try:
            answer = _client().get_object(Bucket=bucket, Key=key)
        except ClientError as exc:
            if exc.response.get("Error", {}).get("Code") == "NoSuchKey":
                return None
            raise
        data: bytes = answer["Body"].read()
        if len(data) != answer["ContentLength"]:
            raise IncompleteReadError(actual_bytes=len(data), expected_bytes=answer["ContentLength"])
        return data

    return _again(f"s3://{bucket}/{key}", ask)


def put(bucket: str, key: str, data: bytes) -> None:
    """Write an object, over another one if need be."""
    _again(f"s3://{bucket}/{key}", partial(_client().put_object, Bucket=bucket, Key=key, Body=data))


def ranges(bucket: str, key: str, replaced: type[StorageError] = StorageError) -> Iterator[bytes]:
    """An object's bytes, range by range.

    Args:
        replaced: raised if there is another object in its place before the end.
    """
    uri, start, etag = f"s3://{bucket}/{key}", 0, None
    while True:
        found = _again(uri, partial(_range, bucket, key, start, etag))
        if found is None:
            raise replaced(f"'{uri}' was replaced while it was read. Try again when it is complete.")
        data, etag, size = found
        yield data
        start += len(data)
        if start >= size:
            return


def _range(bucket: str, key: str, start: int, etag: str | None) -> tuple[bytes, str, int] | None:
    """Bytes from start on, and the object's ETag and size; None if it is another by now."""
    from botocore.exceptions import ClientError, IncompleteReadError

    condition = {"IfMatch": etag} if etag else {}
    try:
        answer = _client().get_object(Bucket=bucket, Key=key, Range=f"bytes={start}-{start + RANGE - 1}", **condition)
    except ClientError as exc:
        code = exc.response.get("Error", {}).get("Code")
        if code == "InvalidRange" and start == 0:
            return b"", "", 0  # an empty object has no first byte
        if code in (*_TAKEN, "InvalidRange"):
            return None
        raise
    if etag not in (None, answer["ETag"]):
        return None
    data: bytes = answer["Body"].read()
    size = int(answer.get("ContentRange", f"/{len(data)}").rpartition("/")[2])
    if len(data) != min(RANGE, size - start):
        raise IncompleteReadError(actual_bytes=len(data), expected_bytes=min(RANGE, size - start))
    return data, answer["ETag"], size


def create(bucket: str, key: str, data: bytes) -> None:
    """Write an object that must not exist yet.

    Raises:
        ConflictError: if one does. An attempt of our own whose answer got lost is no conflict.
    """
    from botocore.exceptions import ClientError

    lost = False

    def put() -> None:
        nonlocal lost
        try:
            _client().put_object(Bucket=bucket, Key=key, Body=data, IfNoneMatch="*")
        except _boto_errors() as exc:
            taken = isinstance(exc, ClientError) and exc.response.get("Error", {}).get("Code") in _TAKEN
            if taken and lost and b"".join(ranges(bucket, key)) == data:
                return
            lost = lost or not taken
            raise

    _again(f"s3://{bucket}/{key}", put)


def upload(bucket: str, key: str, path: Path) -> None:
    """Upload a file of any size. Of a large one boto retries every part itself, so the whole is not retried."""
    parted = path.stat().st_size >= _PARTED
    client = _client(ATTEMPTS if parted else 1)
    _again(f"s3://{bucket}/{key}", lambda: client.upload_file(str(path), bucket, key), 1 if parted else ATTEMPTS)


def remove(objects: list[tuple[str, str]]) -> None:
    """Remove objects, in this order."""
    for bucket, key in objects:
        _again(f"s3://{bucket}/{key}", partial(_client().delete_object, Bucket=bucket, Key=key))
