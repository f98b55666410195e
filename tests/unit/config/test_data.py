"""From a source to a dataset, as a use case says it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from tests.support.edited import Mistakes, check_mistake

MISTAKES: Mistakes = [
    ("unknown role", {"data/columns/sex/role": "inputs"}, "data.columns.sex.role: input should be 'id', 'group'"),
    ("scheme", {"data/source/uri": "http://host/x.csv"}, "data.source.uri: Address 'http://host/x.csv'"),
    ("long delimiter", {"data/source/delimiter": ";;"}, "data.source.delimiter: string should have at most 1"),
    ("increments of a day", {"batch/source/incremental": "objects"}, "batch.source.incremental: unknown key. Known: ["),
    ("a watched day", {"batch/source/watch_seconds": 5}, "batch.source.watch_seconds: unknown key. Known: ["),
    ("split sum", {"data/split/train": 0.9}, "data.split: train + validation + test must be 1"),
]


@pytest.mark.parametrize(("changes", "message"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_named_with_its_place(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    check_mistake(tmp_path, changes, message)


def test_addresses_know_two_variables_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.expand("file://${LLMOPS_HOME}/a") == f"file://{home}/a"
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/x/")
    assert config.expand("${LLMOPS_STORE}/a") == "s3://bucket/x/a"
    monkeypatch.setenv("SECRET", "hidden")
    assert config.expand("file:///${SECRET}") == "file:///${SECRET}"


def test_columns_are_found_by_role() -> None:
    data = config.load("triage").data
    assert data.named("leakage") == ["nurse_level", "disposition"]
    assert data.one("label") == "triage_level"
