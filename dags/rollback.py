"""
### Roll back
Returns to the version that served before, or to a given one that was promoted once. Start it by hand, with a reason.

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
    "version": optional(VERSION, "Version", "Where to return to. Empty: the version before."),
    "reason": Param(
        "not given", type="string", pattern=PLAIN_TEXT, title="Reason", description_md="Stands in the ledger."
    ),
}


@task
def options() -> dict[str, Any]:
    """What the form says, and who sent it."""
    given = {name: runs.parameter(name) for name in ("version", "reason")}
    return {**given, "by": runs.started_by() or "unknown"}


@stage("rollback", schedule=lambda usecase, case: None, params=PARAMS, doc=__doc__)
def dags(usecase: Any, name: str, case: UseCase) -> None:
    """Wire one use case."""
    chosen = options()
    champion: Any = task(rollback)(usecase=usecase, reason=chosen["reason"], by=chosen["by"], version=chosen["version"])
    announced(assets_of(name).champion, champion_event(champion), again=True)


globals().update(dags)
