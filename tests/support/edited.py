"""The shipped use case with some values replaced."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks import config
from llmops_tasks.errors import ConfigError
from tests.support import tiny

Mistakes = list[tuple[str, dict[str, Any], str]]  # what it is about, the values, and what is said of them


def write(folder: Path, changes: dict[str, Any], name: str = "demo", shipped: Path = tiny.TRIAGE) -> str:
    """A shipped use case with some values replaced; dotted paths, None removes."""
    raw = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    for path, value in changes.items():
        *parents, last = path.split("/")
        at = raw
        for part in parents:
            at = at[int(part) if part.isdigit() else part]
        if value is None:
            del at[last]
        else:
            at[last] = value
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return str(file)


def check_mistake(folder: Path, changes: dict[str, Any], message: str, shipped: Path = tiny.TRIAGE) -> None:
    """One mistake, and nothing else, is told."""
    with pytest.raises(ConfigError) as caught:
        config.load(write(folder, changes, shipped=shipped))
    assert (message in str(caught.value), len(caught.value.problems)) == (True, 1), caught.value.problems
