"""What is written beside the steps is written whole, in order, and its errors are not lost."""

from __future__ import annotations

import threading

import pytest

from llmops_tasks.training.background import Background


def test_steps_go_on_while_it_writes_and_the_next_write_waits() -> None:
    go, done, writer = threading.Event(), list[int](), Background()
    writer.start(lambda: (go.wait(20), done.append(1)))
    assert done == []  # and here we are
    go.set()
    writer.start(lambda: done.append(2))
    writer.finish()
    assert done == [1, 2]
    writer.finish()  # nothing is left


def test_an_error_is_raised_at_the_next_write_or_at_the_end_once() -> None:
    def fail() -> None:
        raise OSError("the disk is full")

    writer = Background()
    writer.start(fail)
    with pytest.raises(OSError, match="full"):
        writer.start(lambda: None)
    writer.start(fail)
    with pytest.raises(OSError, match="full"):
        writer.finish()
    writer.finish()


def test_an_error_is_seen_at_the_next_look() -> None:
    def fail() -> None:
        raise OSError("the disk is full")

    writer = Background()
    writer.check()
    writer.start(fail)
    while not writer._last.done():  # type: ignore[union-attr]
        pass
    with pytest.raises(OSError, match="full"):
        writer.check()
    writer.check()
