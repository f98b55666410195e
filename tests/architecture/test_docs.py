"""What the documentation shows can be typed: every command, every example, every file that is named."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from llmops_tasks.cli import app
from llmops_tasks.verbs import resolve, verbs

ROOT = Path(__file__).parents[2]
# At the beginning of a line or comment, or of what stands between backticks; three spaces begin an explanation.
COMMAND = re.compile(
    r"(?:^#? *|`|\$ )(?:\.venv/bin/)?(?:llmops|python -m llmops_tasks) (?P<words>[a-z](?:(?! {3})[^`\n#|>])*)", re.M
)
FILES = [
    *ROOT.glob("*.md"),
    *(path for path in ROOT.glob("docs/**/*.md") if path.name != "log.md"),  # which tells of its time
    *ROOT.glob("include/usecases/*.yaml"),
    *ROOT.glob("llmops_tasks/**/*.py"),
]


def _commands() -> Iterator[tuple[str, str]]:
    for path in FILES:
        for found in COMMAND.finditer(path.read_text(encoding="utf-8")):
            yield str(path.relative_to(ROOT)), found["words"].strip()


def _understood(words: str) -> None:
    """Take the words as the command line does; nothing is run."""
    command, rest = app.app(), shlex.split(words)
    context = click.Context(command, info_name="llmops")
    while isinstance(command, click.Group):
        _, found, rest = command.resolve_command(context, rest)
        assert found is not None, words
        context, command = click.Context(found, parent=context, info_name=found.name), found
    _, left, _ = command.make_parser(context).parse_args(rest)
    assert not left, f"too many words: {left}"


@pytest.mark.parametrize(("file", "words"), [pair for pair in _commands() if "--json -" not in pair[1]])
def test_a_command_that_is_shown_exists(file: str, words: str) -> None:
    _understood(words)


@pytest.mark.parametrize("words", ["data ingst", "data.ingest triage", "chain triage --untli gate", "data ingest a b"])
def test_the_rule_above_notices(words: str) -> None:
    with pytest.raises((click.UsageError, AssertionError)):
        _understood(words)


@pytest.mark.parametrize("verb", verbs())
def test_a_verbs_example_can_be_typed(verb: str) -> None:
    function = inspect.unwrap(resolve(verb))
    (line,) = re.findall(r">>> (.*)", function.__doc__ or "")
    statement = ast.parse(line).body[0]
    assert isinstance(statement, ast.Assign | ast.Expr) and isinstance(statement.value, ast.Call)
    assert ast.unparse(statement.value.func) == function.__name__
    given = {keyword.arg: ast.unparse(keyword.value) for keyword in statement.value.keywords}
    inspect.signature(function).bind(*statement.value.args, **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix == ".md"], ids=lambda path: path.name)
def test_a_link_leads_to_a_file(path: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text(encoding="utf-8"))
    assert [link for link in links if not (path.parent / link).exists()] == []
