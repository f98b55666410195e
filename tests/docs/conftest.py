"""An installation for the documentation's commands to run in: one use case with a champion and one scored day."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from llmops_tasks import chain, config, tracking
from llmops_tasks.data import anonymize, ingest, render_day, validate
from llmops_tasks.release import find_champion, find_due_questions, promote, record_approval
from llmops_tasks.serving import predict_batch
from tests.support import shims, tiny

DAY = "2026-03-30"
LENIENT = {
    "limits": [{"metric": "quadratic_kappa", "at_least": -1.0}],
    "beats": [],
    "min_n": 10,
    "champion_margin": 2.0,
}
PASSWORDS = dict.fromkeys(("admin", "operator", "approver", "viewer"), "secret")


class Installation(NamedTuple):
    """Where commands run, and what they may be told."""

    folder: Path
    environment: dict[str, str]
    dataset: str  # the SHA-256 of its dataset
    record: str  # the id of a record in it


@pytest.fixture(scope="module")
def installation(
    tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, notes: Path, python: list[str]
) -> Installation:
    """The tiny use case, named `triage` and `mine`; each pytest process has its own."""
    folder = tmp_path_factory.mktemp("installation")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in _settings(folder).items():
            patch.setenv(name, value)
        _usecases(folder, tiny_model, notes)
        config.bind(usecase="mine")  # as its DAGs do when they appear
        dataset = _served()
    (passwords := folder / "var" / "airflow").mkdir(parents=True)
    (passwords / "simple_auth_manager_passwords.json.generated").write_text(json.dumps(PASSWORDS))
    environment = _plain() | _settings(folder) | _shell(folder, python)
    return Installation(folder, environment, dataset["sha256"], _a_record(dataset))


def _plain() -> dict[str, str]:
    """The environment without what other tests may have left of the project's own variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith("LLMOPS_") or "TEST" in name}


def _settings(folder: Path) -> dict[str, str]:
    home = folder / "var"
    store = {"LLMOPS_STORE": f"file://{home}/store", "MLFLOW_TRACKING_URI": f"sqlite:///{home}/mlflow.db"}
    return {"LLMOPS_HOME": str(home), "LLMOPS_USECASES": str(folder / "include" / "usecases"), **store}


def _shell(folder: Path, python: list[str]) -> dict[str, str]:
    """The variables that README sets, and the stand-ins in front of the real programs."""
    programs = shims.install(folder / "bin", shlex.join(python))
    path = os.pathsep.join([str(programs), os.environ["PATH"]])
    known = {"AIRFLOW": "http://127.0.0.1:8080", "TOKEN": "token", "RUN": "manual__1"}
    return {"PATH": path, "SHIMS": str(programs), "PYTHONPATH": str(tiny.ROOT), **known}


def _usecases(folder: Path, model: Path, notes: Path) -> None:
    source = {"uri": f"{notes.as_uri()}/inbox/date={{date}}/*.csv", "format": "csv", "null_values": [""]}
    selection = {"sample": 20, "shots": 2}
    sections: dict[str, Any] = {"batch": {"source": source}, "gate": LENIENT, "selection": selection}
    for name in ("triage", "mine"):
        tiny.usecase(folder / "include" / "usecases", model, f"{notes.as_uri()}/landing/*.csv", name=name, **sections)


def _served() -> Any:
    """From landed files to a scored day; returns the dataset."""
    tracking.initialize()
    done = chain.chain(usecase="triage")
    assert done["gate"]["verdict"] == "pass", done["gate"]["reasons"]
    (question,) = find_due_questions(usecase="triage")
    response = {"chosen_options": ["Approve"], "responded_by_user": {"name": "approver"}, "responded_at": "noon"}
    record_approval(usecase="triage", **question, response=response)
    promote(usecase="triage", version=question["version"])
    champion = find_champion(usecase="triage")
    records = validate(usecase="triage", records=ingest(usecase="triage", date=DAY), labelled=False)
    day = render_day(
        usecase="triage", records=anonymize(usecase="triage", records=records), date=DAY, champion=champion
    )
    predict_batch(usecase="triage", day=day, champion=champion)
    return done["version"]


def _a_record(dataset: Any) -> str:
    import pandas as pd

    return str(pd.read_parquet(Path(dataset["uri"].removeprefix("file://")) / "data.parquet")["record_id"].iloc[0])


def section_problem(block: str) -> str | None:
    """What is wrong with sections of a use case or a policy that documentation shows."""
    from pydantic import ValidationError

    from llmops_tasks.config.selection import Policy
    from llmops_tasks.config.usecase import UseCase

    given = yaml.safe_load(block)
    try:
        if set(given) <= set(UseCase.model_fields):
            UseCase.model_validate(yaml.safe_load(tiny.TRIAGE.read_text(encoding="utf-8")) | given)
        else:
            Policy.model_validate({"version": 1, **given})
    except ValidationError as exc:
        return str(exc)
    return None
