"""Uploads to S3, each under a name of its own until a manifest names it.

A process that lost its heartbeat and its retry may upload the same artifact at the same time, and need not get the
same bytes. Neither touches the other's: `<artifact>/<attempt>/<file>`. One manifest wins, and names its attempt.
"""

from __future__ import annotations

import re
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from llmops_tasks.errors import StorageError
from llmops_tasks.store import files, objects
from llmops_tasks.store.digests import digest
from llmops_tasks.store.scratch import STALE

MANIFEST = "_manifest.json"  # readers of Parquet folders pass over names with an underscore
_NAME = re.compile(r"[0-9a-f]{16}")


def is_name(attempt: Any) -> bool:
    """Whether this can be an attempt's name."""
    return isinstance(attempt, str) and bool(_NAME.fullmatch(attempt))


def upload(folder: Path, uri: str, names: list[str]) -> str:
    """Upload files under a new name, and return it; what a failed upload left is removed.

    Raises:
        StorageError: if one cannot be uploaded.
    """
    attempt = secrets.token_hex(8)
    try:
        for name in names:
            objects.upload_file(folder / name, f"{uri}/{attempt}/{name}")
    except StorageError:
        discard(uri, attempt)
        raise
    return attempt


def discard(uri: str, attempt: str) -> None:
    """Remove an attempt that no manifest names; where that fails, `sweep` does it later."""
    with suppress(StorageError):
        objects.remove_folder(f"{uri}/{attempt}")


def sweep(folder: str) -> None:
    """Remove attempts below a folder of artifacts that are a day old and that no manifest names; looks once a day."""
    mark = files.home() / "swept" / digest(folder)[:32]
    with suppress(FileNotFoundError):
        if time.time() - mark.stat().st_mtime < STALE:
            return
    for (uri, attempt), newest in _found(folder).items():
        if time.time() - newest > STALE and _named(uri) != attempt:
            discard(uri, attempt)
    objects.replace(mark.as_uri(), b"")


def _found(folder: str) -> dict[tuple[str, str], float]:
    """Every attempt (artifact, name) with the time of its newest object."""
    found: dict[tuple[str, str], float] = {}
    for name, written in objects.written(f"{folder}/*").items():
        artifact, attempt, *inside = name.removeprefix(f"{folder}/").split("/")[:3] + [""] * 2
        if inside[0] and is_name(attempt):
            key = (f"{folder}/{artifact}", attempt)
            found[key] = max(written, found.get(key, 0.0))
    return found


def _named(uri: str) -> str | None:
    data = objects.read_if_there(f"{uri}/{MANIFEST}")
    return None if data is None else objects.parsed(uri, data).get("attempt")
