"""What a check finds, and what several checks look at."""

from __future__ import annotations

import contextlib
import json
import os
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, TypedDict

PROJECT = "llmops-airflow"


class Finding(TypedDict):
    """What one check found."""

    check: str
    status: Literal["ok", "warning", "problem", "not checked"]
    found: str
    fix: str  # what to do; empty where nothing is to be done


def ok(check: str, found: str) -> Finding:
    """All is well."""
    return {"check": check, "status": "ok", "found": found, "fix": ""}


def warning(check: str, found: str, fix: str) -> Finding:
    """It works, but not for everything."""
    return {"check": check, "status": "warning", "found": found, "fix": fix}


def problem(check: str, found: str, fix: str) -> Finding:
    """It does not work."""
    return {"check": check, "status": "problem", "found": found, "fix": fix}


def unknown(check: str, found: str, fix: str) -> Finding:
    """Could not be checked."""
    return {"check": check, "status": "not checked", "found": found, "fix": fix}


def home() -> Path:
    """`LLMOPS_HOME`, as it is: a check that only looks does not make it."""
    return Path(os.environ.get("LLMOPS_HOME", "var")).absolute()


def stack() -> dict[str, Any]:
    """What `make up` wrote about what it started."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return dict(json.loads((home() / "stack.json").read_text(encoding="utf-8")))
    return {}


def version(package: str) -> str:
    """What is installed of a package; empty if it is not."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
