"""Buttons on a task instance: its MLflow run, its Data Docs, its report.

A link is derived from the reference that the task returned; nothing else is read.
"""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.sdk import BaseOperatorLink

PREFIX = "/llmops"


def _result(ti: Any) -> dict[str, Any]:
    """What the task returned; of a list the last."""
    value = ti.xcom_pull(task_ids=ti.task_id, key="return_value")
    value = value[-1] if isinstance(value, list) and value else value
    return value if isinstance(value, dict) else {}


def page(ref: dict[str, Any], name: str) -> str:
    """The address of an artifact's page, served by `llmops_plugin` to signed-in users.

    Behind a proxy Airflow may have a path of its own, given by its base URL: https://host/airflow.
    """
    usecase, kind, key = ref["uri"].rsplit("/", 3)[1:]
    root = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
    return f"{root}{PREFIX}/{usecase}/{kind}/{key}/{name}"


class MLflowRun(BaseOperatorLink):
    """The MLflow run that a task wrote to."""

    name = "MLflow run"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Empty without a run, or without a web address of MLflow."""
        result = _result(ti_key)
        run = result.get("run_id") or result.get("meta", {}).get("mlflow_run")
        uri = os.environ.get("LLMOPS_MLFLOW_UI") or os.environ.get("MLFLOW_TRACKING_URI", "")
        return f"{uri.rstrip('/')}/#/experiments/0/runs/{run}" if run and uri.startswith("http") else ""


class DataDocs(BaseOperatorLink):
    """Great Expectations' report on the records."""

    name = "Data Docs"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Empty if the task failed before it had a result."""
        ref = _result(ti_key)
        return page(ref, "data_docs/index.html") if ref.get("kind") == "validated" else ""


class Report(BaseOperatorLink):
    """A drift report, a dataset card, a model card, or the choice of a base model."""

    name = "Report"
    kinds = ("drift", "dataset", "release", "base_model_selection")

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """Empty if the task failed before it had a result."""
        result = _result(ti_key)
        ref = result.get("report") or result
        kind = ref.get("kind")
        return page(ref, "report.html" if kind == "drift" else "README.md") if kind in self.kinds else ""


LINKS = {
    "validate": (DataDocs(),),
    "build_dataset": (Report(),),
    "finetune": (MLflowRun(),),
    "package_release": (Report(), MLflowRun()),
    "register_release": (MLflowRun(),),
    "annotate_version": (MLflowRun(),),
    "measure": (Report(),),
    "report_selection": (Report(),),
}
