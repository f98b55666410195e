"""One door for two: what programs say goes to the child, all else to the command line."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from llmops_tasks.__main__ import main


@pytest.fixture(autouse=True)
def _given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"usecase": "triage"}'))


def _said(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


def test_a_program_gets_an_envelope_and_a_person_the_result(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["release.verify_ledger", "--json", "-"]) == 0
    enveloped = _said(capsys)
    assert main(["release", "verify-ledger", "triage", "--json"]) == 0
    assert enveloped == {"result": _said(capsys)}


def test_the_childs_errors_end_with_one_and_a_persons_by_their_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["no.verb", "--json", "-"]) == 1
    assert _said(capsys)["error"]["type"] == "InputError"
    assert main(["release", "verify-ledger", "no_such", "--json"]) == 4
    assert _said(capsys)["error"]["type"] == "InputError"


def test_no_word_is_answered_with_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "Usage: llmops" in capsys.readouterr().err
