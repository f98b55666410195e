"""What `process` starts: JSON comes in, JSON goes out, and what goes wrong is said as JSON."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import child
from llmops_tasks.process import SETTINGS
from tests.support import small
from tests.support.tiny import ROOT


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a verb with this text on standard input: its exit code, and what it says."""

    def run(name: str, text: str) -> tuple[int, Any]:
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        code = child.run(name)
        return code, json.loads(capsys.readouterr().out)

    return run


def test_arguments_come_and_the_result_leaves_as_json(say: Any) -> None:
    nothing = {"entries": 0, "head_sha256": "0" * 64, "witnesses": 0}
    assert say("release.verify_ledger", '{"usecase": "triage"}') == (0, {"result": nothing})


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"usecas": "triage"}', "{}"])
def test_bad_json_from_standard_input_is_an_input_error(say: Any, text: str) -> None:
    code, said = say("release.verify_ledger", text)
    assert (code, said["error"]["type"]) == (1, "InputError")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "missing a required argument: 'usecase'"),
        ({"usecase": "triage", "date": "../x"}, "Allowed: YYYY-MM-DD"),
        ({"usecase": "triage", "date": "20260330"}, "Allowed: YYYY-MM-DD"),
        ({"usecase": "../../etc/passwd"}, "Allowed: a-z, 0-9 and _"),
    ],
)
def test_a_bad_argument_is_one_json_error(say: Any, given: dict[str, str], message: str) -> None:
    code, said = say("data.ingest", json.dumps(given))
    assert (code, said["error"]["type"]) == (1, "InputError")
    assert message in said["error"]["message"]


def test_a_near_miss_is_answered_with_the_nearest_verb(say: Any) -> None:
    code, said = say("data.ingst", "{}")
    assert (code, said["error"]["type"]) == (1, "InputError")
    assert "Did you mean 'data.ingest'?" in said["error"]["message"]


def test_a_verbs_own_error_keeps_its_name(say: Any, tmp_path: Path) -> None:
    usecase = small.usecase(tmp_path, {"uri": f"file://{tmp_path}/none.csv"})
    code, said = say("data.ingest", json.dumps({"usecase": usecase}))
    assert (code, said["error"]["type"]) == (1, "SourceError")


def test_no_telemetry_is_sent_unless_somebody_wants_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hugging Face's client reads this once, when it is imported; TRL tells of every trainer that is made."""
    for name in SETTINGS:
        monkeypatch.setenv(name, "set, so that it is put back")
        monkeypatch.delenv(name)
    monkeypatch.setenv("DO_NOT_TRACK", "false")
    child.prepare()
    assert {name: os.environ[name] for name in SETTINGS} == {**SETTINGS, "DO_NOT_TRACK": "false"}


def test_what_a_verb_writes_is_for_its_owner_only() -> None:
    before = os.umask(0)
    try:
        child.prepare()
        assert os.umask(0) == 0o077
    finally:
        os.umask(before)


def test_a_child_imports_nothing_that_is_for_people() -> None:
    """Every isolated task pays for what is imported here."""
    code = (
        'import io, sys; sys.stdin = io.StringIO(\'{"usecase": "triage"}\')\n'
        "from llmops_tasks.__main__ import main\n"
        "assert main(['release.verify_ledger', '--json', '-']) == 0\n"
        "assert not {'click', 'rich', 'llmops_tasks.cli', 'llmops_tasks.doctor'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
