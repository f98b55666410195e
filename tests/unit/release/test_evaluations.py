"""What the gate judged, beside the candidate's run: figures with intervals, and tables that MLflow shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import tracking
from llmops_tasks.release import evaluations
from tests.support.releases import CHECK, REPORT, released

pytestmark = pytest.mark.usefixtures("mlflow")
DIFFERENCE = {"value": 0.1, "low": 0.05, "high": 0.15, "n": 300, "groups": 250}
EVIDENCE: Any = {
    "reports": [REPORT],
    "comparisons": [
        {"reference": "base", "metric": "accuracy", "n": 300, "difference": DIFFERENCE},
        {"reference": "tfidf", "metric": "accuracy", "n": 300, "difference": None},
    ],
}
VERDICT: Any = {"verdict": "pass", "reasons": [], "checks": [CHECK], "dataset_sha256": "d" * 64}


def _written() -> Any:
    evaluations.write("triage", released(1), EVIDENCE, VERDICT)
    return tracking.find_run(tracking.client(), "triage", released(1)["key"])


def _table(run: Any, name: str) -> Any:
    return json.loads(Path(tracking.client().download_artifacts(run.info.run_id, name)).read_text())


def test_tables_are_found_by_mlflow_and_are_there_once_whoever_retries() -> None:
    _written()
    run = _written()
    (path,) = {item["path"] for item in json.loads(run.data.tags["mlflow.loggedArtifacts"])} & {"figures.json"}
    read = tracking.client().load_table(run.info.experiment_id, path, run_ids=[run.info.run_id])  # MLflow's own reader
    assert read[["subject", "metric", "value", "low", "high", "n", "groups"]].to_numpy().tolist() == [
        ["candidate", "accuracy", 0.5, 0.4, pytest.approx(0.6), 300, 250]
    ]
    assert _table(run, "gate_checks.json") == {
        "columns": ["name", "observed", "rule", "limit", "n", "verdict", "reason"],
        "data": [["accuracy", 0.4, "at least", 0.3, 300, "pass", ""]],
    }


def test_calibration_is_shown_with_the_run() -> None:
    figures = {"temperature": 1.5, "ece_calibrated": 0.04}
    report = {**REPORT, "predictions": {"meta": {"calibration": figures}}}
    evaluations.write("triage", released(1), {**EVIDENCE, "reports": [report]}, VERDICT)
    run = tracking.find_run(tracking.client(), "triage", released(1)["key"])
    assert {name: run.data.metrics[f"candidate.{name}"] for name in figures} == figures


def test_what_could_not_be_compared_has_no_numbers() -> None:
    assert _table(_written(), "comparisons.json")["data"] == [
        ["base", "accuracy", 300, 0.1, 0.05, 0.15, 300, 250],
        ["tfidf", "accuracy", 300, None, None, None, None, None],
    ]


def test_figures_have_their_intervals_and_the_run_their_dataset() -> None:
    run = _written()
    assert run.data.metrics == {
        "candidate.accuracy": 0.5,
        "candidate.accuracy.low": 0.4,
        "candidate.accuracy.high": 0.6,
    }
    assert run.data.tags["evaluated_sha256"] == "d" * 64


def test_no_table_leads_to_a_record() -> None:
    """A report refers to its predictions, of which every row is a record's."""
    reports = [{**REPORT, "predictions": {"uri": "file:///predictions"}}]
    evaluations.write("triage", released(1), {**EVIDENCE, "reports": reports}, VERDICT)
    run = tracking.find_run(tracking.client(), "triage", released(1)["key"])
    for name in ("figures.json", "gate_checks.json", "comparisons.json"):
        assert "predictions" not in json.dumps(_table(run, name))
