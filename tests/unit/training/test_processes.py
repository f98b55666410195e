"""Several processes are one run: they wait for each other, though not for ever."""

from __future__ import annotations

import time
from datetime import timedelta
from functools import partial

import pytest

from llmops_tasks.errors import LLMOpsError
from llmops_tasks.training import processes
from tests.support.waiting import finds_it_done

SHORT = timedelta(seconds=4)


def test_one_process_is_this_one() -> None:
    assert processes.together(1, lambda: "here") == "here"
    assert processes.first_then_others(lambda: 3) == 3
    processes.sign_of_life()


def test_the_others_wait_as_long_as_the_first_gives_signs_of_life() -> None:
    assert processes.together(2, partial(finds_it_done, 9.0, True), SHORT) == 2


def test_a_process_that_hangs_ends_the_run() -> None:
    started = time.monotonic()
    with pytest.raises(LLMOpsError, match=r"training processes was lost .* newest checkpoint") as ended:
        processes.together(2, partial(finds_it_done, 3600.0, False), SHORT)
    assert time.monotonic() - started < 300  # not an hour
    assert "Timed out waiting 4000ms" in str(ended.value.__cause__.failures)  # type: ignore[union-attr]
