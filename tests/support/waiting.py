"""Work for several processes; in a module that a new process can import."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from llmops_tasks.training import finetuning, processes
from llmops_tasks.training.progress import Progress


def finds_it_done(seconds: float, alive: bool) -> int:
    """The first process works for so long, the others find it done; returns how many came to the end."""

    def work() -> int:
        started = time.monotonic()
        while processes.rank() == 0 and time.monotonic() - started < seconds:
            time.sleep(0.2)
            if alive:
                processes.sign_of_life()
        return 1

    return int(processes.total(processes.first_then_others(work)))


def ends_after_four_steps(*given: Any) -> Any:
    """A member's training whose processes end after the fourth step, with its checkpoint written."""
    after = Progress.after_step

    def ending(self: Progress, state: Any, made: int, speed: float, left: float) -> None:
        after(self, state, made, speed, left)
        if made == 4:
            state.writer.finish()
            raise SystemExit(3)

    Progress.after_step = ending  # type: ignore[method-assign]
    return finetuning._train_member(*given)


def sleeps(folder: Path) -> None:
    """A process of a group that says that it is there, and stays."""
    (folder / str(os.getpid())).touch()
    time.sleep(3600)


def tells_its_environment() -> dict[str, str]:
    """The environment of a process of a group, as the kernel has it."""
    processes.total(0.0)
    return {
        **os.environ,
        **dict(line.split("=", 1) for line in Path("/proc/self/environ").read_text().split("\0") if line),
    }
