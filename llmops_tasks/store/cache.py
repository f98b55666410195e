"""Local copies of what lies in S3: checked once, repaired when damaged, and dropped when space is short.

An entry is `<home>/cache/<digest>/` with `files/`, `verified.json` (what each file looked like when its SHA-256 was
found right) and `lock`. A file that looks as it did is not read again. One that does not is checked, and downloaded
again if it is wrong: a bad copy says nothing about what it is a copy of.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

from llmops_tasks.errors import InputError, StorageError
from llmops_tasks.store.digests import canonical, file_digest
from llmops_tasks.store.files import home, private_folder
from llmops_tasks.store.objects import download_file

log = logging.getLogger(__name__)
LIMIT = 50.0  # GiB, unless LLMOPS_CACHE_GIB says otherwise
_MARK = "verified.json"
_held: dict[Path, IO[str]] = {}  # entries that this process uses, until it ends
Look = list[int]


class Piece(NamedTuple):
    """One file: where it is, and what it must be."""

    uri: str
    sha256: str
    bytes: int


def local_copy(name: str, pieces: dict[str, Piece]) -> Path:
    """A folder with these files, every one of which is or was found to have the right bytes.

    Args:
        name: of the entry; by it the same content is found again.
        pieces: by the path in the folder.

    Raises:
        IntegrityError: if what arrives from the store has other bytes than it must.
        StorageError: if the store or this disk fails.
    """
    entry = home() / "cache" / name
    _hold(entry)
    folder, known = entry / "files", _known(entry)
    private_folder(folder)  # also where there is no file
    absent = [path for path, piece in pieces.items() if not _is_right(folder / path, piece, known.get(path))]
    if absent:
        _make_space(entry, sum(pieces[path].bytes for path in absent))
    for path in absent:
        download_file(pieces[path].uri, folder / path, pieces[path].sha256)
    _note(entry, {path: _look(folder / path) for path in pieces}, known)
    return folder


def _look(path: Path) -> Look | None:
    """What identifies an unchanged file."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _is_right(path: Path, piece: Piece, known: Look | None) -> bool:
    look = _look(path)
    if look is None or path.is_symlink():
        return False
    if look == known:
        return True
    if look[0] == piece.bytes and file_digest(path) == piece.sha256:
        return True
    log.warning("a local copy of %s was damaged: downloading it again", piece.uri)
    return False


def _known(entry: Path) -> dict[str, Look]:
    try:
        known: dict[str, Look] = json.loads((entry / _MARK).read_bytes())
        return known if isinstance(known, dict) else {}
    except (OSError, ValueError):
        return {}


def _note(entry: Path, looks: dict[str, Look | None], known: dict[str, Look]) -> None:
    """Remember what was found right; the mark's time is that of the entry's last use."""
    try:
        if looks and looks == known:
            os.utime(entry / _MARK)
            return
        temporary = entry / f".{secrets.token_hex(6)}.tmp"
        temporary.write_bytes(canonical(looks))
        temporary.rename(entry / _MARK)
    except OSError as exc:
        raise StorageError(f"Cannot write below '{entry}': {exc.strerror}. Free space or fix the permissions.") from exc


# ---------------------------------------------------------------- whose it is, and how much there is


def _hold(entry: Path) -> None:
    """Keep an entry from being dropped for as long as this process lives."""
    if entry in _held and _is_lock(entry, _held[entry]):
        return
    while True:
        try:
            private_folder(entry)
            lock = (entry / "lock").open("a")
        except FileNotFoundError:
            continue  # it was dropped between the two
        except OSError as exc:
            raise StorageError(f"Cannot write below '{entry}': {exc.strerror}. Fix the permissions.") from exc
        fcntl.flock(lock, fcntl.LOCK_SH)
        if _is_lock(entry, lock):
            _held[entry] = lock
            return
        lock.close()  # it was dropped while we waited


def _is_lock(entry: Path, lock: IO[str]) -> bool:
    try:
        return (entry / "lock").stat().st_ino == os.fstat(lock.fileno()).st_ino
    except OSError:
        return False


def _limit() -> float:
    """In bytes."""
    given = os.environ.get("LLMOPS_CACHE_GIB", str(LIMIT))
    try:
        return float(given) * 2**30
    except ValueError as exc:
        raise InputError(f"LLMOPS_CACHE_GIB is '{given:.20}'. Allowed: a number of GiB, for example 50.") from exc


def _make_space(keep: Path, need: int) -> None:
    """Drop what was not used for longest, until so many bytes more are within the limit; never what a process holds."""
    sizes = {entry: _size(entry) for entry in keep.parent.iterdir() if entry.is_dir()}
    over = sum(sizes.values()) + need - _limit()
    for entry in sorted(sizes, key=_last_use):
        if over <= 0:
            return
        if entry != keep and _drop(entry):
            log.info("dropped the local copy %s: %.1f MiB", entry.name[:12], sizes[entry] / 2**20)
            over -= sizes[entry]
    if over > 0:
        log.warning("local copies are %.2f GiB over LLMOPS_CACHE_GIB, all in use", over / 2**30)


def _size(entry: Path) -> int:
    return sum(look[0] for path in entry.rglob("*") if not path.is_dir() and (look := _look(path)))


def _last_use(entry: Path) -> float:
    for path in (entry / _MARK, entry):
        with suppress(OSError):
            return path.stat().st_mtime
    return 0.0


def _drop(entry: Path) -> bool:
    """Remove an entry, unless a process holds it."""
    try:
        with (entry / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(entry)
            return True
    except OSError:
        return False
