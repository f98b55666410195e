"""The peer: the same five tasks in a DAG file that imports at its top what its tasks might need."""

from __future__ import annotations

from datetime import datetime

import mlflow  # noqa: F401
import pandas as pd  # noqa: F401
import torch  # noqa: F401
import transformers  # noqa: F401
from airflow.sdk import DAG, task
from transformers import AutoModelForCausalLM  # noqa: F401

from llmops_tasks.config import checked_date

with DAG("naive", start_date=datetime(2026, 1, 1), schedule=None, is_paused_upon_creation=False):
    previous = None
    for number in range(5):
        current = task(checked_date, task_id=f"step_{number}")(date="2026-01-01")
        if previous is not None:
            previous >> current
        previous = current
