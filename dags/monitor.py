"""
### Monitor
Compares every newly answered day with what the champion was judged on, and decides whether to retrain.

`receive predictions → drift → decide → ledger → announce`

Decisions are recorded with their reasons, also when they say no. A decision to retrain starts prepare_data.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import task
from llmops_dags.assets import assets_of
from llmops_dags.events import announced, received_all
from llmops_dags.stage import MEASURED, stage

from llmops_tasks.config import UseCase
from llmops_tasks.monitoring import decide_for_days, first_retraining, measure_drift_of_days
from llmops_tasks.release import add_champions, find_retrainings, record_decisions


@stage(
    "monitor", schedule=lambda usecase, case: [assets_of(usecase).predictions], params={}, doc=__doc__, only=MEASURED
)
def dags(usecase: str, case: UseCase) -> None:
    """Wire one use case."""
    days = task(add_champions)(usecase=usecase, events=received_all(assets_of(usecase).predictions))
    drifts = task(measure_drift_of_days, task_id="measure")(usecase=usecase, days=days)
    history = task(find_retrainings, task_id="history")(usecase=usecase, drifts=drifts)
    decisions = task(decide_for_days, task_id="decide")(usecase=usecase, drifts=drifts, history=history)
    recorded = task(record_decisions)(usecase=usecase, decisions=decisions)
    reason: Any = task.short_circuit(first_retraining)(decisions=recorded)
    announced(assets_of(usecase).retrain, reason)


globals().update(dags)
