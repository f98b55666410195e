"""Private folders for work in progress, with locks: a killed process's leftovers are removed, never a living one's."""

from __future__ import annotations

import errno
import fcntl
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from llmops_tasks.errors import StorageError
from llmops_tasks.store.files import home, private_folder

STALE = 24 * 3600  # seconds after which what a killed process left is removed
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # what a disk says that is full, for this user or this file


@contextmanager
def scratch() -> Iterator[Path]:
    """A private folder (mode 0700) under `LLMOPS_HOME`, removed afterwards; a killed process's, by others a day later."""
    with ExitStack() as stack:
        try:
            private_folder(root := home() / "tmp")
            sweep(root.iterdir())
            outer = Path(tempfile.mkdtemp(dir=root))
            stack.callback(shutil.rmtree, outer, ignore_errors=True)
            stack.enter_context(held(outer))
            (folder := outer / "work").mkdir(mode=0o700)
        except OSError as exc:
            raise StorageError(
                f"Cannot write below '{home()}': {exc.strerror}. Free space or fix the permissions."
            ) from exc
        yield folder


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock a folder for as long as this process lives; a training may take longer than a day.

    Raises:
        BlockingIOError: if another process holds it.
    """
    with (folder / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def sweep(folders: Iterable[Path]) -> None:
    """Remove unlocked folders that are a day old."""
    for folder in folders:
        with suppress(OSError):  # in use, or another sweeper was quicker
            if time.time() - folder.stat().st_mtime > STALE:
                with held(folder):
                    shutil.rmtree(folder)
