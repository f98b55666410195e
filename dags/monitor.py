"""
### Monitor
Compares every newly scored partition with the champion's test set, and decides whether to retrain.

`due partitions → drift → decide → ledger → announce`

Every scored partition without a decision is due, even if its event was lost. Every decision is recorded with its reasons.
A decision to retrain starts prepare_data.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import task
from llmops_dags import runs
from llmops_dags.assets import announced, assets_of
from llmops_dags.stage import stage

from llmops_tasks.config import UseCase
from llmops_tasks.monitoring import decide_for_days, first_retraining, measure_drift_of_days
from llmops_tasks.release import find_due_days, find_retrainings, record_decisions


@stage("monitor", schedule=lambda usecase, case: [assets_of(usecase).predictions], params={}, doc=__doc__)
def dags(usecase: Any, name: str, case: UseCase) -> None:
    """Wire one use case."""
    days = task(find_due_days, task_id="due_days")(usecase=usecase)
    drifts = task(measure_drift_of_days, task_id="measure")(usecase=usecase, days=days)
    history = task(find_retrainings, task_id="history")(usecase=usecase, drifts=drifts)
    decisions = task(decide_for_days, task_id="decide")(usecase=usecase, drifts=drifts, history=history)
    recorded = task(record_decisions)(usecase=usecase, decisions=decisions)
    runs.notify("drift_alarm", name, case, recorded, lambda decisions: any(one["alarm"] for one in decisions))
    reason: Any = task.short_circuit(first_retraining)(decisions=recorded)
    announced(assets_of(name).retrain, reason)


globals().update(dags)
