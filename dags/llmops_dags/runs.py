"""How a run finds its subject, and starts other runs. What is due is asked of store and ledger."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow.sdk import get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException
from llmops_notices import notifiers

from llmops_dags.trigger_run import TriggerRun
from llmops_tasks import release
from llmops_tasks.config import UseCase


def parameter(name: str) -> Any:
    """The value of one of the form's fields."""
    return get_current_context()["params"].get(name)


def by_hand() -> bool:
    """Whether a user started the run, which then does what was requested. Any other run does what is due, or nothing."""
    return kind() == "manual"


def kind() -> str:
    """What started the run: manual, scheduled, backfill, asset_triggered or operator_triggered."""
    return str(get_current_context()["dag_run"].run_type.value)


def name() -> str:
    """The run's own, which a retry and a cleared task have in common."""
    return str(get_current_context()["dag_run"].run_id)


def started_by() -> str | None:
    """The user who started the run manually."""
    return getattr(get_current_context()["dag_run"], "triggering_user_name", None)


@task
def dataset(usecase: str) -> dict[str, Any]:
    """The dataset that the form names, else the newest; in runs not started manually, only a dataset without a training."""
    wanted = parameter("dataset")
    if by_hand():
        return dict(release.find_dataset(usecase=usecase, sha256=wanted))
    due = release.find_due_dataset(usecase=usecase)
    if due is None or wanted not in (None, due["sha256"]):
        raise AirflowSkipException("The newest dataset has a training already; nothing is due")
    return dict(due)


@task
def candidate(usecase: str) -> dict[str, Any]:
    """The candidate that the form names, else the newest that waits for a verdict."""
    wanted, due = parameter("version"), release.find_due_candidates(usecase=usecase)
    if (wanted is None and not due) or not (by_hand() or wanted in (None, *due)):
        raise AirflowSkipException("Every candidate has a verdict; nothing is due")
    return release.find_candidate(usecase=usecase, version=wanted or due[0])


@task
def question(usecase: str) -> dict[str, Any]:
    """What is asked about the candidate that the form names, else about the newest with an open question."""
    wanted = parameter("version")
    due = [found["version"] for found in release.find_due_questions(usecase=usecase)]
    if (wanted is None and not due) or not (by_hand() or wanted in (None, *due)):
        raise AirflowSkipException("No passed candidate waits for approval; nothing is due")
    found = release.find_question(usecase=usecase, version=wanted or max(due, key=int))
    if not found["passed"]:
        raise AirflowSkipException(f"The gate did not pass version {found['version']}; no approval is requested")
    return found | {"again": bool(parameter("ask_again"))}


def notify(event: str, name: str, case: UseCase, about: Any, happened: Callable[[Any], bool]) -> None:
    """A task that succeeds if something happened, which sends Airflow's notifications; none without recipients.

    Args:
        event: one of `notify.events`.
        name: of the use case.
        case: its `notify` section names the recipients.
        about: a task's result.
        happened: from that result.
    """
    recipients = notifiers(event, name, case)
    if not recipients:
        return

    @task(task_id=f"notify_{event}", on_success_callback=recipients)
    def decide(about: Any) -> None:
        if not happened(about):
            raise AirflowSkipException("Nothing to notify")

    decide(about)


def start(name: str, runs: Any, *, task_id: str) -> Any:
    """Start the runs that do this work, each once: a run that is there already is left as it is.

    Args:
        name: of the use case.
        runs: from `release.find_due`.
        task_id: of the task that starts them.
    """

    def as_run(run: dict[str, Any]) -> dict[str, Any]:
        return {"trigger_dag_id": f"{name}.{run['stage']}", "trigger_run_id": run["run_id"], "conf": run["conf"]}

    named = "{{ task.trigger_dag_id }} {{ task.trigger_run_id }}"
    return TriggerRun.partial(task_id=task_id, map_index_template=named).expand_kwargs(runs.map(as_run))
