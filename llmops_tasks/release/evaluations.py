"""What a gate judged, as MLflow's pages show it with the candidate's run: figures with their intervals, and tables.

Names of checks, metrics and subjects, and numbers; nothing of a record.
"""

from __future__ import annotations

import json
from typing import Any

from llmops_tasks import tracking
from llmops_tasks.contracts import ArtifactRef, Evidence, Interval, Verdict
from llmops_tasks.release.logged_model import EVALUATED

_LOGGED = "mlflow.loggedArtifacts"  # tag by which MLflow's pages know a JSON file as a table
_CHECK = ("name", "observed", "rule", "limit", "n", "verdict", "reason")
_INTERVAL = ("value", "low", "high", "n", "groups")
Rows = list[list[Any]]


def write(usecase: str, release: ArtifactRef, evidence: Evidence, verdict: Verdict) -> str | None:
    """Write it to the release's run; written twice, it is there once. Returns the run's id."""
    tables = _tables(evidence, verdict)
    with tracking.run(usecase=usecase, name=f"release {release['sha256'][:8]}", key=release["key"]) as run:
        run.metrics(_figures(evidence))
        run.json("evaluation.json", {"evidence": evidence, "verdict": verdict})
        for name, table in tables.items():
            run.json(name, table)
        shown = [{"path": name, "type": "table"} for name in tables]
        run.tags({_LOGGED: json.dumps(shown), EVALUATED: verdict["dataset_sha256"]})
    return run.id


def _figures(evidence: Evidence) -> dict[str, float]:
    figures: dict[str, float] = {}
    for report in evidence["reports"]:
        for metric, found in report["metrics"].items():
            ends = {"low": found["low"], "high": found["high"]}
            name = f"{report['subject']}.{metric}"
            figures |= {name: found["value"], **{f"{name}.{end}": value for end, value in ends.items()}}
        calibration = report.get("predictions", {}).get("meta", {}).get("calibration", {})
        figures |= {f"{report['subject']}.{name}": value for name, value in calibration.items()}
    return figures


def _tables(evidence: Evidence, verdict: Verdict) -> dict[str, dict[str, Any]]:
    """In the form of `mlflow.log_table`, which appends to what is there: a retry would show every row twice."""
    checks = [[check[name] for name in _CHECK] for check in verdict["checks"]]  # type: ignore[literal-required]
    figures = [
        [report["subject"], metric, *_interval(found)]
        for report in evidence["reports"]
        for metric, found in report["metrics"].items()
    ]
    pairs = [
        [one["reference"], one["metric"], one["n"], *_interval(one["difference"])] for one in evidence["comparisons"]
    ]
    return {
        "gate_checks.json": _table(_CHECK, checks),
        "figures.json": _table(("subject", "metric", *_INTERVAL), figures),
        "comparisons.json": _table(("reference", "metric", "records", *_INTERVAL), pairs),
    }


def _table(columns: tuple[str, ...], rows: Rows) -> dict[str, Any]:
    return {"columns": list(columns), "data": rows}


def _interval(found: Interval | None) -> list[Any]:
    """A figure's numbers; none where it could not be measured."""
    return [found.get(name) if found else None for name in _INTERVAL]
