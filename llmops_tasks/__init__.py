"""The life cycle of a language model as plain functions: keyword-only, JSON in, JSON out, no Airflow.

data        ingest, validate, anonymize, build datasets, trace them
prompts     templates
training    base models, fine-tuning, search, preferences
evaluation  measure, compare, judge
release     package, register, promote, roll back; the ledger
serving     score a day's records
monitoring  drift, retraining
shared      config (use cases), store (artifacts), models (loading, layers, scoring)

Each package's `__init__` lists its public verbs: those that DAGs, `chain` and the command line may use.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def lazily(package: str, verbs: dict[str, str]) -> Callable[[str], Any]:
    """A package's `__getattr__`: a verb's module is imported when the verb is asked for, so that a DAG parses fast."""

    def find(name: str) -> Any:
        if name not in verbs:
            raise AttributeError(f"module '{package}' has no verb '{name}'; it has {sorted(verbs)}")
        return getattr(import_module(f"{package}.{verbs[name]}"), name)

    return find
