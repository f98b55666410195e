"""Messages for an unreachable service: stored on this machine, in order, and delivered later.

One JSON file each under `<home>/<name>/`, numbered. Delivered by one process at a time, oldest first, and removed
afterwards; a process killed in between delivers twice.
"""

from __future__ import annotations

import fcntl
import json
import logging
from collections.abc import Callable
from typing import Any

from llmops_tasks.errors import StorageError
from llmops_tasks.store import files, journal, objects

log = logging.getLogger(__name__)


def keep(name: str, message: dict[str, Any]) -> None:
    """Keep a message behind all that wait."""
    try:
        journal.push(_folder(name), json.dumps(message).encode())  # NaN included: a loss may be one
    except StorageError as exc:  # a full disk is reported elsewhere
        log.error("cannot store what MLflow did not receive: %s", exc)


def is_empty(name: str) -> bool:
    """Whether nothing waits."""
    return not journal.last(_folder(name))


def tell(name: str, do: Callable[[dict[str, Any]], bool]) -> bool:
    """Deliver what waits, oldest first, until `do` returns False; returns whether nothing waits any more."""
    files.private_folder(files.home() / "locks")
    with (files.home() / "locks" / name).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False  # another process is telling
        for number in journal.numbers(folder := _folder(name)):
            data = objects.read_if_there(uri := journal.address(folder, number))
            if data is not None and not do(objects.parsed(uri, data)):
                return False
            objects.remove(uri)
    return True


def _folder(name: str) -> str:
    return (files.home() / name).as_uri()
