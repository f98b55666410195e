"""From a verb's docstring, in Google's style, to the parts that its help shows.

https://google.github.io/styleguide/pyguide.html#38-comments-and-docstrings
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

_SECTION = re.compile(r"^(Args|Returns|Raises|Example):\n((?:[ \t]+.*\n?|\n)+)", re.MULTILINE)
_ITEM = re.compile(r"^(\w+): ((?:.*\n?)(?:[ \t]+.*\n?)*)", re.MULTILINE)


@dataclass(frozen=True)
class Docstring:
    """What a docstring says."""

    summary: str
    text: str  # all that stands before the first section, the summary included
    args: dict[str, str]
    returns: str
    raises: dict[str, str]
    example: str


def parsed(function: Callable[..., Any]) -> Docstring:
    """A function's docstring by its sections; those that it has not are empty."""
    whole = inspect.getdoc(function) or ""
    sections = {name: inspect.cleandoc(f"\n{body}") for name, body in _SECTION.findall(f"{whole}\n")}
    text = _SECTION.split(f"{whole}\n", maxsplit=1)[0].strip()
    return Docstring(
        summary=_joined(text.partition("\n\n")[0]),
        text=text,
        args=_items(sections.get("Args", "")),
        returns=_joined(sections.get("Returns", "")),
        raises=_items(sections.get("Raises", "")),
        example=sections.get("Example", ""),
    )


def _items(section: str) -> dict[str, str]:
    return {name: _joined(said) for name, said in _ITEM.findall(section)}


def _joined(lines: str) -> str:
    return " ".join(lines.split())


def command(name: str, example: str) -> str:
    """An example in Python, `>>> verb(key=value)`, as it is typed; what is no constant stands in a file."""
    call = next(node for node in ast.walk(ast.parse(example.removeprefix(">>> "))) if isinstance(node, ast.Call))
    given = {str(keyword.arg): keyword.value for keyword in call.keywords}
    return " ".join(["llmops", name, *(word for key, value in given.items() for word in _typed(key, value))])


def _typed(key: str, value: ast.expr) -> list[str]:
    option = f"--{key.replace('_', '-')}"
    if not isinstance(value, ast.Constant):
        return [option, f"@{key}.json"]
    if isinstance(value.value, bool):
        return [option if value.value else f"--no-{option[2:]}"]
    word = shlex.quote(value.value if isinstance(value.value, str) else json.dumps(value.value))
    return [word] if key == "usecase" else [option, word]
