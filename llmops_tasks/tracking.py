"""What is written to MLflow: one run per piece of work, found again by its key, and the prompt registry.

No record text, no identifier, no secret goes there. The run of an interrupted piece of work is continued.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmops_tasks.store import objects

log = logging.getLogger(__name__)


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, default SQLite under `LLMOPS_HOME`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{objects.home() / 'mlflow.db'}"


def client() -> Any:
    """An MLflow client; telemetry is off."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("DO_NOT_TRACK", "true")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    import mlflow

    mlflow.set_tracking_uri(tracking_uri())  # the prompt registry reads the global one
    return mlflow.MlflowClient(tracking_uri())


def initialize() -> dict[str, str]:
    """Create or upgrade MLflow's database once, before anything uses it in parallel."""
    uri = tracking_uri()
    client().search_experiments(max_results=1)
    return {"tracking_uri": uri.split("@")[-1]}  # without credentials


def _experiment(api: Any, usecase: str) -> str:
    found = api.get_experiment_by_name(usecase)
    if found:
        return str(found.experiment_id)
    root = None if tracking_uri().startswith("http") else (objects.home() / "mlartifacts" / usecase).as_uri()
    return str(api.create_experiment(usecase, artifact_location=root))


class Run:
    """An open MLflow run."""

    def __init__(self, api: Any, run_id: str) -> None:
        self.id, self._api = run_id, api

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        """Log figures at a step."""
        from mlflow.entities import Metric

        now = time.time_ns() // 1_000_000
        self._api.log_batch(self.id, metrics=[Metric(name, value, now, step) for name, value in values.items()])

    def params(self, values: dict[str, Any]) -> None:
        """Log parameters; those of a continued run are there already."""
        from mlflow.entities import Param

        known = self._api.get_run(self.id).data.params
        new = [Param(name, str(value)) for name, value in values.items() if name not in known]
        self._api.log_batch(self.id, params=new)

    def tags(self, values: dict[str, str]) -> None:
        """Set tags."""
        for name, value in values.items():
            self._api.set_tag(self.id, name, value)

    def dataset(self, *, name: str, sha256: str, uri: str, context: str) -> None:
        """Name a dataset version as an input of the run; MLflow shows 36 characters of the digest."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        entry = Dataset(name=name, digest=sha256[:36], source_type="llmops", source=uri)
        self._api.log_inputs(self.id, [DatasetInput(entry, [InputTag("mlflow.data.context", context)])])

    def json(self, name: str, content: Any) -> None:
        """Keep a JSON document with the run."""
        self._api.log_text(self.id, json.dumps(content, indent=2, sort_keys=True), name)

    def files(self, folder: Path, to: str) -> None:
        """Keep a folder of small files with the run."""
        self._api.log_artifacts(self.id, str(folder), to)


@contextmanager
def run(*, usecase: str, name: str, key: str) -> Iterator[Run]:
    """Open the run with this key, new or continued; it ends FINISHED, or FAILED if an error passes through.

    Args:
        usecase: the experiment.
        name: of the run, for people.
        key: what identifies the work; a retry continues the same run.
    """
    api = client()
    experiment = _experiment(api, usecase)
    found = api.search_runs([experiment], f"tags.`llmops.key` = '{key}'", max_results=1)
    if found:
        run_id = found[0].info.run_id
        api.update_run(run_id, status="RUNNING")
    else:
        run_id = api.create_run(experiment, run_name=name, tags={"llmops.key": key}).info.run_id
    status = "FAILED"
    try:
        yield Run(api, run_id)
        status = "FINISHED"
    finally:
        api.set_terminated(run_id, status=status)


def register_prompt(*, name: str, template: str, sha256: str) -> dict[str, Any]:
    """Register a prompt unless its newest version is the same."""
    client()
    from mlflow import genai

    newest = genai.load_prompt(f"prompts:/{name}@latest", allow_missing=True)
    if newest is None or newest.tags.get("sha256") != sha256:
        newest = genai.register_prompt(name=name, template=template, tags={"sha256": sha256})
    return {"name": name, "version": str(newest.version), "sha256": sha256}
