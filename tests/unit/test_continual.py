"""Going on with new records alone forgets the old ones, and the gate says so; with a replay it does not."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.contracts import EARLIER, ArtifactRef, Check
from llmops_tasks.evaluation import comparison, gate, quality
from llmops_tasks.release.packaging import package_release
from llmops_tasks.training.base_model import fetch_base_model
from llmops_tasks.training.finetuning import finetune
from tests.support import datasets, tiny

pytestmark = pytest.mark.usefixtures("mlflow")
LEVELS = ("resuscitation", "emergent", "urgent", "less-urgent", "non-urgent")
COMPLETIONS = (" resuscitation", " emergent", " urgent", " less", " non")
OLD = ("lifeless", "crushing", "vomiting", "twisted", "renewal")
NEW = ("grey", "breathless", "feverish", "itching", "refill")  # another hospital's words


def _rows(words: tuple[str, ...], count: int, prefix: str) -> list[dict[str, Any]]:
    rng = random.Random(prefix)
    chosen = [(number, rng.randrange(5)) for number in range(count)]
    return [
        {
            "record_id": f"{prefix}{number}",
            "text": words[level],
            "label": LEVELS[level],
            "completion": COMPLETIONS[level],
            "split": "test" if number % 3 == 0 else "validation" if number % 30 == 1 else "train",
        }
        for number, level in chosen
    ]


def _usecase(folder: Path, model: Path, **settings: Any) -> str:
    training = {"method": "full", "epochs": 8, "batch_size": 8, "learning_rate": 0.003, "checkpoint_every": 500}
    rules = {"max_forgetting": 0.1, "min_n": 30, "limits": [{"metric": "quadratic_kappa", "at_least": -1.0}], "beats": []}  # fmt: skip
    return str(tiny.usecase(folder, model, "file:///none/*.csv", finetune=training | settings, gate=rules))


def _release(usecase: str, dataset: ArtifactRef, base: ArtifactRef) -> ArtifactRef:
    trained = finetune(usecase=usecase, dataset=dataset, start=base)
    return package_release(usecase=usecase, trained=trained, base=base, dataset=dataset)


def _check(usecase: str, dataset: ArtifactRef, release: ArtifactRef, champion: dict[str, Any]) -> Check:
    """What the gate finds about forgetting."""
    subjects = {"candidate": release, "champion": champion["release"]}
    reports = [quality.evaluate(usecase=usecase, dataset=dataset, subject=name, model=ref, asked_as=ref) for name, ref in subjects.items()]  # fmt: skip
    evidence = comparison.compare_subjects(usecase=usecase, reports=reports, champion=champion)
    stamps = {"smoke": False, "control": "none"}
    found = gate.apply_policy(policy=config.load(usecase).gate, **evidence, has_champion=True, stamps=stamps)
    return next(check for check in found["checks"] if EARLIER in check["name"])


def test_new_records_alone_fail_on_forgetting_and_a_replay_passes(tmp_path: Path, tiny_model: Path) -> None:
    first = _usecase(tmp_path / "first", tiny_model)
    old, grown = datasets.publish(_rows(OLD, 240, "a")), datasets.publish(_rows(OLD, 240, "a") + _rows(NEW, 150, "b"))
    champion = {"version": "1", "release": _release(first, old, fetch_base_model(usecase=first)), "dataset": old}
    found = {}
    for replay in (0.0, 0.5):
        going_on = {"start": "champion", "continual": {"replay": replay}, "seed": 11}
        usecase = _usecase(tmp_path / str(replay), tiny_model, **going_on)
        found[replay] = _check(usecase, grown, _release(usecase, grown, champion["release"]), champion)
    assert found[0.0]["verdict"] == "fail", found
    assert found[0.5]["verdict"] == "pass", found
    assert found[0.0]["n"] == found[0.5]["n"] == 80  # the champion's own test_records, not the new records
    assert (found[0.5]["observed"] or 0) > (found[0.0]["observed"] or 0) + 0.2
