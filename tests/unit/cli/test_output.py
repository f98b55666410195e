"""A table for people, lines for pipes, JSON for programs; whatever is no result goes to standard error."""

from __future__ import annotations

import io
import json
import logging
import sys
from typing import Any

import pytest
from rich.console import Console

from llmops_tasks.cli import output

ROWS = [{"version": "1", "verdict": "pass"}, {"version": "2", "n": 3}]
NESTED = {"usecase": "x", "release": {"uri": "file:///" + "long/" * 30, "rows": 3}, "days": ["a", "b"], "none": None}


def _on_terminal(value: Any, width: int = 60) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    output.show(value, False, console)
    return console.file.getvalue()  # type: ignore[attr-defined,no-any-return]


def test_json_is_one_line_and_exact(capsys: pytest.CaptureFixture[str]) -> None:
    output.show(NESTED, True)
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and json.loads(said) == NESTED


def test_what_json_cannot_hold_is_no_result() -> None:
    with pytest.raises(ValueError, match="JSON"):
        output.show({"loss": float("nan")}, True)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (ROWS, ["version\tverdict\tn", "1\tpass\tnone", "2\tnone\t3"]),
        ({"a": {"b": 1, "c": ["x", True]}, "d": {}}, ["a.b\t1", "a.c.0\tx", "a.c.1\ttrue", "d\tnone"]),
        ([{"a": {"b": 1}}], ["0.a.b\t1"]),
        ({"text": "two\nlines\tand a tab"}, ["text\ttwo\\nlines\\tand a tab"]),
        ("word", ["word"]),
        (False, ["false"]),
        (None, ["none"]),
        ([], ["none"]),
    ],
)
def test_into_a_pipe_goes_a_line_a_value(value: Any, expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    output.show(value, False)
    assert capsys.readouterr().out.splitlines() == expected


def test_rows_are_a_table_on_a_terminal() -> None:
    head, first, second = (line.split() for line in _on_terminal(ROWS).splitlines())
    assert (head, first, second) == (["version", "verdict", "n"], ["1", "pass", "none"], ["2", "none", "3"])


def test_what_is_nested_is_indented_and_what_is_wide_is_wrapped_whole() -> None:
    said = _on_terminal(NESTED)
    assert max(map(len, said.splitlines())) <= 60
    assert "long/" * 30 in "".join(said.split())
    assert "days" in said and "a, b" in said
    (line,) = [line for line in said.splitlines() if "rows" in line]
    assert line.startswith(" " * 5) and line.split() == ["rows", "3"]


def test_a_table_in_markdown_is_shown_as_one() -> None:
    said = _on_terminal({"markdown": "**Pass**\n\n| metric | value |\n|---|---|\n| kappa | 0.7 |\n"})
    assert "|---|" not in said and "kappa" in said and "**" not in said


def test_marks_of_a_terminal_in_a_value_are_only_text() -> None:
    assert "[red]x[/red]" in _on_terminal({"a": "[red]x[/red]"})


def test_an_error_is_a_line_for_people_or_json_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert output.complain("InputError", "no.", 4, as_json=False) == 4
    assert capsys.readouterr() == ("", "InputError: no.\n")
    assert output.complain("InputError", "no.", 4, as_json=True) == 4
    said = capsys.readouterr()
    assert json.loads(said.out) == {"error": {"type": "InputError", "message": "no.", "exit_code": 4}}
    assert said.err == ""


def _worked(quiet: bool = False, verbose: bool = False) -> None:
    with output.working("data ingest", quiet, verbose):
        sys.stdout.write("a library prints\n")
        for name in ("llmops_tasks.x", "library"):
            for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
                logging.getLogger(name).log(level, "%s %s", name, logging.getLevelName(level))


@pytest.mark.parametrize(
    ("how", "ours", "others"),
    [
        ({}, ["INFO", "WARNING", "ERROR"], ["WARNING", "ERROR"]),
        ({"quiet": True}, ["ERROR"], ["ERROR"]),
        ({"verbose": True}, ["DEBUG", "INFO", "WARNING", "ERROR"], ["INFO", "WARNING", "ERROR"]),
    ],
)
def test_all_but_the_result_goes_to_standard_error(
    how: dict[str, bool], ours: list[str], others: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    _worked(**how)
    said = capsys.readouterr()
    assert said.out == ""
    words = [line.split(": ")[1].split() for line in said.err.splitlines() if ": " in line]
    assert [level for name, level in words if name == "llmops_tasks.x"] == ours
    assert [level for name, level in words if name == "library"] == others
    assert "a library prints" in said.err


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_shows_that_time_passes_beside_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := _Terminal())
    monkeypatch.setenv("TERM", "xterm")
    _worked()
    said = terminal.getvalue()
    assert "data ingest" in said and "0:00:00" in said
    assert "llmops_tasks.x INFO" in said and "a library prints" in said
    assert sys.stderr is terminal


def test_who_wants_quiet_sees_no_time_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := _Terminal())
    _worked(quiet=True)
    assert "data ingest" not in terminal.getvalue()


def test_quiet_is_for_libraries_with_handlers_of_their_own_too(monkeypatch: pytest.MonkeyPatch) -> None:
    library, stream = logging.getLogger("loud"), io.StringIO()
    monkeypatch.setattr(library, "handlers", [logging.StreamHandler(stream)])
    monkeypatch.setattr(library, "level", logging.INFO)
    with output.working("x", quiet=True, verbose=False):
        library.info("a word")
        library.error("an error")
    library.info("afterwards")
    assert stream.getvalue().splitlines() == ["an error", "afterwards"]


def test_logging_is_afterwards_as_it_was() -> None:
    def state() -> list[Any]:
        return [
            (logger.level, logger.handlers[:])
            for logger in map(logging.getLogger, ("", "llmops_tasks", "bitsandbytes"))
        ]

    before = state()
    with pytest.raises(ZeroDivisionError), output.working("x", quiet=False, verbose=True):
        assert state() != before
        raise ZeroDivisionError
    assert state() == before
