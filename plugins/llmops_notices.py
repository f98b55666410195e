"""Notifications: Airflow's notifiers for mail and HTTP, configured by the use case's `notify` section.

A notification names the use case, the run and what happened, and has a link. It contains no record text and no figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import BaseNotifier, DeadlineAlert

    from llmops_tasks.config import UseCase

TEXTS = {
    "failure": "failed: {{ dag.dag_id }}, task {{ ti.task_id }}, run {{ run_id }}",
    "approval_waiting": "an approval is waiting for an answer: {{ dag.dag_id }}, run {{ run_id }}",
    "approval_expiring": "an approval is about to expire without an answer",
    "candidate_refused": "the gate refused a candidate: {{ dag.dag_id }}, run {{ run_id }}",
    "drift_alarm": "drift alarm: {{ dag.dag_id }}, run {{ run_id }}",
}
_RUN = "/dags/{{ dag.dag_id }}/runs/{{ run_id | urlencode }}"
LINKS = {
    "failure": _RUN + "/tasks/{{ ti.task_id }}",
    "approval_waiting": _RUN + "/tasks/approve/required_actions",
    "candidate_refused": _RUN,
    "drift_alarm": _RUN,
    "approval_expiring": "",
}


def _link(event: str) -> str:
    """The event's address in Airflow's web UI; templates of notifiers cannot read its configuration."""
    from airflow.sdk.configuration import conf

    base: str = conf.get("api", "base_url", fallback="")
    return base.rstrip("/") + LINKS[event] if LINKS[event] else ""


def notifiers(event: str, usecase: str, case: UseCase) -> list[BaseNotifier]:
    """The notifiers of a use case for an event; none without recipients."""
    return [kind(**arguments) for kind, arguments in _recipients(event, usecase, case)]


def _recipients(event: str, usecase: str, case: UseCase) -> Iterator[tuple[Any, dict[str, Any]]]:
    """Airflow's notifiers with their arguments; imported only if needed, as every task of every run parses this."""
    rule = case.notify
    if event in rule.events and rule.email:
        from airflow.providers.smtp.notifications.smtp import SmtpNotifier

        yield SmtpNotifier, _mail(event, usecase, case)
    if event in rule.events and rule.webhook_connection:
        from airflow.providers.http.notifications.http import HttpNotifier

        yield HttpNotifier, _post(event, usecase, case)


def _mail(event: str, usecase: str, case: UseCase) -> dict[str, Any]:
    text, link = f"{usecase}: {TEXTS[event]}", _link(event)
    body = f'<p>{text}</p><p><a href="{link}">{link}</a></p>' if link else f"<p>{text}</p>"
    about = {"to": case.notify.email, "smtp_conn_id": case.notify.smtp_connection}
    return {**about, "subject": f"[llmops] {text}", "html_content": body}


def _post(event: str, usecase: str, case: UseCase) -> dict[str, Any]:
    message = {"event": event, "usecase": usecase, "text": f"{usecase}: {TEXTS[event]}", "link": _link(event)}
    return {"http_conn_id": case.notify.webhook_connection, "endpoint": case.notify.webhook_path, "json": message}


def reminder(usecase: str, case: UseCase) -> list[DeadlineAlert]:
    """Airflow's deadline on a run that waits for approval; it fires only while the run is active."""
    from datetime import timedelta

    from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference

    after = timedelta(hours=case.approval.timeout_hours - case.notify.remind_hours)
    callbacks = [AsyncCallback(kind, kwargs=given) for kind, given in _recipients("approval_expiring", usecase, case)]
    return [DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, after, callback) for callback in callbacks]
