"""A use case's file is read once, as it is written: a key that stands there twice is a mistake, not a choice."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from llmops_tasks import config
from llmops_tasks.errors import ConfigError
from tests.support import tiny

TEXT = tiny.TRIAGE.read_text(encoding="utf-8")


def _lines(text: str, key: str) -> list[int]:
    return [number for number, line in enumerate(text.splitlines(), 1) if line.strip().startswith(f"{key}:")]


def _load(folder: Path, text: str) -> config.UseCase:
    (folder / "demo.yaml").write_text(text, encoding="utf-8")
    return config.load(str(folder / "demo.yaml"))


def test_a_key_that_stands_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    """YAML's own loader would keep the last, and nobody would know."""
    text = TEXT.replace("finetune:\n", "finetune:\n  seed: 1\n", 1)
    first, second = _lines(text, "seed")[:2]
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert caught.value.problems == [f"line {second}: 'seed' stands on line {first} already; keep one of them"]
    assert "demo.yaml has 1 mistake(s)" in str(caught.value)


def test_sections_and_columns_that_stand_twice_are_all_told_at_once(tmp_path: Path) -> None:
    text = TEXT + '\n"gate": {min_n: 1}\ntask: {type: classification, type: generation}\n'
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert [problem.split("'")[1] for problem in caught.value.problems] == ["type", "gate", "task"]


def test_the_same_key_in_two_sections_is_none_of_it(tmp_path: Path) -> None:
    assert len(_lines(TEXT, "uri")) > 1
    assert _load(tmp_path, TEXT) == config.load("triage")


def test_what_is_merged_may_be_overridden(tmp_path: Path) -> None:
    """That is what YAML's merge key is for."""
    raw = yaml.safe_load(TEXT)
    common = yaml.safe_dump({"finetune": raw.pop("finetune")}).replace("finetune:", "finetune:\n  <<: {rank: 2}", 1)
    assert _load(tmp_path, yaml.safe_dump(raw) + common).finetune == config.load("triage").finetune


def test_a_policy_is_read_as_strictly(tmp_path: Path) -> None:
    raw = yaml.safe_load(TEXT) | {"selection": {"policy": "policy.yaml"}}
    (tmp_path / "policy.yaml").write_text(config.loading.POLICY.read_text(encoding="utf-8") * 2, encoding="utf-8")
    _load(tmp_path, yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=r"policy\.yaml has 6 mistake[^$]*'version' stands on line 2 already"):
        config.policy(str(tmp_path / "demo.yaml"))
