"""Every shipped use case loads and renders; the published schema is the model's."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tasks import config
from llmops_tasks.prompts import interface

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "include" / "usecases"
FILES = sorted(FOLDER.glob("*.yaml"))
NAMES = [path.stem for path in FILES]


def test_there_are_three_unlike_use_cases() -> None:
    assert NAMES == ["faq", "reviews", "triage"]
    cases = [config.load(name) for name in NAMES]
    assert {case.task.type for case in cases} == {"classification", "generation"}
    assert {case.data.source.format for case in cases} == {"csv", "jsonl"}
    assert {(case.data.split.by, case.data.split.order) for case in cases} == {("group", "time"), ("record", "digest")}


def _mentions(tree: ast.Module) -> Iterator[str]:
    """Texts and names in the code that are, or hold, a shipped use case's name as a word. Docstrings may tell of one."""
    docstrings = {
        node.body[0].value
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node)
    }
    word = re.compile(rf"\b(?:{'|'.join(NAMES)})\b")
    for node in ast.walk(tree):
        found = node.value if isinstance(node, ast.Constant) else getattr(node, "id", getattr(node, "attr", None))
        if isinstance(found, str) and node not in docstrings and word.search(found):
            yield f"line {node.lineno}: {found:.40}"


SERVING_ANY = [
    path
    for folder in ("llmops_tasks", "dags", "plugins")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if not path.name.startswith("synthetic")
]


@pytest.mark.parametrize("path", SERVING_ANY, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_module_knows_a_use_case_by_name(path: Path) -> None:
    assert list(_mentions(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "code", ['if usecase == "reviews": pass', "f'var/{x}/faq/landing'", "triage = 1", "case.reviews", 'uri("/faq")']
)
def test_the_rule_above_notices(code: str) -> None:
    assert list(_mentions(ast.parse(code)))


@pytest.mark.parametrize("code", ['"""Of triage."""', "under_triage_rate = 1", '"previews"'])
def test_the_rule_above_is_not_hasty(code: str) -> None:
    assert list(_mentions(ast.parse(code))) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_only_the_use_case_of_the_demo_runs_by_the_clock(path: Path) -> None:
    """A cron over an empty landing folder would fail at every tick in the Airflow of whoever tries this out."""
    case = config.load(str(path))
    assert (case.schedule is not None) == (path.stem == "triage")
    assert case.batch is None or case.batch.schedule is None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_loads(path: Path) -> None:
    case = config.load(str(path))
    assert case.description and case.owner
    assert set(case.gate.beats) <= set(case.baselines())  # what is to be beaten is measured


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_prompt_renders_with_all_values_and_with_required_ones_only(path: Path) -> None:
    case = config.load(str(path))
    inputs = {name: case.data.columns[name] for name in case.data.named("input")}
    full = {
        name: column.values[0] if column.values else 40.0 if column.type == "number" else "a note"
        for name, column in inputs.items()
    }
    bare = {name: full[name] if column.required else None for name, column in inputs.items()}
    for row in (full, bare):
        asked = interface.of_usecase(case)
        text = asked.render_text(row)
        prompt = asked.render_prompt(text)
        assert text and text in prompt
        assert "None" not in prompt and "{{" not in prompt and "{%" not in prompt


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_editors_find_its_schema(path: Path) -> None:
    first = path.read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.rpartition("=")[2]).resolve() == FOLDER / "schema.json"


def test_the_published_schema_is_the_models() -> None:
    published = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))
    assert published == config.json_schema(), (
        "Run: python -m llmops_tasks config.schema | python -m json.tool --indent 2 > include/usecases/schema.json"
    )
