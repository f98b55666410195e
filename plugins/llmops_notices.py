"""Notifications: Airflow's notifiers for mail and HTTP, configured by the use case's `notify` section.

A notification names the use case, the run and what happened, and has a link. It contains no record text and no figures.
"""

from __future__ import annotations

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
_RUN = "{{ conf.get('api', 'base_url', fallback='') }}/dags/{{ dag.dag_id }}/runs/{{ run_id | urlencode }}"
LINKS = {
    "failure": _RUN + "/tasks/{{ ti.task_id }}",
    "approval_waiting": _RUN + "/tasks/{{ ti.task_id }}/required_actions",
    "candidate_refused": _RUN,
    "drift_alarm": _RUN,
    "approval_expiring": "",
}


def notifiers(event: str, usecase: str, case: UseCase) -> list[BaseNotifier]:
    """The notifiers of a use case for an event; none without recipients."""
    from airflow.providers.http.notifications.http import HttpNotifier
    from airflow.providers.smtp.notifications.smtp import SmtpNotifier

    rule, found = case.notify, list[Any]()
    if event not in rule.events:
        return found
    if rule.email:
        found.append(SmtpNotifier(**_mail(event, usecase, case)))
    if rule.webhook_connection:
        found.append(HttpNotifier(**_post(event, usecase, case)))
    return found


def _mail(event: str, usecase: str, case: UseCase) -> dict[str, Any]:
    text, link = f"{usecase}: {TEXTS[event]}", LINKS[event]
    body = f'<p>{text}</p><p><a href="{link}">{link}</a></p>' if link else f"<p>{text}</p>"
    about = {"to": case.notify.email, "smtp_conn_id": case.notify.smtp_connection}
    return {**about, "subject": f"[llmops] {text}", "html_content": body}


def _post(event: str, usecase: str, case: UseCase) -> dict[str, Any]:
    message = {"event": event, "usecase": usecase, "text": f"{usecase}: {TEXTS[event]}", "link": LINKS[event]}
    return {"http_conn_id": case.notify.webhook_connection, "endpoint": case.notify.webhook_path, "json": message}


def reminder(usecase: str, case: UseCase) -> list[DeadlineAlert]:
    """Airflow's deadline on a run that waits for approval; it fires only while the run is active."""
    from datetime import timedelta

    from airflow.providers.http.notifications.http import HttpNotifier
    from airflow.providers.smtp.notifications.smtp import SmtpNotifier
    from airflow.sdk import AsyncCallback, DeadlineAlert, DeadlineReference

    rule, event, callbacks = case.notify, "approval_expiring", list[Any]()
    if event not in rule.events:
        return []
    if rule.email:
        callbacks.append(AsyncCallback(SmtpNotifier, kwargs=_mail(event, usecase, case)))
    if rule.webhook_connection:
        callbacks.append(AsyncCallback(HttpNotifier, kwargs=_post(event, usecase, case)))
    after = timedelta(hours=case.approval.timeout_hours - rule.remind_hours)
    return [DeadlineAlert(DeadlineReference.DAGRUN_QUEUED_AT, after, callback) for callback in callbacks]
