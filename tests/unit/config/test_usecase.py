"""The whole file: task, gate, and what follows from its sections."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.store import digests
from tests.support.desk import FAQ
from tests.support.edited import Mistakes, check_mistake, write

MISTAKES: Mistakes = [
    ("one label", {"task/labels": [], "task/severe": []}, "task: a classification needs at least two labels"),
    ("generation with labels", {"task/type": "generation"}, "task: a generation task has no labels"),
    (
        "decoding of labels",
        {"task/decoding": {"seed": 1}},
        "task: decoding is for generation; a classification chooses",
    ),
    ("equal names", {"task/labels/1/name": "urgent", "task/severe": []}, "task: label names must differ"),
    ("equal values", {"task/labels/1/values": ["3"]}, "task: the same value stands for two labels"),
    ("unknown severe", {"task/severe": ["emergant"]}, "task: severe names unknown labels ['emergant']"),
    (
        "a mean of nothing",
        {"task/length_normalised": True},
        "task: length_normalised is for whole texts: set scoring to",
    ),
    (
        "a label called abstained",
        {"task/labels/1/name": "abstained", "task/severe": [], "task/abstain_below": 0.6},
        "task: 'abstained' is the answer below abstain_below: give the label another name",
    ),
    ("never answered", {"task/abstain_below": 1.0}, "task.abstain_below: input should be less than 1"),
    ("both limits", {"gate/limits/0/at_most": 1.0}, "gate.limits.0: give either at_least or at_most"),
    ("no limit", {"gate/limits/0/at_least": None}, "gate.limits.0: give either at_least or at_most"),
    ("unlimited gate", {"gate/limits": []}, "gate.limits: list should have at least 1 item"),
    ("version", {"version": 2}, "version: input should be 1; given: 2"),
    (
        "int8 files for a server",
        {"inference": {"precision": "int8", "server": {"url": "http://127.0.0.1:8000/v1"}}},
        "inference: int8 files are run in this process, a server loads safetensors: remove precision or server",
    ),
    ("no owner", {"owner": None}, "owner: field required"),
]


@pytest.mark.parametrize(("changes", "message"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_named_with_its_place(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    check_mistake(tmp_path, changes, message)


def test_a_use_case_cannot_be_changed_once_loaded() -> None:
    case = config.load("triage")
    with pytest.raises(ValueError, match="frozen"):
        case.owner = "me"  # type: ignore[misc]


def test_a_digest_follows_its_sections_only(tmp_path: Path) -> None:
    one = config.load(write(tmp_path, {}, "one"))
    two = config.load(write(tmp_path, {"finetune/seed": 8}, "two"))
    assert one.digest("data", "task") == two.digest("data", "task")
    assert one.digest("finetune") != two.digest("finetune")


def test_the_schema_is_json_and_knows_every_section() -> None:
    schema = json.loads(json.dumps(config.json_schema()))
    assert set(schema["properties"]) == set(config.UseCase.model_fields)
    assert schema["additionalProperties"] is False
    assert digests.digest(schema) == digests.digest(config.json_schema())


def test_without_a_list_all_baselines_of_the_task_are_measured(tmp_path: Path) -> None:
    assert config.load(write(tmp_path, {"evaluation/baselines": None}, "one")).baselines() == ["base", "tfidf"]
    given = {"evaluation/baselines": None}
    assert config.load(write(tmp_path, given, "two", shipped=FAQ)).baselines() == ["base", "retrieval"]
    none = write(tmp_path, {"evaluation/baselines": [], "gate/beats": []}, "three")
    assert config.load(none).baselines() == []
