"""Whoever is measured on patients it has learnt from is found, across use cases and split rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from llmops_tasks.contracts import TRAINING_GROUPS, ArtifactRef
from llmops_tasks.errors import DataError
from llmops_tasks.evaluation import quality
from llmops_tasks.evaluation.exposure import digest_of, overlap
from llmops_tasks.store import artifacts
from llmops_tasks.training import groups

TESTED, TRAINED = pd.Series(["a", "b", "b", "c"]), pd.Series(["x", "y"])


def _dataset(**splits: list[str]) -> ArtifactRef:
    def build(out: Path) -> dict[str, Any]:
        rows = [{"group": group, "split": split} for split, names in splits.items() for group in names]
        pd.DataFrame(rows).to_parquet(out / "data.parquet")
        return {"rows": len(rows)}

    return artifacts.publish(usecase="one", kind="dataset", inputs=splits, build=build)


def _release(start: ArtifactRef, *datasets: ArtifactRef) -> ArtifactRef:
    def build(out: Path) -> dict[str, Any]:
        return {"learnt_from": groups.write(out, start, list(datasets))}

    inputs = {"start": start["sha256"], "datasets": [ref["sha256"] for ref in datasets]}
    return artifacts.publish(usecase="one", kind="release", inputs=inputs, build=build)


BASE: ArtifactRef = {"kind": "base", "sha256": "0" * 64}  # type: ignore[typeddict-item]


def test_a_release_knows_the_train_split_of_every_dataset_it_was_trained_on() -> None:
    own, mixed = _dataset(train=["x", "y"], test=["a"]), _dataset(train=["b", "x"])
    release = _release(BASE, own, mixed)
    assert release["meta"]["learnt_from"] == 3
    assert overlap(release, TESTED, TRAINED) == 1  # b, which another use case trained on
    assert overlap(_release(BASE, own), TESTED, TRAINED) == 0


def test_what_a_start_was_trained_on_is_carried_on() -> None:
    champion = _release(BASE, _dataset(train=["a", "z"]))
    assert overlap(_release(champion, _dataset(train=["x"])), TESTED, TRAINED) == 1


def test_a_group_that_moved_with_a_changed_split_rule_is_found() -> None:
    assert overlap(_release(BASE, _dataset(train=["a", "b", "c"])), TESTED, TRAINED) == 3


def test_a_base_model_knows_nobody_and_a_baseline_its_train_split() -> None:
    assert overlap(BASE, TESTED, TRAINED) == 0
    assert overlap(None, TESTED, TRAINED) == 0
    assert overlap(None, TESTED, pd.Series(["a", "y"])) == 1


def _silent() -> ArtifactRef:
    """A release that says nothing, as older ones did."""

    def build(out: Path) -> dict[str, Any]:
        (out / "README.md").touch()
        return {}

    return artifacts.publish(usecase="one", kind="release", inputs={}, build=build)


def test_a_release_that_does_not_say_cannot_be_judged_nor_trained_on() -> None:
    assert overlap(_silent(), TESTED, TRAINED) is None
    with pytest.raises(DataError, match="does not record which groups it was trained on"):
        _release(_silent(), _dataset(train=["x"]))


def test_only_digests_are_carried(tmp_path: Path) -> None:
    release = _release(BASE, _dataset(train=["patient-7"]))
    frame = pd.read_parquet(artifacts.fetch(release) / TRAINING_GROUPS)
    assert frame["digest"].tolist() == [digest_of("patient-7")]


def test_the_report_counts_it(world: Any, released: ArtifactRef) -> None:
    given = {"usecase": world.usecase, "dataset": world.dataset, "asked_as": released, "model": released}
    assert quality.evaluate(**given, subject="candidate")["overlap"] == 0
    assert quality.evaluate(**given, subject="candidate", split="train")["overlap"] > 100
