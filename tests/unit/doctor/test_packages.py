"""What is installed is held against what the project asks for."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from llmops_tasks.doctor import packages


def _found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *lines: str) -> tuple[str, str]:
    (tmp_path / "requirements.txt").write_text("\n".join(lines))
    monkeypatch.setattr(packages, "REQUIREMENTS", tmp_path / "requirements.txt")
    (found,) = packages.packages()
    return found["status"], found["found"]


def test_the_shipped_requirements_are_met_here() -> None:
    (found,) = packages.packages()
    assert found["status"] == "ok"
    wanted = [line for line in packages.REQUIREMENTS.read_text().splitlines() if line and not line.startswith("#")]
    assert found["found"] == f"all {len(wanted)} fit"


def test_what_is_absent_or_too_old_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ("# a comment", "", "pytest>=1", "no-such-package>=2", "click>=999", "-r other.txt")
    status, said = _found(tmp_path, monkeypatch, *lines)
    assert status == "problem"
    assert said == f"no-such-package is absent, wanted: >=2; click is {metadata.version('click')}, wanted: >=999"


def test_a_name_alone_is_met_by_any_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _found(tmp_path, monkeypatch, "pytest") == ("ok", "all 1 fit")
    assert _found(tmp_path, monkeypatch, "no-such-package")[1] == "no-such-package is absent, wanted: any"


def test_a_build_of_a_version_is_that_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """torch's CPU build calls itself 2.13.0+cpu; a pre-release fits, too."""
    monkeypatch.setattr(packages, "version", {"torch": "2.13.0+cpu", "x": "2.0rc1"}.__getitem__)
    assert _found(tmp_path, monkeypatch, "torch==2.13.0", "x>=1")[0] == "ok"


def test_what_is_for_other_machines_is_not_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _found(tmp_path, monkeypatch, "no-such-package>=2; sys_platform == 'none'")[0] == "ok"


def test_without_the_file_the_installed_project_says_what_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "REQUIREMENTS", Path("/no/such/file"))
    monkeypatch.setattr(packages.metadata, "requires", lambda name: {"llmops-airflow": ["click>=999"]}[name])
    (found,) = packages.packages()
    assert found["status"] == "problem" and "click is" in found["found"]


def test_without_either_nothing_is_claimed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> list[str]:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packages, "REQUIREMENTS", Path("/no/such/file"))
    monkeypatch.setattr(packages.metadata, "requires", missing)
    (found,) = packages.packages()
    assert found["status"] == "not checked" and "make install" in found["fix"]
