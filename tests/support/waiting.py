"""Work for several processes; in a module that a new process can import."""

from __future__ import annotations

import os
import time
from pathlib import Path

from llmops_tasks.training import processes


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


def tells_its_environment() -> dict[str, str]:
    """The environment of a process of a group, as the kernel has it."""
    processes.total(0.0)
    return {
        **os.environ,
        **dict(line.split("=", 1) for line in Path("/proc/self/environ").read_text().split("\0") if line),
    }
