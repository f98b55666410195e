"""Which base models there are to choose from, and the rules of the choice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks import config
from llmops_tasks.errors import ConfigError
from tests.support.edited import Mistakes, check_mistake, write

MISTAKES: Mistakes = [
    ("digest", {"base_model/sha256": "abc"}, "base_model.sha256: string should match pattern"),
    ("candidates alike", {"selection/candidates/0/name": "current"}, "selection: candidates need unique names"),
    (
        "unknown in a candidate",
        {"selection/candidates/0/license": "x"},
        "license: unknown key. Did you mean 'licence'?",
    ),
    ("no sample", {"selection/sample": 3}, "selection.sample: input should be greater than or equal to 20; given: 3"),
]


@pytest.mark.parametrize(("changes", "message"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_named_with_its_place(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    check_mistake(tmp_path, changes, message)


def _policy(folder: Path, **changes: Any) -> str:
    """A use case with a policy of its own: the shipped one with some values replaced."""
    raw = yaml.safe_load(config.POLICY.read_text(encoding="utf-8"))
    licences = {**raw["licences"], **changes.pop("licences", {})}
    (folder / "own.yaml").write_text(yaml.safe_dump({**raw, **changes, "licences": licences}))
    return write(folder, {"selection/policy": "own.yaml"})


POLICY: list[tuple[dict[str, Any], str]] = [
    ({"licences": {"allowed": []}}, "licences.allowed: list should have at least 1 item"),
    ({"licences": {"allowed": ["mit", "gemma"]}}, "licences: both allowed and refused: ['gemma']"),
    (
        {"licences": {"accepted": {"gema": "me"}}},
        "licences: accepted names 'gema', which is not refused. Did you mean 'gemma'?",
    ),
    ({"licences": {"alowed": ["mit"]}}, "licences.alowed: unknown key. Did you mean 'allowed'?"),
    ({"max_disk_mb": 3}, "max_disk_mb: unknown key. Did you mean 'max_disk_mib'?"),
    ({"min_tokens_per_second": 0}, "min_tokens_per_second: input should be greater than 0"),
    ({"rank": "best"}, "rank: input should be 'few_shot', 'zero_shot' or 'bits_per_character'; given: 'best'"),
]


@pytest.mark.parametrize(("changes", "message"), POLICY, ids=[m[1].split(":")[0] for m in POLICY])
def test_a_mistake_in_a_policy_is_named_with_its_place(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = _policy(tmp_path, **changes)
    with pytest.raises(ConfigError) as caught:
        config.policy(path)
    assert message in str(caught.value) and "own.yaml has 1 mistake(s)" in str(caught.value)


def test_a_policy_is_looked_for_beside_the_use_case_else_the_shipped_one_counts(tmp_path: Path) -> None:
    assert config.policy(write(tmp_path, {})).rank == "few_shot"
    assert config.policy(_policy(tmp_path, rank="zero_shot")).rank == "zero_shot"
    (tmp_path / "own.yaml").unlink()
    with pytest.raises(ConfigError, match=r"selection.policy: no file at '.*own.yaml'"):
        config.policy(str(tmp_path / "demo.yaml"))
