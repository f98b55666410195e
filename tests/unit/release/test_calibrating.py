"""A release carries the temperature of its own bytes, from its own validation records, or says why it has none."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.models import calibration
from llmops_tasks.models.generator import open_generator
from llmops_tasks.models.local import LocalModel
from llmops_tasks.prompts import answering, interface
from llmops_tasks.release.calibrating import calibrate
from llmops_tasks.release.packaging import package_release
from llmops_tasks.store import artifacts
from tests.support import datasets, tiny

LABELS = interface.of_usecase(config.load("triage"))


def _dataset(
    count: int = 60, label: str | None = None, like: str = "triage", told: list[str] | None = None
) -> ArtifactRef:
    """Records of which every second is held out for validation; `told` are the labels of these."""
    rows = [
        {
            "record_id": f"r{n}",
            "text": f"note {n} " + "with pain " * (n % 5),
            "label": label or (told[n // 2] if told else LABELS.labels[n // 2 % 5]),
            "completion": LABELS.answers[n // 2 % 5],
            "split": "validation" if n % 2 else "train",
        }
        for n in range(2 * count)
    ]
    return datasets.publish(rows, like=like)


def _told_by(folder: Path) -> ArtifactRef:
    """Records on which this model is right in two of three."""
    prompts = [LABELS.render_prompt(row["text"]) for row in _rows(_dataset()) if row["split"] == "validation"]
    names, _ = answering.decide(LABELS, answering.scores(LABELS, open_generator("transformers", folder), prompts))
    return _dataset(told=[LABELS.labels[n % 5] if n % 3 == 0 else name for n, name in enumerate(names)])


def test_a_release_carries_the_temperature_of_its_own_bytes(
    world: Any, trained: ArtifactRef, released: ArtifactRef
) -> None:
    dataset = _told_by(artifacts.fetch(released))
    given: dict[str, Any] = {"usecase": world.usecase, "trained": trained, "base": world.base, "dataset": dataset}
    release = package_release(**given)
    asked, before = interface.of_release(release), interface.of_release(trained)
    assert asked == before.model_copy(update={"temperature": asked.temperature}) != before
    rows = [row for row in _rows(dataset) if row["split"] == "validation"]
    prompts = [asked.render_prompt(row["text"]) for row in rows]
    scores = answering.scores(asked, LocalModel(artifacts.fetch(release)), prompts)
    truth = [asked.labels.index(row["label"]) for row in rows]
    assert asked.temperature == calibration.fit(scores, truth)[0] != 1  # type: ignore[arg-type]
    found = release["meta"]["calibration"]
    assert found == {"temperature": asked.temperature, "records": 60, "reason": ""}
    assert f"temperature {asked.temperature:g}, from 60 validation records" in _card(release)
    table = answering.answer(asked, LocalModel(artifacts.fetch(release)), [row["text"] for row in rows])
    assert table["score"].tolist() == pytest.approx(list(map(max, calibration.scaled(scores, asked.temperature))))


def _rows(dataset: ArtifactRef) -> list[dict[str, Any]]:
    import pandas as pd

    found: list[dict[str, Any]] = pd.read_parquet(artifacts.fetch(dataset) / "data.parquet").to_dict("records")
    return found


def _card(release: ArtifactRef) -> str:
    return (artifacts.fetch(release) / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("dataset", "task", "reason"),
    [
        ({"count": 29}, {}, "29 records with the release's labels to calibrate on, 30 are needed"),
        ({"label": "urgent"}, {}, "the records to calibrate on have one label"),
        ({"label": "unheard of"}, {}, "60 records with the release's labels to calibrate on, 30 are needed"),
        ({"like": "reviews"}, {}, "the dataset was rendered with another template than the release's"),
        ({}, {"calibrate": False}, "task.calibrate is off"),
        ({}, {"type": "generation", "labels": []}, "free text has no scores"),
    ],
)
def test_without_evidence_it_stays_1_and_says_why(
    dataset: dict[str, Any], task: dict[str, Any], reason: str, tiny_model: Path
) -> None:
    """Also where an earlier release, whose settings are gone on with, had one."""
    earlier = LABELS.model_copy(update={"task": LABELS.task.model_copy(update=task), "temperature": 3.0})
    asked, found = calibrate(tiny_model, earlier, _dataset(**dataset))
    assert (asked.temperature, found["temperature"], found["reason"]) == (1.0, 1.0, reason)


def test_an_ensemble_is_calibrated_as_one(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "members" / "0")
    tiny.make_model(tmp_path / "members" / "1", seed=3)
    dataset = _told_by(tmp_path)
    found = [calibrate(folder, LABELS, dataset)[0].temperature for folder in (tmp_path, tiny_model)]
    assert found[0] != found[1]
