"""Five tasks in a row that do nothing: once as this project writes DAGs, once with the imports many DAG files carry."""

from __future__ import annotations

from datetime import datetime

from airflow.sdk import DAG, task

from llmops_tasks.config import checked_date

with DAG("light", start_date=datetime(2026, 1, 1), schedule=None, is_paused_upon_creation=False):
    previous = None
    for number in range(5):
        current = task(checked_date, task_id=f"step_{number}")(date="2026-01-01")
        if previous is not None:
            previous >> current
        previous = current
