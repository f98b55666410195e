"""Numbered objects, each written once: 1, 2, 3, ... The number is the order; no clock is asked.

`<folder>/<block>/<number>.json`, a hundred numbers a block, the newest block first by name. So the newest number is
found by one listing of a hundred names, however many there are, and no pointer has to be kept that could be wrong.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from llmops_tasks.errors import ConflictError, IntegrityError, StorageError
from llmops_tasks.store import objects

BLOCK = 100  # numbers a block
_BLOCKS = 999_999
_NAME = re.compile(r"(\d{6})/(\d{8})\.json")


def address(folder: str, number: int) -> str:
    """Where the object with this number is, or will be."""
    return f"{folder}/{_BLOCKS - number // BLOCK:06d}/{number:08d}.json"


def last(folder: str) -> int:
    """The newest number, 0 before the first; one request on S3.

    Raises:
        IntegrityError: if something else is in the folder.
    """
    return max((_number(folder, name) for name in _newest_block(folder)), default=0)


def numbers(folder: str) -> list[int]:
    """All numbers, in order."""
    last(folder)  # refuses what is not a journal entry
    names = (uri.removeprefix(f"{folder}/") for uri in objects.find(f"{folder}/*/*.json"))
    return sorted(_number(folder, name) for name in names)


def push(folder: str, data: bytes) -> int:
    """Write an object under the next free number, whatever others write meanwhile; returns the number."""
    number = last(folder) + 1
    while True:
        try:
            objects.create(address(folder, number), data)
            return number
        except ConflictError:
            number += 1


def _newest_block(folder: str) -> Iterator[str]:
    """The names in the newest block; in S3 some older ones may follow."""
    if objects.is_s3(folder):
        yield from (uri.removeprefix(f"{folder}/") for uri in objects.first(folder, BLOCK))
        return
    root = objects.local_path(folder)
    for block in sorted(_visible(root)):
        if not (root / block).is_dir():
            yield block  # none of ours
        elif names := _visible(root / block):
            yield from (f"{block}/{name}" for name in names)
            return


def _visible(folder: Path) -> list[str]:
    """Names in a folder, but those of files that are just being written."""
    try:
        return [entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise StorageError(f"Cannot list 'file://{folder}': {exc.strerror}. Check what is there.") from exc


def _number(folder: str, name: str) -> int:
    found = _NAME.fullmatch(name)
    if not found or address("", int(found[2])) != f"/{name}":
        raise IntegrityError(
            f"'{folder}/{name}' is not a journal entry: expected are <block>/<number>.json. If it is from before this layout, "
            "move the folder away and start over; else restore the folder from a backup."
        )
    return int(found[2])
