"""The watched landing place: one event for each change that has come to rest, and no worker slot meanwhile."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks.errors import StorageError
from llmops_tasks.store import objects
from tests.support import tiny

pytestmark = pytest.mark.airflow
DAGS = tiny.ROOT / "dags"


@pytest.fixture(scope="module")
def trigger_class() -> Any:
    sys.path.insert(0, str(tiny.ROOT / "plugins"))
    from llmops_triggers import LandingTrigger

    return LandingTrigger


class State(dict[str, Any]):
    """Airflow's store of an asset's state, as much as is used."""

    async def aget(self, key: str) -> Any:
        return self.get(key)

    async def aset(self, key: str, value: Any) -> None:
        self[key] = value


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


def _watched(trigger: Any, looks: list[Any], patch: pytest.MonkeyPatch) -> list[int]:
    """The looks after which there were events, where each look finds what is listed."""
    left, events = list(looks), list[int]()

    def scripted(_: str) -> Any:
        if not left:
            raise asyncio.CancelledError
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def watch() -> None:
        async for _ in trigger.run():
            events.append(len(looks) - len(left))

    patch.setattr(objects, "fingerprints", scripted)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(watch())
    return events


def test_a_file_that_lands_is_one_event(trigger_class: Any, tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("there already")
    trigger = trigger_class("small", f"file://{tmp_path}/*.csv", 0.02)
    events: list[Any] = []

    async def watch() -> None:
        async for event in trigger.run():
            events.append(event.payload)

    async def scene() -> None:
        task = asyncio.create_task(watch())
        await asyncio.sleep(0.2)
        assert events == []
        for number, change in enumerate([lambda: (tmp_path / "new.csv").write_text("a"),
                                         lambda: (tmp_path / "new.csv").write_text("longer"),
                                         lambda: (tmp_path / "old.csv").unlink()], start=1):  # fmt: skip
            change()
            await _until(lambda wanted=number: len(events) == wanted)
            await asyncio.sleep(0.1)
            assert len(events) == number
        (tmp_path / "other.txt").write_text("not looked for")
        await asyncio.sleep(0.2)
        task.cancel()

    asyncio.run(scene())
    assert len(events) == 3
    assert str(tmp_path) not in str(events)


def test_a_file_that_still_grows_is_waited_for(trigger_class: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b1, b2 = {"a": "1"}, {"a": "1", "b": "1"}, {"a": "1", "b": "2"}
    trigger = trigger_class("small", "file:///in/*.csv", 0)
    assert _watched(trigger, [a, a, b1, b2, b2, b2, b2], monkeypatch) == [5]


def test_files_that_came_and_went_are_no_event(trigger_class: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trigger = trigger_class("small", "file:///in/*.csv", 0)
    assert _watched(trigger, [{}, {"a": "1"}, {}, {}, {}], monkeypatch) == []


def test_a_place_that_cannot_be_listed_is_looked_at_again(trigger_class: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    trigger, gone = trigger_class("small", "s3://bucket/in/*.csv", 0), StorageError("no network")
    assert _watched(trigger, [gone, {}, gone, {"a": "1"}, gone, {"a": "1"}, {"a": "1"}], monkeypatch) == [7]


def test_what_landed_while_nobody_looked_is_told(trigger_class: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State()
    for looks, wanted in (([{}, {}], []), ([{"a": "1"}, {"a": "1"}, {"a": "1"}], [2]), ([{"a": "1"}] * 3, [])):
        trigger = trigger_class("small", "file:///in/*.csv", 0)
        trigger.asset_state_store = state
        assert _watched(trigger, looks, monkeypatch) == wanted


def test_looking_leaves_the_event_loop_free(trigger_class: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    threads: list[str] = []
    monkeypatch.setattr(objects, "fingerprints", lambda _: threads.append(threading.current_thread().name) or {})
    asyncio.run(trigger_class("small", "file:///in/*.csv", 0)._look())
    assert threads and threads != [threading.main_thread().name]


def test_it_can_be_made_anew_from_what_airflow_keeps(trigger_class: Any) -> None:
    from airflow.serialization.encoders import encode_trigger

    trigger = trigger_class("small", "file://${LLMOPS_HOME}/in/*.csv", 30)
    classpath, arguments = trigger.serialize()
    assert classpath == f"{trigger_class.__module__}.{trigger_class.__name__}"
    assert trigger_class(**arguments).serialize() == (classpath, arguments)
    assert encode_trigger(trigger)["kwargs"]


@pytest.mark.parametrize("schedule", [None, "0 3 * * *"])
@pytest.mark.parametrize("seconds", [None, 30])
def test_a_use_case_is_watched_where_it_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, schedule: str | None, seconds: int | None
) -> None:
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.serialization.serialized_objects import DagSerialization

    raw = yaml.safe_load(tiny.TRIAGE.read_text())
    raw["schedule"], raw["data"]["source"]["watch_seconds"] = schedule, seconds
    (tmp_path / "watched.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.setenv("LLMOPS_USECASES", str(tmp_path))
    bag = BundleDagBag(str(DAGS), bundle_path=DAGS, bundle_name="dags-folder")
    assert bag.import_errors == {}
    dag = bag.dags["watched.prepare_data"]
    condition = dag.timetable.asset_condition
    assets = getattr(condition, "objects", [condition])
    watchers = {asset.name: [watcher.trigger for watcher in asset.watchers] for asset in assets}
    assert DagSerialization.to_dict(dag)
    if seconds is None:
        assert watchers == {"watched.retrain": []}
        return
    (trigger,) = watchers.pop("watched.landing")
    assert watchers == {"watched.retrain": []}
    assert trigger.serialize()[1] == {"usecase": "watched", "uri": raw["data"]["source"]["uri"], "seconds": seconds}
    assert type(condition).__name__ == "AssetAny"  # either of them, not both
