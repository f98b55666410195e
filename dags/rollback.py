"""
### Roll back
Returns to the previous champion, or to a given version that was promoted before. Start it manually, with a reason.

The ledger entry comes first, MLflow's alias follows, and the champion is announced as after a promotion. Rolling back
twice changes nothing.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, task
from llmops_dags import runs
from llmops_dags.assets import announced, assets_of, champion_event
from llmops_dags.stage import PLAIN_TEXT, VERSION, optional, stage

from llmops_tasks.config import UseCase
from llmops_tasks.release import rollback

PARAMS = {
    "version": optional(VERSION, "Version", "The version to return to. Empty: the previous champion."),
    "reason": Param(
        "not given", type="string", pattern=PLAIN_TEXT, title="Reason", description_md="Recorded in the ledger."
    ),
}


@task
def options() -> dict[str, Any]:
    """The form's values, and who sent it."""
    given = {name: runs.parameter(name) for name in ("version", "reason")}
    return {**given, "by": runs.started_by() or "unknown", "once": runs.name()}


@stage("rollback", schedule=lambda usecase, case: None, params=PARAMS, doc=__doc__)
def dags(usecase: Any, name: str, case: UseCase) -> None:
    """Wire one use case."""
    chosen = options()
    champion: Any = task(rollback)(
        usecase=usecase, reason=chosen["reason"], by=chosen["by"], version=chosen["version"], once=chosen["once"]
    )
    announced(assets_of(name).champion, champion_event(champion), again=True)


globals().update(dags)
