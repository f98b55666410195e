"""Which records a model has learnt from goes with it, through every release that is made of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import DataError
from llmops_tasks.evaluation.exposure import digest_of
from llmops_tasks.release.packaging import package_release
from llmops_tasks.store import artifacts
from llmops_tasks.training import loop, seen, training_plan
from llmops_tasks.training.finetuning import finetune
from llmops_tasks.training.preferences import tune_preferences
from tests.support import datasets, pairs, tiny
from tests.unit.training.conftest import small_dataset

pytestmark = pytest.mark.usefixtures("mlflow")
Make = Callable[..., dict[str, Any]]


def _release(arguments: dict[str, Any], trained: ArtifactRef, dataset: ArtifactRef) -> ArtifactRef:
    return package_release(usecase=arguments["usecase"], trained=trained, base=arguments["start"], dataset=dataset)


def _of(dataset: ArtifactRef) -> set[str]:
    return {seen.digest_of(row["text"], row["completion"]) for row in training_plan.rows(dataset, "train")}


def test_a_release_says_which_records_it_was_trained_on(training: Make) -> None:
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


def test_of_a_text_the_latest_label_counts() -> None:
    """A label that was corrected, and is corrected back, is new again."""
    once, corrected, back = (_answered(one) for one in (" urgent", " less", " urgent"))
    first = _written({"kind": "base_model"}, once)
    second = _written(first, corrected)
    assert len(_of(corrected) - seen.of_release(first)) == 1
    assert len(_of(back) - seen.of_release(second)) == 1
    assert _of(corrected) == seen.of_release(second)


def _answered(answer: str) -> ArtifactRef:
    """Two records, one with this answer."""
    answers = {"a b": answer, "c d": " non"}
    return datasets.publish([{"record_id": text, "text": text, "completion": said, "split": "train"} for text, said in answers.items()])  # fmt: skip


def _written(start: Any, dataset: ArtifactRef) -> ArtifactRef:
    def build(out: Path) -> dict[str, Any]:
        seen.write(out, start, [dataset])
        return {}

    return artifacts.publish(usecase="tiny", kind="release", inputs={"start": start, "dataset": dataset}, build=build)


def test_other_use_cases_patients_are_trained_on_and_their_records_are_not_ones_own(
    training: Make, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMOPS_USECASES", str(tmp_path / "usecases"))
    tiny.usecase(tmp_path / "usecases", tiny_model, "file:///none/*.csv", name="other")
    others = datasets.publish([{"record_id": "x", "group": "another's", "text": "x", "completion": " less", "split": "train"}], "other")  # fmt: skip
    arguments = training(mix={"other": 0.5})
    folder = artifacts.fetch(finetune(**arguments, others={"other": others}))
    learnt = pq.read_table(folder / "training_groups.parquet").column("digest").to_pylist()
    records = pq.read_table(folder / "training_records.parquet").column("digest").to_pylist()
    assert digest_of("another's") in learnt and len(learnt) == 25
    assert set(records) == _of(arguments["dataset"])


def test_a_start_that_does_not_say_is_refused_before_the_first_step(
    training: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = artifacts.publish(usecase="tiny", kind="release", inputs={}, build=lambda _: {})
    monkeypatch.setattr(loop, "step", lambda *_: pytest.fail("a step was made"))
    with pytest.raises(DataError, match="does not record which groups"):
        finetune(**training(start="champion") | {"start": release})
    preferences = {"learning_rate": 5e-3, "epochs": 1, "min_pairs": 10}
    usecase = training(start="champion", preferences=preferences, dropout=0.0)["usecase"]
    with pytest.raises(DataError, match="does not record which groups"):
        tune_preferences(usecase=usecase, pairs=pairs.publish(24), start=release)


def test_tuning_on_preferences_adds_none(training: Make) -> None:
    """The release names today's dataset as its parent; of its records only pairs were learnt from."""
    first = training() | {"dataset": small_dataset(12, 6)}
    start = _release(first, finetune(**first), first["dataset"])
    settings = {"preferences": {"learning_rate": 5e-3, "epochs": 1, "min_pairs": 10}, "dropout": 0.0}
    later = training(start="champion", **settings) | {"start": start}
    tuned = tune_preferences(usecase=later["usecase"], pairs=pairs.publish(24), start=start)
    assert seen.of_release(_release(later, tuned, later["dataset"])) == _of(first["dataset"])
