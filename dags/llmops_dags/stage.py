"""Defaults of every DAG, and one decorator that makes a stage for every use case."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, ExceptionRetryPolicy, Param, RetryAction, RetryRule, task
from llmops_links import LINKS

from llmops_tasks import config, errors
from llmops_tasks.config.training import Resources
from llmops_tasks.process import isolated

log = logging.getLogger(__name__)
COMPUTE = "compute"  # the pool of whatever loads a model: one slot on a small machine, one a GPU in production
# Generated text is measured and served by a later version. Until then such a use case has no DAG that judges,
# answers or watches: a new candidate would start it by itself, and it could only fail.
MEASURED = "classification"
# Trying again does not mend these; storage and lost processes are tried again.
_FINAL = (
    errors.ConfigError, errors.InputError, errors.SourceError, errors.DataError, errors.IntegrityError,
    errors.ConflictError, errors.ModelError, errors.TrainingError, errors.EvidenceError, errors.ReleaseError,
)  # fmt: skip
RETRY_POLICY = ExceptionRetryPolicy(
    rules=[RetryRule(exception=kind, action=RetryAction.FAIL, reason="trying again would not help") for kind in _FINAL]
)
PLAIN_TEXT = r"^[\w .,()'+-]{3,300}$"  # nothing a shell, a template or an address is made of
DIGEST = r"^[0-9a-f]{8,64}$"
DATE = r"^\d{4}-\d{2}-\d{2}$"
VERSION = r"^[0-9]{1,9}$"


def model_task(verb: Callable[..., Any], case: config.UseCase, **settings: Any) -> Any:
    """A task for a verb that loads a model: in a process of its own, in the pool of such tasks, where the use case says."""
    return task(isolated(verb), pool=COMPUTE, multiple_outputs=True, **_place(case.finetune.resources), **settings)


def _place(resources: Resources) -> dict[str, Any]:
    """Celery's queue and Kubernetes' pod; other executors pass over both."""
    place: dict[str, Any] = {"queue": resources.queue} if resources.queue else {}
    if resources.pod:
        # heavy, and only there with that executor
        from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator

        place["executor_config"] = {"pod_override": PodGenerator.deserialize_model_dict(resources.pod)}
    return place


def optional(pattern: str, title: str, description: str) -> Param:
    """A text field that may stay empty and must match a pattern if it does not."""
    return Param(None, type=["null", "string"], pattern=pattern, title=title, description_md=description)


def cron(expression: str) -> CronTriggerTimetable:
    """A schedule that begins at its next tick. Without the last argument, Airflow 3.3 also makes up for a tick that
    lies less than a tenth of the interval back."""
    return CronTriggerTimetable(expression, timezone="UTC", run_immediately=timedelta())


def _add_links(made: DAG) -> None:
    """Buttons on the task instances that leave something to look at."""
    for operator in made.tasks:
        if operator.task_id in LINKS:
            operator.operator_extra_links = LINKS[operator.task_id]


def valid_usecases() -> dict[str, config.UseCase]:
    """Every use case that can be read; `usecase_check.py` shows what is wrong with the others."""
    found = {}
    for name in config.usecase_names():
        try:
            found[name] = config.load(name)
        except errors.LLMOpsError:
            log.warning("use case '%s' is not valid: see the import error of usecase_check.py", name)
    return found


def stage(
    name: str,
    *,
    schedule: Callable[[str, config.UseCase], Any],
    params: dict[str, Param],
    doc: str | None,
    only: str | None = None,
    asks: bool = False,
) -> Callable[[Callable[[str, config.UseCase], None]], dict[str, DAG]]:
    """Turn a function that wires one use case's tasks into one DAG for every use case.

    Args:
        name: of the stage; the DAG is `<usecase>.<name>`.
        schedule: from a use case to Airflow's `schedule`.
        params: of the form in the web UI.
        doc: Markdown for people.
        only: the type of task this stage can handle; use cases of other types have no such DAG.
        asks: whether it waits for a person; then a run ends a day after the answer was due.
    """

    def build(wire: Callable[[str, config.UseCase], None]) -> dict[str, DAG]:
        dags = {}
        for usecase, case in valid_usecases().items():
            if only in (None, case.task.type):
                limit = timedelta(hours=case.approval.timeout_hours + 24) if asks else None
                when = schedule(usecase, case)
                with _dag(
                    name, usecase, case, schedule=when, params=dict(params), doc_md=doc, dagrun_timeout=limit
                ) as made:
                    wire(usecase, case)
                    _add_links(made)
                dags[made.dag_id] = made
        return dags

    return build


def _dag(name: str, usecase: str, case: config.UseCase, **settings: Any) -> DAG:
    """An empty DAG with the defaults of all stages."""
    return DAG(
        dag_id=f"{usecase}.{name}",
        dag_display_name=f"{usecase}: {name.replace('_', ' ')}",
        description=case.description,
        start_date=None,  # a new use case waits for its next tick: nothing starts by itself for having appeared
        catchup=False,
        max_active_runs=1,
        is_paused_upon_creation=False,
        tags={"llmops", usecase, name},
        default_args={
            "owner": case.owner,
            "retries": 2,
            "retry_delay": timedelta(seconds=15),
            "retry_policy": RETRY_POLICY,
        },
        **settings,
    )
