"""The audit fails for what is open, and never says that nothing was found where nobody was asked."""

from __future__ import annotations

import datetime
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import tiny

sys.path.insert(0, str(tiny.ROOT / "scripts"))
import audit

FOUND = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2"], "description": "bad"}
CLEAN = {"name": "good", "version": "1", "vulns": []}
BAD = {"name": "bad", "version": "1", "vulns": [FOUND]}
SKIPPED = {"name": "odd", "skip_reason": "not found"}


@pytest.fixture
def pip_audit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A program of that name which says what it is told to."""

    def make(out: str, err: str = "", code: int = 0) -> None:
        (tmp_path / "out").write_text(out)
        (tmp_path / "err").write_text(err)
        program = tmp_path / "pip-audit"
        program.write_text(f"#!/bin/sh\ncat {tmp_path}/out\ncat {tmp_path}/err >&2\nexit {code}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return make


@pytest.fixture
def accepting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A file of accepted vulnerabilities with one entry."""

    def make(**entry: Any) -> None:
        lines = [f"{key} = {value if key == 'until' else json.dumps(value)}" for key, value in entry.items()]
        (tmp_path / "accepted.toml").write_text("[[accepted]]\n" + "\n".join(lines))
        monkeypatch.setattr(audit, "ACCEPTED", tmp_path / "accepted.toml")

    return make


def _found(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_a_vulnerability_fails_and_is_named(pip_audit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pip_audit(_found(CLEAN, BAD, SKIPPED), code=1)
    assert audit.main() == 1
    said = capsys.readouterr().out
    assert "bad 1: PYSEC-1, mended in 2" in said and "not audited: odd" in said and "2 packages audited, 1 open" in said


def test_nothing_found_is_no_failure(pip_audit: Any, capsys: pytest.CaptureFixture[str]) -> None:
    pip_audit(_found(CLEAN))
    assert audit.main() == 0
    assert "NOT AUDITED" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-1"])
def test_what_is_accepted_ends_on_its_day(pip_audit: Any, accepting: Any, name: str) -> None:
    pip_audit(_found(BAD), code=1)
    today = datetime.date.today()
    accepting(id=name, reason="never called", until=today)
    assert audit.main() == 0
    accepting(id=name, reason="never called", until=today - datetime.timedelta(days=1))
    assert audit.main() == 1


@pytest.mark.parametrize("missing", ["reason", "until"])
def test_nothing_is_accepted_without_a_reason_and_a_day(accepting: Any, missing: str) -> None:
    entry = {"id": "PYSEC-1", "reason": "never called", "until": datetime.date.today()}
    accepting(**{key: value for key, value in entry.items() if key != missing})
    with pytest.raises(SystemExit, match="an entry is id, reason and until"):
        audit.main()


@pytest.mark.parametrize(
    ("out", "err"),
    [("", "pip_audit._service.interface.ServiceError: Max retries exceeded"), (_found(SKIPPED, SKIPPED), "")],
    ids=["no answer", "an index without advisories"],
)
def test_a_service_out_of_reach_is_said_and_is_no_clean_bill(
    pip_audit: Any, capsys: pytest.CaptureFixture[str], out: str, err: str
) -> None:
    pip_audit(out, err, code=1 if err else 0)
    assert audit.main() == 0
    assert capsys.readouterr().out.strip().splitlines()[-1].startswith("NOT AUDITED: ")


def test_an_audit_that_breaks_otherwise_fails(pip_audit: Any) -> None:
    pip_audit("", "KeyError: requirements", code=1)
    with pytest.raises(SystemExit, match="pip-audit failed: KeyError"):
        audit.main()


def test_the_whole_image_is_asked_about() -> None:
    assert all((tiny.ROOT / name).exists() for name in audit.LOCKS)
    assert "make audit" in (tiny.ROOT / ".ci" / "run").read_text(encoding="utf-8")
