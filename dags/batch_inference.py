"""
### Batch inference
Scores one day's new records with the champion.

`champion → ingest → validate → anonymize → render → predict → announce`

A scheduled run scores the day that ended before its tick, in the use case's time zone, with the version that served at the
tick; a backfill therefore uses the champion of that time. A manual run names the day and uses the current champion.
Predictions are never replaced: running a day again scores only records that arrived since.
"""

from __future__ import annotations

import datetime
import zoneinfo
from typing import Any

from airflow.sdk import get_current_context, task
from llmops_dags import runs
from llmops_dags.assets import announced, assets_of
from llmops_dags.stage import DATE, VERSION, cron, model_task, optional, stage

from llmops_tasks.config import UseCase, checked_date
from llmops_tasks.data import anonymize, ingest, render_day, validate
from llmops_tasks.errors import InputError
from llmops_tasks.release import find_champion
from llmops_tasks.serving import predict_batch

PARAMS = {
    "date": optional(
        DATE, "Day", "YYYY-MM-DD. Required for manual runs; scheduled runs score the day before their tick."
    ),
    "version": optional(VERSION, "Version", "A promoted version. Empty: the champion."),
}


@task
def options(timezone: str) -> dict[str, Any]:
    """The form's values; the day comes from the schedule if the form leaves it empty."""
    run = get_current_context()["dag_run"]
    by_schedule = run.logical_date is not None and runs.kind() in ("scheduled", "backfill")
    date = runs.parameter("date") or (_ended(run.logical_date, timezone) if by_schedule else None)
    if not date:
        raise InputError("No day is given; a manual run needs one. Fill in 'Day', for example 2026-03-30.")
    at = run.logical_date.isoformat() if by_schedule else None
    return {"date": checked_date(date), "version": runs.parameter("version"), "as_of": at}


def _ended(tick: datetime.datetime, timezone: str) -> str:
    """The day that ended before a tick, in local time."""
    return (tick.astimezone(zoneinfo.ZoneInfo(timezone)).date() - datetime.timedelta(days=1)).isoformat()


def _schedule(usecase: str, case: UseCase) -> Any:
    return cron(case.batch.schedule, case.batch.timezone) if case.batch and case.batch.schedule else None


def _catchup(usecase: str, case: UseCase) -> bool:
    return bool(case.batch and case.batch.catchup)


def _start(usecase: str, case: UseCase) -> datetime.datetime | None:
    if case.batch is None or case.batch.start_date is None:
        return None
    midnight = datetime.time(tzinfo=zoneinfo.ZoneInfo(case.batch.timezone))
    return datetime.datetime.combine(case.batch.start_date, midnight)


@stage(
    "batch_inference",
    schedule=_schedule,
    params=PARAMS,
    doc=__doc__,
    catchup=_catchup,
    start_date=_start,
)
def dags(usecase: Any, name: str, case: UseCase) -> None:
    """Wire one use case."""
    chosen = options(case.batch.timezone if case.batch else "UTC")
    serving = task(find_champion)(usecase=usecase, version=chosen["version"], as_of=chosen["as_of"])
    records = task(ingest)(usecase=usecase, date=chosen["date"])
    good = task(validate)(usecase=usecase, records=records, labelled=False)
    anonymous = task(anonymize)(usecase=usecase, records=good)
    rendered = task(render_day)(usecase=usecase, records=anonymous, date=chosen["date"], champion=serving)
    scored = model_task(predict_batch, case, "inference")(
        usecase=usecase, day=rendered, champion=serving, requested=chosen["version"]
    )
    announced(assets_of(name).predictions, {"sha256": scored["sha256"], "date": scored["date"], "rows": scored["rows"]})


globals().update(dags)
