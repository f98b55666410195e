"""An LLM's working life as plain functions: keyword-only, JSON in, JSON out, no Airflow in sight.

data        ingest, validate, anonymize, build datasets, trace them
prompts     templates
training    base models, fine-tuning, search, preferences
evaluation  measure, compare, judge
release     package, register, promote, roll back; the ledger
serving     answer a day's records
monitoring  drift, retraining
beneath     config (what a use case says), store (where things are kept), models (whatever touches weights)

Each room's `__init__` is its table of contents: the verbs that tasks, `chain` and the command line may use.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazily(room: str, verbs: dict[str, str]) -> Callable[[str], Any]:
    """A room's `__getattr__`: a verb's module is imported when the verb is asked for, so that a DAG parses fast."""

    def find(name: str) -> Any:
        if name not in verbs:
            raise AttributeError(f"module '{room}' has no verb '{name}'; it has {sorted(verbs)}")
        return getattr(import_module(f"{room}.{verbs[name]}"), name)

    return find
