"""Every shipped use case loads and renders; the published schema is the model's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llmops_tasks import config
from llmops_tasks.prompts import templates

FOLDER = Path(__file__).parents[2] / "include" / "usecases"
FILES = sorted(FOLDER.glob("*.yaml"))


def test_there_is_a_use_case() -> None:
    assert "triage" in [path.stem for path in FILES]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_loads(path: Path) -> None:
    case = config.load(str(path))
    assert case.description and case.owner
    assert set(case.gate.beats) <= set(case.evaluation.baselines)  # what is to be beaten is measured


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
        text = templates.render_text(case, row)
        prompt = templates.render_prompt(case, text)
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
