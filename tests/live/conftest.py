"""A running stack for all live tests: started once, with three use cases that begin at once, and sinks for its notices."""

from __future__ import annotations

import csv
import datetime
import shutil
import zoneinfo
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from llmops_tasks.data import synthetic
from tests.support import tiny
from tests.support.running import World, stack
from tests.support.sinks import Sinks

LENIENT = {
    "limits": [{"metric": "accuracy", "at_least": 0.0}],
    "beats": [],
    "champion_margin": 2.0,
    "min_n": 30,
}
STAGES = (
    "prepare_data", "train", "evaluate", "promote", "batch_inference", "monitor", "rollback", "reconcile", "select_base_model"
)  # fmt: skip
SETTINGS = {
    "LLMOPS_PORT": "8180",
    "LLMOPS_MLFLOW_PORT": "5100",
    "OMP_NUM_THREADS": "1",  # a tiny model has no use for more, and neighbours suffer
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "60",  # one test kills a worker
}


SELDOM = {"reconcile": "0 0 29 2 *"}  # here it is started by hand: its tick would do what tests are about to do
ZONE = zoneinfo.ZoneInfo("Pacific/Kiritimati")  # 14 hours ahead: its date is another one for most of the day
NOTIFY = {"email": ["ward@example.com"], "webhook_connection": "webhook", "webhook_path": "notices"}


@pytest.fixture(scope="session")
def sinks() -> Iterator[Sinks]:
    """Where mails and posts of the stack arrive."""
    made = Sinks()
    yield made
    made.close()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, sinks: Sinks) -> Iterator[World]:
    home = tmp_path_factory.mktemp("live")
    with pytest.MonkeyPatch.context() as patch:
        settings = {
            "LLMOPS_HOME": str(home),
            "LLMOPS_USECASES": str(home / "usecases"),
            **SETTINGS,
            **sinks.connections(),
        }
        for name, value in settings.items():
            patch.setenv(name, value)
        for name in ("LLMOPS_STORE", "MLFLOW_TRACKING_URI"):
            patch.delenv(name, raising=False)
        _use_cases(home, tiny_model)
        try:
            yield World(home)
        finally:
            stack.down(patience=1)  # its home is thrown away


def _use_cases(home: Path, model: Path) -> None:
    """One that goes through everything, one of another hospital, one that watches for files and searches settings."""
    cases, notes = home / "usecases", home / "demo"
    synthetic.write_triage(out=notes.as_uri(), notes=300, day_notes=60, reviewed_notes=120)
    batch = {"source": {"uri": f"{notes.as_uri()}/inbox/date={{date}}/*.csv", "format": "csv", "null_values": [""]}}
    training = {"epochs": 12, "batch_size": 8, "checkpoint_every": 20}
    about = {"batch": batch, "gate": LENIENT, "finetune": training, "notify": NOTIFY, "airflow": SELDOM}
    about["evaluation"] = {"baselines": ["tfidf"]}  # `other` has its base model evaluated as well
    tiny.usecase(cases, model, f"{notes.as_uri()}/landing/*.csv", **about)
    _other_hospital(cases, notes, model)
    soon = NOTIFY | {
        "remind_hours": 71.997
    }  # of the 72 that an approval is waited for: eleven seconds after it is asked for
    watched = {"uri": f"{notes.as_uri()}/watched/*.csv", "null_values": ["", "NA"], "watch_seconds": 5}
    search = {"space": {"rank": {"choices": [4, 8]}, "learning_rate": {"low": 1e-4, "high": 1e-2}}, "trials": 2}
    tiny.usecase(
        cases,
        model,
        "",
        name="watched",
        data={"source": watched},
        search=search,
        gate=LENIENT,
        notify=soon,
        airflow=SELDOM,
        batch=batch | {"schedule": _in_five_minutes(), "timezone": ZONE.key},
    )


def _in_five_minutes() -> str:
    """A cron that ticks once while the tests run, after the DAGs are there."""
    tick = datetime.datetime.now(ZONE) + datetime.timedelta(minutes=5)
    return f"{tick.minute} {tick.hour} * * *"


def _other_hospital(cases: Path, notes: Path, model: Path) -> None:
    """The same notes as another hospital exports them: semicolons, decimal commas, other column names."""
    with (notes / "landing" / "history.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    renamed = {"visit_id": "Fall", "note": "Notiz", "temperature": "Temp"}
    (notes / "other").mkdir()
    with (notes / "other" / "export.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, delimiter=";")
        writer.writerow([renamed.get(name, name) for name in rows[0]])
        writer.writerows([[v.replace(".", ",") if k == "temperature" else v for k, v in row.items()] for row in rows])
    path = tiny.usecase(cases, model, f"{notes.as_uri()}/other/*.csv", name="other", notify=NOTIFY, airflow=SELDOM)
    raw = yaml.safe_load(path.read_text())
    raw["data"]["source"] |= {"delimiter": ";", "decimal": ","}
    for name, source in renamed.items():
        raw["data"]["columns"][name]["source"] = source
    path.write_text(yaml.safe_dump(raw, sort_keys=False))


@pytest.fixture(scope="session")
def begun(world: World) -> dict[str, str]:
    """The first run of each use case: they go on side by side, one by hand, one by hand, one by a file that lands.

    What lies there at the watcher's first look would be no event.
    """
    wanted = {f"{name}.{stage}" for name in ("tiny", "other", "watched") for stage in STAGES}
    world.wait(lambda: wanted <= set(world.api.dags()), 180, "the DAGs")
    runs = {name: world.api.trigger(f"{name}.prepare_data") for name in ("tiny", "other")}
    world.wait(lambda: world.seen_by_watcher("watched.landing"), 120, "the watcher's first look")
    assert world.api.runs("watched.prepare_data") == []
    (world.home / "demo" / "watched").mkdir()
    shutil.copy(world.home / "demo" / "landing" / "history.csv", world.home / "demo" / "watched")
    return {**runs, "watched": world.started_by_asset("watched.prepare_data", 0)}


@pytest.fixture(autouse=True)
def _live_home(home: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests look at the stack's own home, not at a private one."""
    live = request.getfixturevalue("world").home
    monkeypatch.setenv("LLMOPS_HOME", str(live))
    monkeypatch.setenv("LLMOPS_USECASES", str(live / "usecases"))
