"""The verdict is reached on what the store has: whatever is edited on the way changes nothing or is refused."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from llmops_tasks.contracts import ArtifactRef, Report
from llmops_tasks.errors import EvidenceError, IntegrityError
from llmops_tasks.evaluation import verdict
from llmops_tasks.store import artifacts
from tests.support import datasets, tiny
from tests.support.judging import figure

LABELS = ["high", "low"]
TRUTH = [LABELS[number % 2] for number in range(60)]


def _model(kind: str, number: int, **stamps: Any) -> ArtifactRef:
    def build(out: Path) -> dict[str, Any]:
        (out / "model.safetensors").write_text(f"{kind} {number}")
        return {"smoke": False, "control": "none", **stamps}

    return artifacts.publish(usecase="tiny", kind=kind, inputs={"number": number, **stamps}, build=build)


def _measured(subject: str, model: ArtifactRef | None, dataset: ArtifactRef, *, wrong: int = 0) -> Report:
    """A report as `evaluate` publishes it."""
    answers = ["low" if number < wrong else truth for number, truth in enumerate(TRUTH)]
    frame = pd.DataFrame({"record_id": [f"r{n:02}" for n in range(60)], "group": [f"p{n}" for n in range(60)]})
    frame = frame.assign(truth=TRUTH, label=answers)
    share = sum(answer == truth for answer, truth in zip(answers, TRUTH, strict=True)) / 60
    metrics = {"accuracy": figure(share, share, n=60)}
    about = {"model_sha256": model["sha256"] if model else None, "model_kind": model["kind"] if model else None}
    meta = {
        "rows": 60,
        "split": "test",
        "dataset_sha256": dataset["sha256"],
        "metrics": metrics,
        "overlap": 0,
        "labels": LABELS,
    }

    def build(out: Path) -> dict[str, Any]:
        frame.to_parquet(out / "predictions.parquet", index=False)
        return {**meta, **about}

    inputs = {"wrong": wrong, "dataset": dataset["sha256"], **about}
    kept = artifacts.publish(usecase="tiny", kind="evaluations", inputs=inputs, build=build)
    told: Any = {"subject": subject, "subject_sha256": about["model_sha256"] or kept["key"], "split": "test", "n": 60}
    told |= {"dataset_sha256": dataset["sha256"], "metrics": metrics, "overlap": 0, "predictions": kept}
    return told  # type: ignore[no-any-return]


class _World:
    """A candidate that was measured beside its base model and a champion."""

    def __init__(self, folder: Path, **gate: Any) -> None:
        rules = {
            "limits": [{"metric": "accuracy", "at_least": 0.9}],
            "metric": "accuracy",
            "beats": ["base"],
            "min_n": 10,
        }
        path = tiny.usecase(folder, Path("/no-model"), "file:///none/*.csv", gate=rules | gate)
        self.dataset = datasets.publish([{"record_id": "r1", "split": "test"}])
        self.release, self.base, other = _model("release", 1), _model("base", 1), _model("release", 2)
        self.given: dict[str, Any] = {
            "usecase": str(path),
            "candidate": {"version": "2", "release": self.release},
            "champion": {"version": "1", "release": other, "dataset": self.dataset},
            "dataset": self.dataset,
            "reports": [
                _measured("candidate", self.release, self.dataset),
                _measured("base", self.base, self.dataset, wrong=30),
                _measured("champion", other, self.dataset, wrong=20),
            ],
        }

    def judged(self, **changes: Any) -> ArtifactRef:
        return verdict.apply_gate(**(self.given | changes))


@pytest.fixture
def world(tmp_path: Path) -> _World:
    return _World(tmp_path)


def test_the_verdict_is_kept_with_all_its_evidence_and_made_once(world: _World) -> None:
    ref = world.judged()
    found = verdict.read_verdict(ref)
    assert (found["verdict"], found["candidate_version"], found["champion_version"]) == ("pass", "2", "1")
    assert found["candidate_sha256"] == world.release["sha256"]
    assert artifacts.made_from(ref, "dataset") == world.dataset
    assert artifacts.made_from(ref, "release") == world.release
    assert ref["meta"]["verdict"] == "pass" and verdict.has_passed(verdict=ref)
    assert world.judged() == ref


def test_figures_that_were_edited_on_the_way_are_not_believed(world: _World) -> None:
    before = verdict.read_verdict(world.judged())
    edited = copy.deepcopy(world.given["reports"])
    for report in edited:
        report["metrics"]["accuracy"] = figure(0.0, 0.1, n=60)
        report["predictions"]["meta"]["metrics"] = {}
        report["overlap"] = 9
    assert verdict.read_verdict(world.judged(reports=edited)) == before


def test_a_smoke_run_stays_one_whatever_its_reference_says(world: _World) -> None:
    """`meta` is in no digest, and the reference travels."""
    smoke = _model("release", 3, smoke=True)
    report = _measured("candidate", smoke, world.dataset)
    lying = {**smoke, "meta": {"smoke": False, "control": "none"}}
    ref = world.judged(candidate={"version": "3", "release": lying}, reports=[report, *world.given["reports"][1:]])
    assert not verdict.has_passed(verdict=ref)
    assert any("a smoke run" in reason for reason in verdict.read_verdict(ref)["reasons"])


@pytest.mark.parametrize(
    ("place", "subject"), [(1, "candidate"), (0, "base"), (0, "tfidf"), (1, "champion"), (0, "other")]
)
def test_a_report_under_another_name_is_refused(world: _World, place: int, subject: str) -> None:
    reports = copy.deepcopy(world.given["reports"])
    reports[place]["subject"] = subject
    with pytest.raises(EvidenceError, match="is about another model or dataset"):
        world.judged(reports=reports)


def test_a_report_on_other_rows_is_refused(world: _World) -> None:
    other = datasets.publish([{"record_id": "r2", "split": "test"}])
    with pytest.raises(EvidenceError, match="is about another model or dataset"):
        world.judged(dataset=other)


@pytest.mark.parametrize("change", [{"uri": "file:///nowhere"}, {"sha256": "0" * 64}])
def test_a_report_that_the_store_has_not_is_refused(world: _World, change: dict[str, str]) -> None:
    reports = copy.deepcopy(world.given["reports"])
    reports[0]["predictions"] |= change
    with pytest.raises(EvidenceError, match="does not match its reference"):
        world.judged(reports=reports)


def test_a_verdict_that_was_changed_in_the_store_is_not_read(world: _World) -> None:
    ref = world.judged()
    file = artifacts.fetch(ref) / verdict.FILE
    file.write_bytes(file.read_bytes().replace(b'"pass"', b'"fail"'))
    with pytest.raises(IntegrityError, match="damaged"):
        verdict.has_passed(verdict=ref)


def test_a_baseline_that_was_left_out_is_missing_evidence(world: _World) -> None:
    ref = world.judged(reports=[world.given["reports"][0], world.given["reports"][2]])
    assert verdict.read_verdict(ref)["verdict"] == "insufficient"
