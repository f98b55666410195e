"""Several processes are one run: they wait for each other, though not for ever."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.errors import BudgetError, LLMOpsError, TrainingError
from llmops_tasks.store import objects
from llmops_tasks.training import processes
from llmops_tasks.training.finetuning import finetune
from tests.support.tiny import ROOT
from tests.support.waiting import finds_it_done

pytestmark = pytest.mark.usefixtures("mlflow")
Make = Callable[..., dict[str, Any]]

SHORT = timedelta(seconds=3)


def test_one_process_is_this_one() -> None:
    assert processes.together(1, lambda: "here") == "here"
    assert processes.first_then_others(lambda: 3) == 3
    processes.sign_of_life()


def test_the_others_wait_as_long_as_the_first_gives_signs_of_life() -> None:
    assert processes.together(2, partial(finds_it_done, 5.0, True), SHORT) == 2


def test_a_process_that_hangs_ends_the_run() -> None:
    started = time.monotonic()
    with pytest.raises(LLMOpsError, match=r"training processes was lost .* newest checkpoint") as ended:
        processes.together(2, partial(finds_it_done, 3600.0, False), SHORT)
    assert time.monotonic() - started < 300  # not an hour
    assert "Timed out waiting 3000ms" in str(ended.value.__cause__.failures)  # type: ignore[union-attr]


def test_two_processes_do_what_one_does(training: Make) -> None:
    one = finetune(**training(dropout=0.0))
    two = finetune(**training(dropout=0.0, processes=2))
    losses = [objects.read_json(f"{ref['uri']}/training.json")["losses"] for ref in (one, two)]
    assert losses[1][0] == pytest.approx(losses[0][0], abs=1e-5)
    assert losses[1] == pytest.approx(
        losses[0], abs=2e-3
    )  # additions in another order, and AdamW divides by small numbers
    assert two["meta"]["held_out_loss"] == pytest.approx(one["meta"]["held_out_loss"], abs=2e-3)
    assert two["key"] != one["key"]


def test_what_one_of_several_processes_says_is_what_ends_the_run(
    training: Make, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = training(processes=2, max_gradient=1.0001, learning_rate=0.9, epochs=5)
    forkserver._forkserver._stop()  # type: ignore[attr-defined]  # one of an earlier test writes into that test's log
    with pytest.raises(
        TrainingError, match=r"the gradient's length .* at step .*: training stopped, nothing is registered"
    ):
        finetune(**arguments)
    assert objects.find(f"{objects.store_uri()}/tiny/adapter/*/*") == []
    assert "numbers are trained" in capfd.readouterr().err  # what they log reaches the task's log


def test_they_die_with_the_process_that_started_them(tmp_path: Path) -> None:
    """Also by kill -9, though a fork server stands between them."""
    (folder := tmp_path / "ranks").mkdir()
    code = (
        "from functools import partial; from pathlib import Path; from llmops_tasks.training import processes\n"
        f"from tests.support.waiting import sleeps; processes.together(2, partial(sleeps, Path({str(folder)!r})))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    _until(lambda: len(list(folder.iterdir())) == 2)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _until(lambda: not [path for path in folder.iterdir() if Path("/proc", path.name).exists()])


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_lost_process_is_no_verdict_on_the_training() -> None:
    """It is tried again and goes on from its checkpoint, which a TrainingError would not be."""
    told = {"message": "BudgetError: The run would need more: minutes 3 of 1", "extraInfo": {}}
    found = processes._error_of(["Signal 9 (SIGKILL) received by PID 7", told])
    assert isinstance(found, BudgetError) and str(found) == "The run would need more: minutes 3 of 1"
    for messages in (["Signal 9 (SIGKILL) received by PID 7"], [{"message": "OSError: 1: 2"}], ["Any: thing"]):
        lost = processes._error_of(messages)
        assert type(lost) is LLMOpsError and "was lost (1 failed)" in str(lost) and "newest checkpoint" in str(lost)
