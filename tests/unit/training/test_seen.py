"""Which records a model has learnt from goes with it, through every release that is made of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.release.packaging import package_release
from llmops_tasks.training import curriculum, seen
from llmops_tasks.training.finetuning import finetune
from llmops_tasks.training.preferences import tune_preferences
from tests.support import pairs
from tests.unit.training.conftest import small_dataset

pytestmark = pytest.mark.usefixtures("mlflow")
Make = Callable[..., dict[str, Any]]


def _release(arguments: dict[str, Any], trained: ArtifactRef, dataset: ArtifactRef) -> ArtifactRef:
    return package_release(usecase=arguments["usecase"], trained=trained, base=arguments["start"], dataset=dataset)


def _of(dataset: ArtifactRef) -> set[str]:
    return {seen.digest_of(row["text"], row["completion"]) for row in curriculum.rows(dataset, "train")}


def test_a_release_says_which_records_it_has_learnt_from(training: Make) -> None:
    arguments = training()
    release = _release(arguments, finetune(**arguments), arguments["dataset"])
    assert seen.of_release(release) == _of(arguments["dataset"]) and len(_of(arguments["dataset"])) == 24


def test_one_that_goes_on_has_those_of_its_start_too(training: Make) -> None:
    first = training() | {"dataset": small_dataset(12, 6)}
    start = _release(first, finetune(**first), first["dataset"])
    later = training(start="champion", continual={"replay": 0.0}) | {"start": start}
    trained = finetune(**later)
    assert trained["meta"]["taught"] == {"new": 12, "replayed": 0}
    assert seen.of_release(_release(later, trained, later["dataset"])) == _of(later["dataset"])


def test_tuning_on_preferences_adds_none(training: Make) -> None:
    """The release names today's dataset as its parent; of its records only pairs were learnt from."""
    first = training() | {"dataset": small_dataset(12, 6)}
    start = _release(first, finetune(**first), first["dataset"])
    settings = {"preferences": {"learning_rate": 5e-3, "epochs": 1, "min_pairs": 10}, "dropout": 0.0}
    later = training(start="champion", **settings) | {"start": start}
    tuned = tune_preferences(usecase=later["usecase"], pairs=pairs.publish(24), start=start)
    assert seen.of_release(_release(later, tuned, later["dataset"])) == _of(first["dataset"])
