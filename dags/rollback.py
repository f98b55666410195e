"""
### Roll back
Returns to the version that served before, or to a given one that was promoted once. Start it by hand, with a reason.

The ledger entry comes first, MLflow's alias follows. Rolling back twice changes nothing.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, get_current_context, task
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
    context = get_current_context()
    by = getattr(context["dag_run"], "triggering_user_name", None) or "unknown"
    return {"version": context["params"]["version"], "reason": context["params"]["reason"], "by": by}


@stage("rollback", schedule=lambda usecase, case: None, params=PARAMS, doc=__doc__)
def dags(usecase: str, case: UseCase) -> None:
    """Wire one use case."""
    chosen = options()
    task(rollback)(usecase=usecase, reason=chosen["reason"], by=chosen["by"], version=chosen["version"])


globals().update(dags)
