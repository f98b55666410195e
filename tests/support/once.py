"""What is expensive is made once a session, also where pytest runs in several processes."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock


def once(factory: pytest.TempPathFactory, name: str, build: Callable[[Path], Any]) -> Any:
    """What `build` returned, as JSON keeps it. The first process to ask runs it, in a folder that the others read.

    A build that fails is tried again by whoever asks next.
    """
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    done = shared / f"{name}.json"
    with FileLock(shared / f"{name}.lock"):
        if not done.exists():
            shutil.rmtree(shared / f"{name}0", ignore_errors=True)
            (shared / f"{name}0").mkdir()
            done.write_text(json.dumps(build(shared / f"{name}0")), encoding="utf-8")
    return json.loads(done.read_text(encoding="utf-8"))
