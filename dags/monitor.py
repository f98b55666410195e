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
from llmops_tasks.monitoring.drift import measure_all
from llmops_tasks.monitoring.retrain import decide_all, wanted
from llmops_tasks.release.ledger import entries, record_decisions
from llmops_tasks.release.registry import with_champion


@stage(
    "monitor", schedule=lambda usecase, case: [assets_of(usecase).predictions], params={}, doc=__doc__, only=MEASURED
)
def dags(usecase: str, case: UseCase) -> None:
    """Wire one use case."""
    days = task(with_champion)(usecase=usecase, events=received_all(assets_of(usecase).predictions))
    drifts = task(measure_all, task_id="measure")(usecase=usecase, days=days)
    history = task(entries, task_id="history")(usecase=usecase, kind="retrain")
    decisions = task(decide_all, task_id="decide")(usecase=usecase, drifts=drifts, history=history)
    recorded = task(record_decisions)(usecase=usecase, decisions=decisions)
    reason: Any = task.short_circuit(wanted)(decisions=recorded)
    announced(assets_of(usecase).retrain, reason)


globals().update(dags)
