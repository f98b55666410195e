"""The shell's way in: every verb can be reached, nothing else can, and what goes wrong is said as JSON."""

from __future__ import annotations

import inspect
import io
import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import __main__ as shell
from llmops_tasks.errors import InputError
from llmops_tasks.process import SETTINGS
from tests.support import small


def _say(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code = shell.main(list(words))
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", shell.verbs())
def test_every_verb_of_the_tables_is_a_function_with_named_arguments(name: str) -> None:
    verb = shell.resolve(name)
    kinds = {parameter.kind for parameter in inspect.signature(verb).parameters.values()}
    assert kinds <= {inspect.Parameter.KEYWORD_ONLY}
    assert inspect.getdoc(verb)


@pytest.mark.parametrize("room", shell.ROOMS)
def test_a_rooms_table_names_functions_where_they_are(room: str) -> None:
    package = import_module(f"llmops_tasks.{room}")
    for verb, module in package.VERBS.items():
        assert getattr(package, verb) is getattr(import_module(f"llmops_tasks.{room}.{module}"), verb)
    with pytest.raises(AttributeError, match="has no verb 'nothing'"):
        _ = package.nothing


@pytest.mark.parametrize(
    "name",
    ["os:system", "data._rows", "store.objects.remove_folder", "data.ingestion.ingest", "../x", "data.ingst", ""],
)
def test_nothing_outside_the_table_can_be_reached(name: str) -> None:
    with pytest.raises(InputError, match=r"No verb .* Known: \["):
        shell.resolve(name)


def test_a_near_miss_is_answered_with_the_nearest_verb(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = _say(capsys, "data.ingst")
    assert code == 1
    assert said["error"]["type"] == "InputError"
    assert "Did you mean 'data.ingest'?" in said["error"]["message"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--usecas", "triage"], "Did you mean 'usecase'?"),
        (["--usecase"], "unknown or has no value"),
        ([], "missing a required argument: 'usecase'"),
        (["--usecase", "triage", "--date", "../x"], "Allowed: YYYY-MM-DD"),
        (["--usecase", "triage", "--date", "20260330"], "Allowed: YYYY-MM-DD"),
        (["../../etc/passwd"], "Allowed: a-z, 0-9 and _"),
    ],
)
def test_a_bad_argument_is_one_json_error(capsys: pytest.CaptureFixture[str], words: list[str], message: str) -> None:
    code, said = _say(capsys, "data.ingest", *words)
    assert (code, said["error"]["type"]) == (1, "InputError")
    assert message in said["error"]["message"]


def test_a_verbs_own_error_keeps_its_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    usecase = small.usecase(tmp_path, {"uri": f"file://{tmp_path}/none.csv"})
    code, said = _say(capsys, "data.ingest", usecase)
    assert (code, said["error"]["type"]) == (1, "SourceError")


def test_a_verbs_result_is_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = _say(capsys, "release.verify_ledger", "--usecase", "triage")
    assert (code, said) == (0, {"entries": 0, "head_sha256": "0" * 64, "witnesses": 0})


def test_a_bare_first_word_is_the_use_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert _say(capsys, "release.verify_ledger", "triage") == _say(
        capsys, "release.verify_ledger", "--usecase", "triage"
    )


def test_arguments_may_come_as_json_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"usecase": "triage"}'))
    assert _say(capsys, "release.verify_ledger", "--json", "-")[1]["result"]["entries"] == 0


@pytest.mark.parametrize("text", ["", "{", "[1]", '{"usecas": "triage"}'])
def test_bad_json_from_standard_input_is_an_input_error(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    code, said = _say(capsys, "release.verify_ledger", "--json", "-")
    assert (code, said["error"]["type"]) == (1, "InputError")


def test_values_are_read_by_what_the_verb_wants() -> None:
    rollback = shell.resolve("release.rollback")
    words = ["triage", "--version", "3", "--reason", "true", "--by", "me"]
    assert shell.arguments(rollback, words) == {"usecase": "triage", "version": "3", "reason": "true", "by": "me"}
    validate = shell.resolve("data.validate")
    words = ["--usecase", "triage", "--records", '{"uri": "file:///x"}', "--labelled", "false"]
    assert shell.arguments(validate, words) == {"usecase": "triage", "records": {"uri": "file:///x"}, "labelled": False}
    notes = shell.arguments(shell.resolve("data.write_triage"), ["--out", "file:///x", "--notes", "30"])
    assert notes == {"out": "file:///x", "notes": 30}


def test_the_list_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert shell.main(["list"]) == 0
    assert set(shell.verbs()) <= set(capsys.readouterr().out.split())


def test_a_verb_from_the_shell_sends_no_telemetry_unless_somebody_wants_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Hugging Face's client reads this once, when it is imported; TRL tells of every trainer that is made."""
    for name in SETTINGS:
        monkeypatch.setenv(name, "set, so that it is put back")
        monkeypatch.delenv(name)
    monkeypatch.setenv("DO_NOT_TRACK", "false")
    shell.main(["list"])
    assert {name: os.environ[name] for name in SETTINGS} == {**SETTINGS, "DO_NOT_TRACK": "false"}
