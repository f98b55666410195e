"""From a signature to options, and from what is typed to arguments."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from llmops_tasks.cli import options


def _verb(
    *,
    usecase: str,
    version: str,
    release: dict[str, Any],
    notes: int = 3,
    rate: float | None = None,
    whole: bool = True,
) -> None:
    pass


def _typed(*words: str, stdin: str = "") -> Any:
    """What a verb with these words on the command line is given; a text if they are refused."""
    found: dict[str, Any] = {}

    def run(**given: Any) -> None:
        found.update(options.arguments(click.get_current_context(), _verb, given))

    command = click.Command("verb", params=options.parameters(_verb, {"notes": "how many."}), callback=run)
    done = CliRunner().invoke(command, list(words), input=stdin)
    assert isinstance(done.exception, SystemExit | None)
    return found if done.exit_code == 0 else done.output


NEEDED = ("--version", "3", "--release", '{"uri": "file:///x"}')


def test_only_what_is_typed_is_handed_on() -> None:
    assert _typed("triage", *NEEDED) == {"usecase": "triage", "version": "3", "release": {"uri": "file:///x"}}


def test_values_are_read_by_what_the_verb_wants() -> None:
    more = _typed("triage", *NEEDED, "--notes", "30", "--rate", "0.5", "--no-whole")
    assert (more["notes"], more["rate"], more["whole"]) == (30, 0.5, False)
    assert _typed("triage", *NEEDED, "--whole")["whole"] is True


@pytest.mark.parametrize("words", [("triage",), ("--usecase", "triage")])
def test_the_use_case_is_the_first_word_or_named(words: tuple[str, ...]) -> None:
    assert _typed(*words, *NEEDED)["usecase"] == "triage"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (NEEDED, "Missing use case."),
        (("a", "--usecase", "b", *NEEDED), "Name one use case"),
        (("a", "b", *NEEDED), "unexpected extra argument"),
        (("a", *NEEDED[2:]), "Missing option '--version'"),
        (("a", *NEEDED, "--note", "3"), "Did you mean"),
        (("a", *NEEDED, "--notes", "three"), "'three' is not a valid integer"),
        (("a", "--version", "3", "--release", "{secret"), "is not JSON"),
        (("a", "--version", "3", "--release", "@no/such.json"), "cannot read 'no/such.json': No such file"),
        (("a", "--version", "3", "--release", "-"), "is not JSON"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_do(words: tuple[str, ...], message: str) -> None:
    said = _typed(*words)
    assert message in said
    assert "secret" not in said


def test_json_comes_from_a_file_or_from_standard_input(tmp_path: Path) -> None:
    (tmp_path / "release.json").write_text('{"uri": "é"}', encoding="utf-8")
    assert _typed("a", "--version", "3", "--release", f"@{tmp_path}/release.json")["release"] == {"uri": "é"}
    assert _typed("a", "--version", "3", "--release", "-", stdin="[1]")["release"] == [1]


def test_help_names_types_defaults_and_what_is_said() -> None:
    command = click.Command("verb", params=options.parameters(_verb, {"notes": "how many.", "usecase": "which."}))
    text = " ".join(CliRunner().invoke(command, ["--help"]).output.split())
    assert "verb [OPTIONS] USECASE" in text and "USECASE which." in text
    assert "--notes INTEGER how many. [default: 3]" in text
    assert "--release JSON [required]" in text
    assert "--rate FLOAT --whole / --no-whole [default: whole]" in text


def test_a_value_that_only_looks_like_a_file_stays_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("unread"))
    assert _typed("a", "--version", "-", *NEEDED[2:])["version"] == "-"
    assert _typed("a", "--version", "@x", *NEEDED[2:])["version"] == "@x"


def test_use_cases_are_completed_by_name_or_as_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_USECASES", str(tmp_path))
    for name in ("mine", "more", "other"):
        (tmp_path / f"{name}.yaml").touch()
    found = {word: options.complete_usecase(None, None, word) for word in ("m", "", "x", ".", "a/m")}  # type: ignore[arg-type]
    assert [item.value for item in found["m"]] == ["mine", "more"]
    assert [item.value for item in found[""]] == ["mine", "more", "other"]
    assert found["x"] == []
    assert [(item.value, item.type) for item in found["."] + found["a/m"]] == [(".", "file"), ("a/m", "file")]
