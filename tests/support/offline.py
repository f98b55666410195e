"""Puts the guard against the network into this process and into all that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

GUARD = Path(__file__).parent / "guard"
RECORD = "LLMOPS_TEST_NETWORK"


def begin(folder: Path) -> None:
    """Refuse, and note in this folder, whatever leaves this machine from now on. It cannot be undone."""
    os.environ[RECORD] = str(folder)
    os.environ["PYTHONPATH"] = _guarded(os.environ.get("PYTHONPATH", ""))
    _guard_children()
    sys.path.insert(0, str(GUARD))
    sys.modules.pop("sitecustomize", None)  # the machine may have one of its own
    import sitecustomize

    assert Path(str(sitecustomize.__file__)).parent == GUARD


def _guarded(path: str) -> str:
    return path if str(GUARD) in path.split(os.pathsep) else os.pathsep.join(filter(None, [str(GUARD), path]))


def _guard_children() -> None:
    """Also a child that is given an environment of its own."""
    start = subprocess.Popen.__init__

    def guarded(self: Any, *args: Any, env: Any = None, **settings: Any) -> None:
        if env is not None:
            env = {**env, RECORD: os.environ[RECORD], "PYTHONPATH": _guarded(env.get("PYTHONPATH", ""))}
        start(self, *args, env=env, **settings)

    subprocess.Popen.__init__ = guarded  # type: ignore[method-assign]


def started() -> list[str]:
    """The commands of all processes that the guard was in."""
    return _lines("started")


def refused() -> list[str]:
    """What was tried."""
    return _lines("refused")


def _lines(name: str) -> list[str]:
    path = Path(os.environ[RECORD]) / name
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
