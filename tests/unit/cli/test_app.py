"""The command line as a person meets it."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from llmops_tasks import doctor, errors, verbs
from llmops_tasks.cli import app, exit_codes
from tests.support import small
from tests.support.tiny import ROOT

COMMANDS = [name.replace(".", " ").replace("_", "-") for name in verbs.verbs()]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Any:
    """Type words: the exit code, standard output, standard error."""

    def run(*words: str) -> tuple[int, str, str]:
        code = app.main([*words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


# ---------------------------------------------------------------- help


def test_help_names_every_group_and_every_exit_code(say: Any) -> None:
    code, text, _ = say("--help")
    assert code == 0
    for name in ("chain", *verbs.groups(), "list", "doctor", "completion"):
        assert f"\n  {name} " in text
    for number, meaning in exit_codes.MEANINGS.items():
        assert f"{number}  {meaning}" in text


@pytest.mark.parametrize("group", verbs.groups())
def test_a_groups_help_names_its_verbs(say: Any, group: str) -> None:
    code, text, _ = say(group, "-h")
    assert code == 0
    listed = [line.split()[0] for line in text.partition("Commands:")[2].splitlines() if line[:3].strip()]
    assert listed == [name.replace("_", "-") for name in verbs.members(group)]


@pytest.mark.parametrize("command", COMMANDS)
def test_a_verbs_help_has_its_options_and_its_example(say: Any, command: str) -> None:
    code, text, _ = say(*command.split(), "--help")
    assert code == 0
    assert f"llmops {command}" in text.partition("Example:")[2]
    words = " ".join(text.split())
    assert "--json" in words and "Usage: llmops" in words
    name = command.replace(" ", ".").replace("-", "_")
    wanted = inspect.signature(verbs.resolve(name)).parameters
    assert [option for option in wanted if f"--{option.replace('_', '-')}" not in words] == []


def test_help_says_what_comes_back_and_how_it_fails(say: Any) -> None:
    _, text, _ = say("data", "ingest", "--help")
    assert 'A reference of kind "records"' in text.partition("Result:")[2]
    assert "SourceError (5)   if no file matches" in text.partition("Errors:")[2]


def test_the_list_has_every_verb_with_a_line(say: Any) -> None:
    code, text, _ = say("list")
    head, *rows = (line.split("\t") for line in text.splitlines())
    assert (code, head) == (0, ["command", "what it does"])
    assert [name for name, _ in rows] == COMMANDS and all(what for _, what in rows)
    assert [row["command"] for row in json.loads(say("list", "--json")[1])] == COMMANDS


HEAVY = "{'torch', 'transformers', 'mlflow', 'pandas', 'numpy', 'boto3', 'pyarrow', 'airflow', 'rich'}"


@pytest.mark.parametrize(
    ("words", "foreign"),
    [
        (["--help"], ["pydantic", "yaml", "llmops_tasks.data.ingestion", "llmops_tasks.doctor"]),
        (["data", "--help"], ["llmops_tasks.release", "llmops_tasks.training"]),
        (["release", "promote", "--help"], ["llmops_tasks.data", "llmops_tasks.release.rebuild"]),
    ],
)
def test_help_imports_only_what_it_is_about(words: list[str], foreign: list[str]) -> None:
    code = (
        "import sys; from llmops_tasks.__main__ import main\n"
        f"assert main({words!r}) == 0\n"
        f"found = ({HEAVY} | set({foreign!r})) & set(sys.modules)\n"
        "assert not found, found"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


# ---------------------------------------------------------------- verbs


def test_a_result_is_json_or_lines(say: Any) -> None:
    code, text, _ = say("release", "verify-ledger", "triage", "--json")
    assert (code, json.loads(text)) == (0, {"entries": 0, "head_sha256": "0" * 64, "witnesses": 0})
    code, text, _ = say("release", "verify-ledger", "triage")
    assert (code, text.splitlines()[0]) == (0, "entries\t0")


def test_names_may_be_typed_as_python_has_them(say: Any) -> None:
    assert (
        say("release", "verify_ledger", "--usecase", "triage", "--json")[:2]
        == say("release", "verify-ledger", "triage", "--json")[:2]
    )
    assert say("data", "compare_datasets", "triage", "--bef_ore", "x")[0] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["data", "ingst"], "No such command 'ingst'. Did you mean 'ingest'?"),
        (["dat"], "Did you mean 'data'?"),
        (["data.ingest", "triage"], "No such command 'data.ingest'. Did you mean 'data ingest'?"),
        (["data.build_dataset"], "Did you mean 'data build-dataset'?"),
        (["data", "ingest", "--dat", "x"], "Did you mean '--date'?"),
        (["chain"], "Missing use case."),
        (["nothing.like_it"], "No such command"),
    ],
)
def test_a_slip_is_answered_with_the_nearest_and_code_two(say: Any, words: list[str], message: str) -> None:
    code, text, complaint = say(*words)
    assert (code, text) == (2, "")
    assert message in complaint and "--help" in complaint


def test_a_slip_is_json_for_programs(say: Any) -> None:
    code, text, complaint = say("chain", "--json")
    assert (code, complaint) == (2, "")
    assert json.loads(text)["error"] == {"type": "UsageError", "message": "Missing use case.", "exit_code": 2}


@pytest.mark.parametrize("kind", sorted(exit_codes.OF_ERRORS))
def test_an_error_ends_with_the_code_of_its_kind(say: Any, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    def verb(*, usecase: str) -> None:
        """Fail."""
        raise getattr(errors, kind)("it went wrong")

    monkeypatch.setattr(verbs, "resolve", lambda _: verb)
    code, text, complaint = say("chain", "triage")
    assert (code, text, complaint) == (exit_codes.OF_ERRORS[kind], "", f"{kind}: it went wrong\n")
    code, text, _ = say("chain", "triage", "--json")
    assert json.loads(text) == {"error": {"type": kind, "message": "it went wrong", "exit_code": code}}


def test_a_verbs_own_error_says_what_to_do(say: Any, tmp_path: Path) -> None:
    usecase = small.usecase(tmp_path, {"uri": f"file://{tmp_path}/none.csv"})
    code, _, complaint = say("data", "ingest", usecase, "--quiet")
    assert code == 5 and complaint.startswith("SourceError: ")
    Path(usecase).write_text("version: 3\nowners: me\n")
    code, _, complaint = say("data", "ingest", usecase, "--quiet")
    assert code == 3 and complaint.startswith("ConfigError: small.yaml has")


def test_a_fault_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def verb(*, usecase: str) -> None:
        """Fail."""
        raise ZeroDivisionError

    monkeypatch.setattr(verbs, "resolve", lambda _: verb)
    with pytest.raises(ZeroDivisionError):
        app.main(["chain", "triage"])


def test_an_interruption_is_no_traceback(say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def verb(*, usecase: str) -> None:
        """Wait."""
        raise KeyboardInterrupt

    monkeypatch.setattr(verbs, "resolve", lambda _: verb)
    code, text, complaint = say("chain", "triage")
    assert (code, text) == (130, "") and "Interrupted" in complaint


def test_the_life_cycle_begins_and_ends_where_it_is_asked_to(say: Any, tiny_usecase: str) -> None:
    code, text, log = say("chain", tiny_usecase, "--until", "data", "--json")
    assert code == 0
    assert set(json.loads(text)) == {"control", "data"} and json.loads(text)["data"]["kind"] == "anonymized"
    assert "chain: data" in log


def test_one_command_feeds_the_next(say: Any, tiny_usecase: str, tmp_path: Path) -> None:
    _, text, _ = say("data", "ingest", tiny_usecase, "--json")
    (tmp_path / "records.json").write_text(text)
    code, text, _ = say("data", "validate", tiny_usecase, "--records", f"@{tmp_path}/records.json", "--json")
    assert code == 0 and json.loads(text)["rows"] > 0


# ---------------------------------------------------------------- beside the verbs


def _finding(status: str) -> doctor.Finding:
    return {"check": "disk", "status": status, "found": "0 GiB", "fix": "Free some."}  # type: ignore[typeddict-item]


@pytest.mark.parametrize(("status", "code"), [("problem", 1), ("warning", 0), ("not checked", 0), ("ok", 0)])
def test_the_doctor_ends_with_one_if_there_is_a_problem(
    say: Any, monkeypatch: pytest.MonkeyPatch, status: str, code: int
) -> None:
    monkeypatch.setattr(doctor, "examine", lambda usecase: [_finding(status)])
    assert say("doctor") == (code, f"check\tstatus\tfound\tfix\ndisk\t{status}\t0 GiB\tFree some.\n", "")
    found, text, _ = say("doctor", "--json")
    assert (found, json.loads(text)) == (code, {"problems": code, "findings": [_finding(status)]})


def test_the_doctor_hears_of_one_use_case(say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "examine", lambda usecase: [{**_finding("ok"), "found": usecase}])
    assert "\tmine\t" in say("doctor", "--usecase", "mine")[1]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_gets_its_script(say: Any, shell: str) -> None:
    code, text, _ = say("completion", shell)
    assert code == 0 and f"_LLMOPS_COMPLETE={shell}_complete" in text and "llmops" in text


def _completed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    monkeypatch.setenv("_LLMOPS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(["llmops", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    with pytest.raises(SystemExit):
        app.main([])
    return [line.split(",")[1] for line in capsys.readouterr().out.splitlines()]


def test_a_shell_completes_commands_use_cases_and_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _completed(monkeypatch, capsys, "da") == ["data"]
    assert _completed(monkeypatch, capsys, "data", "tr") == ["trace-dataset"]
    assert _completed(monkeypatch, capsys, "chain", "tri") == ["triage"]
    assert _completed(monkeypatch, capsys, "chain", "--usecase", "tri") == ["triage"]
    assert _completed(monkeypatch, capsys, "chain", "triage", "--un") == ["--until"]


def test_the_version_is_said_where_it_is_known(say: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.metadata, "version", lambda _: "1.2.3")
    assert say("--version")[:2] == (0, "llmops 1.2.3\n")

    def missing(name: str) -> str:
        raise app.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(app.metadata, "version", missing)
    code, _, complaint = say("--version")
    assert code == 1 and "make install" in complaint


def test_a_group_asked_for_nothing_there_is_says_so() -> None:
    group = app.app()
    assert group.get_command(click.Context(group), "no_such") is None
