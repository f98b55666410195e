"""
### Prepare data
Reads landed files, validates every row, removes identifiers, and publishes a dataset version.

`ingest → validate → anonymize → build dataset → announce`

Invalid rows go to quarantine with a reason. The data is de-identified: group keys become keyed pseudonyms. A dataset with
the same content as before starts nothing. Starts by cron, on a decision to retrain, on new files if `watch_seconds` is
set, or manually.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import AssetOrTimeSchedule, task
from llmops_dags.assets import announced, assets_of, landing_of
from llmops_dags.stage import cron, stage

from llmops_tasks.config import UseCase
from llmops_tasks.data import anonymize, build_dataset, ingest, validate
from llmops_tasks.prompts import register_prompt


def _schedule(usecase: str, case: UseCase) -> Any:
    retrain, landing = assets_of(usecase).retrain, landing_of(usecase, case.data.source)
    either = retrain | landing if landing else retrain  # a list would wait for both
    if case.schedule is None:
        return either
    return AssetOrTimeSchedule(timetable=cron(case.schedule), assets=either)


@stage("prepare_data", schedule=_schedule, params={}, doc=__doc__)
def dags(usecase: Any, name: str, case: UseCase) -> None:
    """Wire one use case."""
    task(register_prompt, task_id="register_prompt")(usecase=usecase)
    records = task(ingest)(usecase=usecase)
    good = task(validate)(usecase=usecase, records=records)
    anonymous = task(anonymize)(usecase=usecase, records=good)
    dataset = task(build_dataset)(usecase=usecase, records=anonymous)
    announced(assets_of(name).dataset, {"sha256": dataset["sha256"], "rows": dataset["rows"]})


globals().update(dags)
