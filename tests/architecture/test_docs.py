"""What the documentation shows can be typed: every command, every example, every file that is named."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tasks.__main__ import resolve, verbs

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(r"python -m llmops_tasks (?P<verb>[a-z_]+(?:\.[a-z_]+)?)(?P<rest>[^`\n#|>]*)")
FILES = [
    *ROOT.glob("*.md"),
    *(path for path in ROOT.glob("docs/**/*.md") if path.name != "log.md"),  # which tells of its time
    *ROOT.glob("include/usecases/*.yaml"),
    *ROOT.glob("llmops_tasks/**/*.py"),
]


def _commands() -> Iterator[tuple[str, str, list[str]]]:
    for path in FILES:
        for found in COMMAND.finditer(path.read_text(encoding="utf-8")):
            if found["verb"] != "list":
                options = re.findall(r"--([a-z_]+)", found["rest"])
                yield str(path.relative_to(ROOT)), found["verb"], [name for name in options if name != "json"]


@pytest.mark.parametrize(("file", "verb", "options"), list(_commands()))
def test_a_command_that_is_shown_exists(file: str, verb: str, options: list[str]) -> None:
    assert set(options) <= set(inspect.signature(resolve(verb)).parameters), f"{file}: {verb}"


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
