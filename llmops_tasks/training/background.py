"""One write at a time beside the steps. An error is raised at the next write, or at the end."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class Background:
    """A thread that writes, begun at its first use."""

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._last: Future[Any] | None = None

    def start(self, write: Callable[[], Any]) -> None:
        """Begin a write, after the one before has ended.

        Args:
            write: over values of its own, as the steps go on meanwhile.
        """
        self.finish()
        self._thread = self._thread or ThreadPoolExecutor(1, "checkpoint")
        self._last = self._thread.submit(write)

    def check(self) -> None:
        """Raise what the last write ended with, if it has ended."""
        if self._last is not None and self._last.done():
            self.finish()

    def finish(self) -> None:
        """Wait for the write under way.

        Raises:
            Exception: what it ended with.
        """
        last, self._last = self._last, None
        if last is not None:
            last.result()
