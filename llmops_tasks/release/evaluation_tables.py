"""What a gate judged, as tables that MLflow's pages show with the candidate's run: checks, figures, comparisons.

Names of checks, metrics and subjects, and numbers; nothing of a record.
"""

from __future__ import annotations

import json
from typing import Any

from llmops_tasks import tracking
from llmops_tasks.contracts import Evidence, Interval, Verdict

_LOGGED = "mlflow.loggedArtifacts"  # tag by which MLflow's pages know a JSON file as a table
_CHECK = ("name", "observed", "rule", "limit", "n", "verdict", "reason")
_INTERVAL = ("value", "low", "high", "n", "groups")
Rows = list[list[Any]]


def log(run: tracking.Run, evidence: Evidence, verdict: Verdict) -> None:
    """Keep the tables with a run."""
    tables = {
        "gate_checks.json": _table(_CHECK, [[check[name] for name in _CHECK] for check in verdict["checks"]]),  # type: ignore[literal-required]
        "figures.json": _table(("subject", "metric", *_INTERVAL), _figures(evidence)),
        "comparisons.json": _table(("reference", "metric", "records", *_INTERVAL), _comparisons(evidence)),
    }
    for name, table in tables.items():
        run.json(name, table)
    run.tags({_LOGGED: json.dumps([{"path": name, "type": "table"} for name in tables])})


def _table(columns: tuple[str, ...], rows: Rows) -> dict[str, Any]:
    """As `mlflow.log_table` writes it, which appends to what is there: a retry would show every row twice."""
    return {"columns": list(columns), "data": rows}


def _figures(evidence: Evidence) -> Rows:
    return [
        [report["subject"], metric, *_interval(found)]
        for report in evidence["reports"]
        for metric, found in report["metrics"].items()
    ]


def _comparisons(evidence: Evidence) -> Rows:
    return [
        [one["reference"], one["metric"], one["n"], *_interval(one["difference"])] for one in evidence["comparisons"]
    ]


def _interval(found: Interval | None) -> list[Any]:
    """A figure's numbers; none where it could not be measured."""
    return [found.get(name) if found else None for name in _INTERVAL]
