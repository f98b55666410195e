"""Private folders for work in progress: removed afterwards, a killed process's a day later, a living one's never."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import time
from pathlib import Path

import pytest

from llmops_tasks.errors import StorageError
from llmops_tasks.store import scratch

DAY = 24 * 60 * 60


def _left_by_a_killed_process(home: Path) -> Path:
    if os.fork() == 0:
        with scratch.scratch() as folder:
            (folder / "half.txt").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.wait()
    (left,) = (home / "tmp").iterdir()
    return left


def _make_older(seconds: float, *folders: Path) -> None:
    for folder in folders:
        os.utime(folder, (time.time() - seconds,) * 2)


def test_a_killed_process_s_folder_is_removed_a_day_later_and_one_in_use_is_not(home: Path) -> None:
    left = _left_by_a_killed_process(home)
    with scratch.scratch() as used:
        assert (left / "work" / "half.txt").exists()  # somebody may want to look at it
        _make_older(DAY - 10, left, used.parent)
        with scratch.scratch():
            assert left.exists()
        _make_older(DAY + 10, left, used.parent)
        with scratch.scratch():
            assert not left.exists()
            assert used.exists()  # a training may take longer than a day


def test_it_is_private_and_gone_afterwards(home: Path) -> None:
    with scratch.scratch() as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert list((home / "tmp").iterdir()) == []


def test_a_folder_that_somebody_removed_meanwhile_is_no_error(home: Path) -> None:
    with scratch.scratch() as folder:
        shutil.rmtree(folder.parent)
    assert list((home / "tmp").iterdir()) == []


def test_a_home_that_cannot_be_written_says_so(home: Path) -> None:
    home.mkdir()
    (home / "tmp").touch()
    with pytest.raises(StorageError, match="Cannot write below"), scratch.scratch():
        pass
