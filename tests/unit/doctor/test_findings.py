"""What several checks look at is read without being made, and without trust in it."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops_tasks.doctor import findings


def test_looking_does_not_make_the_home(home: Path) -> None:
    assert findings.home() == home
    assert findings.stack() == {}
    assert not home.exists()


@pytest.mark.parametrize(
    ("text", "found"), [('{"airflow": "http://x"}', {"airflow": "http://x"}), ("{", {}), ("1", {})]
)
def test_a_torn_note_of_what_runs_is_none(home: Path, text: str, found: dict[str, str]) -> None:
    home.mkdir()
    (home / "stack.json").write_text(text)
    assert (findings.stack()) == found


def test_a_package_has_a_version_or_none() -> None:
    assert findings.version("pytest")[0].isdigit()
    assert findings.version("no-such-package") == ""


def test_what_is_well_needs_no_fix_and_all_else_does() -> None:
    assert findings.ok("a", "b") == {"check": "a", "status": "ok", "found": "b", "fix": ""}
    for make, status in (
        (findings.warning, "warning"),
        (findings.problem, "problem"),
        (findings.unknown, "not checked"),
    ):
        assert make("a", "b", "c") == {"check": "a", "status": status, "found": "b", "fix": "c"}
