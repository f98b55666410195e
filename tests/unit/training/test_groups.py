"""Whom a model has learnt from: the train splits, the pairs, and all that its start had learnt from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from llmops_tasks.contracts import TRAINING_GROUPS, ArtifactRef
from llmops_tasks.errors import DataError
from llmops_tasks.evaluation.exposure import digest_of
from llmops_tasks.store import artifacts
from llmops_tasks.training import groups
from tests.support import datasets, pairs

BASE: Any = {"kind": "base_model"}


def _dataset(*patients: str) -> ArtifactRef:
    """Two train records of each, and one who is tested on."""
    rows = [(f"{who}{n}", who, "train") for who in patients for n in range(2)] + [("t", "tested", "test")]
    return datasets.publish([{"record_id": name, "group": who, "split": split} for name, who, split in rows])


def _written(out: Path) -> list[str]:
    found: list[str] = pq.read_table(out / TRAINING_GROUPS).column("digest").to_pylist()
    return found


def _digests(*patients: str) -> list[str]:
    return sorted(digest_of(who) for who in patients)


def test_those_of_every_train_split_are_written_once(tmp_path: Path) -> None:
    assert groups.write(tmp_path, BASE, [_dataset("anna", "ben"), _dataset("ben", "cleo")]) == 3
    assert _written(tmp_path) == _digests("anna", "ben", "cleo")


def test_those_of_pairs_too(tmp_path: Path) -> None:
    groups.write(tmp_path, BASE, [], pairs.publish(8))
    assert _written(tmp_path) == _digests(*(f"g{n}" for n in range(8)))


def test_a_start_hands_on_what_it_was_trained_on(tmp_path: Path) -> None:
    def build(out: Path) -> dict[str, Any]:
        return {"learnt_from": groups.write(out, BASE, [_dataset("anna")])}

    start = artifacts.publish(usecase="tiny", kind="release", inputs={}, build=build)
    groups.write(tmp_path, start, [_dataset("ben")])
    assert _written(tmp_path) == _digests("anna", "ben")


def test_a_start_that_does_not_say_is_refused(tmp_path: Path) -> None:
    start = artifacts.publish(usecase="tiny", kind="release", inputs={}, build=lambda _: {})
    with pytest.raises(DataError, match="does not record which groups"):
        groups.write(tmp_path, start, [_dataset("ben")])
