"""
### Reconcile
Looks in ledger and store for due work that no event has started, and starts it.

`due work → start`

Airflow merges events while a run is active, drops those of a paused DAG, and loses all of them with its database. This
DAG finds what is due: a dataset without a training, a candidate without a verdict, a passed verdict without an answer, a
scored partition without a drift verdict, a decision to retrain without a training, landed files that were not read. The
same work has the same run id, so nothing is started twice.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import task
from llmops_dags import runs
from llmops_dags.stage import cron, stage

from llmops_tasks.config import UseCase
from llmops_tasks.data import find_new_files
from llmops_tasks.release import find_due


def _schedule(usecase: str, case: UseCase) -> Any:
    expression = case.airflow.reconcile
    return cron(expression) if expression else None


@stage("reconcile", schedule=_schedule, params={}, doc=__doc__)
def dags(usecase: Any, name: str, case: UseCase) -> None:
    """Wire one use case."""
    runs.start(name, task(find_due)(usecase=usecase), task_id="start")
    if case.data.source.watch_seconds is not None:
        runs.start(name, task(find_new_files)(usecase=usecase), task_id="start_prepare_data")


globals().update(dags)
