"""Defaults of every DAG, and one decorator that makes a stage for every use case."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, CronTriggerTimetable, Param, get_parsing_context, task
from llmops_links import LINKS
from llmops_notices import notifiers

from llmops_dags.retries import LOST, POLICY
from llmops_tasks import config, errors
from llmops_tasks.process import isolated

log = logging.getLogger(__name__)
PLAIN_TEXT = r"^[\w .,()'+-]{3,300}$"  # nothing a shell, a template or an address is made of
DIGEST = r"^[0-9a-f]{8,64}$"
DATE = r"^\d{4}-\d{2}-\d{2}$"
VERSION = r"^[0-9]{1,9}$"


def model_task(verb: Callable[..., Any], case: config.UseCase, kind: str, **settings: Any) -> Any:
    """A task for a verb that loads a model: in a process of its own, in the pool and with the priority of its kind.

    Args:
        verb: of `llmops_tasks`.
        case: says where it runs.
        kind: inference, evaluation, training, search or download.
        settings: of Airflow's task.
    """
    work = getattr(case.airflow, kind)
    limits = {
        "pool": work.pool,
        "priority_weight": work.priority,
        "execution_timeout": timedelta(hours=work.timeout_hours),
    }
    return task(isolated(verb), multiple_outputs=True, **limits, **_place(case), **settings)


def _place(case: config.UseCase) -> dict[str, Any]:
    """Celery's queue and Kubernetes' pod; other executors ignore both."""
    resources = case.finetune.resources
    place: dict[str, Any] = {"queue": resources.queue} if resources.queue else {}
    if resources.pod:
        # heavy, and only there with that executor
        from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator

        place["executor_config"] = {"pod_override": PodGenerator.deserialize_model_dict(resources.pod)}
    return place


def optional(pattern: str, title: str, description: str) -> Param:
    """A text field that may stay empty and must match a pattern if it does not."""
    return Param(None, type=["null", "string"], pattern=pattern, title=title, description_md=description)


def cron(expression: str, timezone: str = "UTC") -> CronTriggerTimetable:
    """A schedule that begins at its next tick. Without the last argument, Airflow 3.3 also makes up for a tick that
    lies less than a tenth of the interval back."""
    return CronTriggerTimetable(expression, timezone=timezone, run_immediately=timedelta())


def usecases() -> Iterator[tuple[str, config.UseCase, str | None]]:
    """Every use case with what its DAGs are made from, and what is wrong with its file.

    A worker asks for one DAG: only that one's use case is read. `usecase_check.py` shows what has no valid form at all.
    """
    wanted = get_parsing_context().dag_id
    for name in [wanted.split(".")[0]] if wanted else [*config.usecase_names(), *_removed()]:
        try:
            yield (name, *config.current(name))
        except errors.LLMOpsError:
            log.warning("use case '%s' is invalid: see the import error of usecase_check.py", name)


def _removed() -> list[str]:
    try:
        return config.removed()
    except errors.StorageError as exc:
        log.warning("removed use cases cannot be listed: %s", exc)
        return []


def stage(
    name: str,
    *,
    schedule: Callable[[str, config.UseCase], Any],
    params: dict[str, Param],
    doc: str | None,
    **settings: Any,
) -> Callable[[Callable[[Any, str, config.UseCase], None]], dict[str, DAG]]:
    """Turn a function that wires one use case's tasks into one DAG for every use case.

    The function gets the use case bound to the configuration that the run began with, its name, and what the DAG is
    made from. Every verb takes the first.

    Args:
        name: of the stage; the DAG is `<usecase>.<name>`.
        schedule: from a use case to Airflow's `schedule`.
        params: of the form in the web UI.
        doc: Markdown for the web UI.
        settings: of the DAG, or functions from name and use case to them.
    """

    def build(wire: Callable[[Any, str, config.UseCase], None]) -> dict[str, DAG]:
        dags, wanted = {}, get_parsing_context().dag_id
        for usecase, case, problem in usecases():
            if wanted not in (None, f"{usecase}.{name}"):
                continue
            when = None if usecase not in config.usecase_names() else schedule(usecase, case)
            about = {
                "schedule": when,
                "params": dict(params),
                "doc_md": _explained(doc, problem),
                **_given(settings, usecase, case),
            }
            with _dag(name, usecase, case, problem, **about) as made:
                wire(task(config.bind, task_id="configuration")(usecase=usecase), usecase, case)
                _add_links(made)
            dags[made.dag_id] = made
        return dags

    return build


def _given(settings: dict[str, Any], usecase: str, case: config.UseCase) -> dict[str, Any]:
    """Settings that follow from the use case are functions of it; None leaves one out."""
    given = {key: value(usecase, case) if callable(value) else value for key, value in settings.items()}
    return {key: value for key, value in given.items() if value is not None}


def _explained(doc: str | None, problem: str | None) -> str:
    note = (
        f"> **The use case's file is invalid; this DAG uses the last valid configuration:** {problem}\n\n"
        if problem
        else ""
    )
    return note + (doc or "")


def _dag(name: str, usecase: str, case: config.UseCase, problem: str | None, **settings: Any) -> DAG:
    """An empty DAG with the defaults of all stages."""
    return DAG(
        **{
            "dag_id": f"{usecase}.{name}",
            "dag_display_name": f"{usecase}: {name.replace('_', ' ')}",
            "description": case.description,
            "start_date": None,  # a new use case waits for its next tick: nothing starts by itself for having appeared
            "catchup": False,
            "max_active_runs": 1,
            "is_paused_upon_creation": False,
            "tags": {"llmops", usecase, name, *(["configuration error"] if problem else [])},
            "access_control": case.access.grants(name) or None,
            "default_args": _defaults(usecase, case),
            **settings,
        }
    )


def _defaults(usecase: str, case: config.UseCase) -> dict[str, Any]:
    return {
        "owner": case.owner,
        "retries": LOST,
        "retry_delay": timedelta(seconds=15),
        "retry_policy": POLICY,
        "execution_timeout": timedelta(hours=case.airflow.timeout_hours),
        "weight_rule": "absolute",
        "priority_weight": 1000,  # what loads no model is over in a moment
        "on_failure_callback": notifiers("failure", usecase, case),
    }


def _add_links(made: DAG) -> None:
    """Buttons on task instances with a report."""
    for operator in made.tasks:
        if operator.task_id in LINKS:
            operator.operator_extra_links = LINKS[operator.task_id]
