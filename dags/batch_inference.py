"""
### Batch inference
Answers one day's new records with the champion.

`champion → ingest → validate → anonymize → render → predict → announce`

The champion is resolved to a version once, at the beginning. What was answered is kept: a day that is run again answers only
the records that have come since, beside the others.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import get_current_context, task
from llmops_dags.assets import assets_of
from llmops_dags.events import announced
from llmops_dags.stage import DATE, MEASURED, VERSION, cron, model_task, optional, stage

from llmops_tasks.config import UseCase, checked_date
from llmops_tasks.data import anonymize, ingest, render_day, validate
from llmops_tasks.errors import InputError
from llmops_tasks.release import find_champion
from llmops_tasks.serving import predict_batch

PARAMS = {
    "date": optional(DATE, "Day", "YYYY-MM-DD. Empty: the day of the schedule."),
    "version": optional(VERSION, "Version", "A version that was promoted. Empty: the champion."),
}


@task
def options() -> dict[str, Any]:
    """What the form says; the day comes from the schedule if the form leaves it empty."""
    context = get_current_context()
    logical = context["dag_run"].logical_date
    date = context["params"]["date"] or (logical and logical.date().isoformat())
    if not date:
        raise InputError(
            "No day is given, and a run by hand has none of its own. Fill in 'Day', for example 2026-03-30."
        )
    return {"date": checked_date(date), "version": context["params"]["version"]}


def _schedule(usecase: str, case: UseCase) -> Any:
    expression = case.batch.schedule if case.batch else None
    return cron(expression) if expression else None


@stage("batch_inference", schedule=_schedule, params=PARAMS, doc=__doc__, only=MEASURED)
def dags(usecase: str, case: UseCase) -> None:
    """Wire one use case."""
    chosen = options()
    serving = task(find_champion)(usecase=usecase, version=chosen["version"])
    records = task(ingest)(usecase=usecase, date=chosen["date"])
    good = task(validate)(usecase=usecase, records=records, labelled=False)
    anonymous = task(anonymize)(usecase=usecase, records=good)
    rendered = task(render_day)(usecase=usecase, records=anonymous, date=chosen["date"], champion=serving)
    answered = model_task(predict_batch, case)(
        usecase=usecase, day=rendered, champion=serving, requested=chosen["version"]
    )
    extra = {"sha256": answered["sha256"], "day": rendered, "predictions": answered}
    announced(assets_of(usecase).predictions, extra)


globals().update(dags)
