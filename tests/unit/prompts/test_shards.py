"""Shards follow from their items and what all have in common; one that is there is not built again."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.prompts import shards
from llmops_tasks.store import artifacts


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SIZE", 2)


def _kept(items: list[int], built: list[Any], **inputs: Any) -> list[list[int]]:
    def build(some: Sequence[int], out: Path) -> dict[str, Any]:
        built.append(list(some))
        (out / "squares.json").write_text(json.dumps([item * item for item in some]))
        return {"rows": len(some)}

    found = shards.kept(usecase="tiny", kind="squares", items=items, inputs=inputs, build=build)
    return [json.loads((artifacts.fetch(ref) / "squares.json").read_bytes()) for ref in found]


def test_consecutive_items_are_built_together_once_and_come_in_order() -> None:
    built: list[Any] = []
    assert _kept([1, 2, 3, 4, 5], built, code="a") == [[1, 4], [9, 16], [25]] and built == [[1, 2], [3, 4], [5]]
    assert _kept([1, 2, 3, 4, 6], built, code="a")[2] == [36] and built[3:] == [[6]]
    _kept([1, 2], built, code="b")
    assert built[4:] == [[1, 2]]
    assert _kept([], built, code="a") == []


def test_how_far_it_is_stands_in_the_log_without_an_item(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    _kept([777, 778, 779], [], code="a")
    lines = [line for line in caplog.messages if "records/s" in line]
    assert [line.split(",")[0] for line in lines] == ["squares: 2 of 3 records", "squares: 3 of 3 records"]
    assert lines[-1].endswith(" 0 s left") and "777" not in caplog.text
