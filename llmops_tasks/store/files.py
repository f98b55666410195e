"""Folders and files of this machine: whole or absent, and for their owner only.

Written under a name beside their own, made durable, then linked or renamed. Addresses and schemes are not known here.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from llmops_tasks.errors import ConflictError, StorageError


def home() -> Path:
    """The folder for everything local (`LLMOPS_HOME`, default `var/`), readable by the owner only.

    Whatever this process writes from now on, databases and logs of libraries included, is for its owner only, too.

    Raises:
        StorageError: if it cannot be made, or others may read it and it is not ours to close.
    """
    path = Path(os.environ.get("LLMOPS_HOME", "var")).absolute()
    os.umask(os.umask(0o077) | 0o077)
    try:
        private_folder(path)
        _close(path)
    except PermissionError as exc:
        raise StorageError(
            f"'{path}' cannot be made, or is open to others and not ours to close ({exc.strerror}). Run "
            f"'chmod 700' on it as its owner, or set LLMOPS_HOME to a folder of this user."
        ) from exc
    except OSError as exc:
        raise full(path, exc) from exc
    return path


def _close(path: Path) -> None:
    """Take a folder's rights from others; root's group may keep its own, by which containers run as any user."""
    found = path.stat()
    if found.st_mode & 0o077:
        try:
            path.chmod(0o700)
        except PermissionError:
            if found.st_mode & 0o007 or found.st_gid != 0:
                raise


def private_folder(path: Path) -> None:
    """Make a folder and those above it that are missing, each for its owner only whatever the umask."""
    try:
        path.mkdir(mode=0o700, exist_ok=True)
    except FileNotFoundError:
        private_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def link(temporary: Path, path: Path) -> None:
    """Give a file its name, unless the name is taken."""
    try:
        os.link(temporary, path)  # unlike rename, fails if the name is taken
    except FileExistsError as exc:
        raise ConflictError(f"file://{path} is taken already; nothing was written.") from exc


def write(path: Path, data: bytes, place: Callable[[Path, Path], object]) -> None:
    """Write a file whole; `place` gives it its name: `link`, or `os.replace` over what is there."""
    with aside(path) as temporary:
        with open(temporary, "xb", opener=lambda name, flags: os.open(name, flags, 0o600)) as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        place(temporary, path)


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A name beside a file's to write under, and be renamed from; whatever fails, nothing half written has the file's."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        private_folder(path.parent)
        yield temporary
        fsync_path(path.parent)
    except OSError as exc:
        raise full(path, exc) from exc
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def fsync_path(path: Path) -> None:
    """Make a file's bytes, or a folder's entries, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def full(path: Path, exc: OSError) -> StorageError:
    """The error for a failed write."""
    return StorageError(f"Cannot write 'file://{path}': {exc.strerror}. Free space or fix the permissions.")
