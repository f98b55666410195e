"""A scheduled run scores the day that ended before its tick, as clocks of the use case show it, and who served then."""

from __future__ import annotations

import datetime
import importlib.util
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.api.datamodels._generated import DagRunType

from llmops_tasks.errors import InputError
from tests.support import tiny

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def dag_file() -> Any:
    """`dags/batch_inference.py` as a module."""
    sys.path[:0] = [str(tiny.ROOT / "dags"), str(tiny.ROOT / "plugins")]
    spec = importlib.util.spec_from_file_location("batch_inference", tiny.ROOT / "dags" / "batch_inference.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def chosen(dag_file: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a run chooses, by its kind, its tick and its form."""

    def choose(kind: str, tick: str | None, timezone: str = "UTC", **form: Any) -> Any:
        at = datetime.datetime.fromisoformat(tick) if tick else None
        context = {"dag_run": SimpleNamespace(run_type=DagRunType(kind), logical_date=at), "params": form}
        monkeypatch.setattr(dag_file, "get_current_context", lambda: context)
        monkeypatch.setattr(dag_file.runs, "get_current_context", lambda: context)
        return dag_file.options.function(timezone)

    return choose


def test_a_run_in_the_morning_scores_the_whole_day_before(chosen: Any) -> None:
    """Today's records are still coming: scored now, those of the afternoon would be late."""
    found = chosen("scheduled", "2026-03-31T06:00:00+00:00")
    assert (found["date"], found["as_of"]) == ("2026-03-30", "2026-03-31T06:00:00+00:00")


@pytest.mark.parametrize(
    ("tick", "timezone", "day"),
    [
        ("2026-03-30T22:30:00+00:00", "Europe/Zurich", "2026-03-30"),  # half past midnight there: the 30th has ended
        ("2026-03-30T21:30:00+00:00", "Europe/Zurich", "2026-03-29"),  # half past eleven there
        ("2026-03-29T01:00:00+00:00", "Europe/Zurich", "2026-03-28"),  # the hour that does not exist there
        ("2026-03-30T06:00:00+00:00", "America/Los_Angeles", "2026-03-28"),
        ("2026-03-30T06:00:00+00:00", "Pacific/Auckland", "2026-03-29"),
    ],
)
def test_days_end_where_the_use_case_is(chosen: Any, tick: str, timezone: str, day: str) -> None:
    assert chosen("scheduled", tick, timezone)["date"] == day


def test_a_backfill_of_a_past_day_gets_who_served_at_its_tick(chosen: Any) -> None:
    found = chosen("backfill", "2026-02-01T06:00:00+00:00")
    assert (found["date"], found["as_of"]) == ("2026-01-31", "2026-02-01T06:00:00+00:00")


@pytest.mark.parametrize("kind", ["manual", "operator_triggered", "asset_triggered"])
def test_by_hand_the_form_names_the_day_and_the_champion_of_now_answers(chosen: Any, kind: str) -> None:
    found = chosen(kind, "2026-03-31T06:00:00+00:00", date="2026-03-02", version="4")
    assert found == {"date": "2026-03-02", "version": "4", "as_of": None}
    with pytest.raises(InputError, match="No day is given"):
        chosen(kind, "2026-03-31T06:00:00+00:00")


def test_the_schedule_is_in_the_use_cases_time_zone_and_makes_up_for_what_was_missed_if_it_says_so(
    dag_file: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.dag_processing.dagbag import BundleDagBag

    batch = {"schedule": "0 6 * * *", "timezone": "Europe/Zurich", "catchup": True, "start_date": "2026-03-01"}
    tiny.usecase(tmp_path, tmp_path, "file:///none/*.csv", name="ward", batch=batch)
    monkeypatch.setenv("LLMOPS_USECASES", str(tmp_path))
    folder = tiny.ROOT / "dags"
    bag = BundleDagBag(str(folder), bundle_path=folder, bundle_name="dags-folder")
    dag = bag.dags["ward.batch_inference"]
    assert dag.catchup
    assert dag.start_date.isoformat() == "2026-02-28T23:00:00+00:00"  # midnight there
    assert str(dag.timetable.timezone) == "Europe/Zurich"
    assert not bag.dags["ward.prepare_data"].catchup
