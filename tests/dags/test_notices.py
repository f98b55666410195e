"""Who is told of what: nobody by default, and then by Airflow's own notifiers, with nothing of a record."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.config.airflow import Notify
from tests.support import tiny

pytestmark = pytest.mark.airflow


@pytest.fixture(scope="module")
def notices() -> Any:
    sys.path[:0] = [str(tiny.ROOT / "plugins")]
    import llmops_notices

    return llmops_notices


def _case(**notify: Any) -> Any:
    return config.load("triage").model_copy(update={"notify": Notify(**notify)})


def test_nobody_is_told_by_default(notices: Any) -> None:
    for event in notices.TEXTS:
        assert notices.notifiers(event, "triage", config.load("triage")) == []
    assert notices.reminder("triage", config.load("triage")) == []


def test_mail_and_webhook_are_told_of_the_events_that_somebody_wants(notices: Any) -> None:
    case = _case(email=["ward@example.com"], webhook_connection="chat", events=["failure"])
    found = [type(one).__name__ for one in notices.notifiers("failure", "triage", case)]
    assert found == ["SmtpNotifier", "HttpNotifier"]
    assert notices.notifiers("drift_alarm", "triage", case) == [] == notices.reminder("triage", case)


def test_every_event_has_words_and_a_link_that_only_airflow_fills_in(notices: Any) -> None:
    """No figure, no parameter, no result of a task: only names of DAGs, tasks and runs."""
    from typing import get_args

    from llmops_tasks.config.airflow import Event

    assert set(get_args(Event)) == set(notices.TEXTS) == set(notices.LINKS)
    allowed = {"dag.dag_id", "ti.task_id", "run_id", "run_id | urlencode"}
    for text in (*notices.TEXTS.values(), *notices.LINKS.values()):
        used = {part.split("}}")[0].strip() for part in text.split("{{")[1:]}
        assert used <= allowed


def test_a_reminder_comes_so_long_before_an_approval_expires(notices: Any) -> None:
    case = _case(email=["ward@example.com"], remind_hours=10)
    (alert,) = notices.reminder("triage", case)
    assert alert.interval.total_seconds() == 3600 * (case.approval.timeout_hours - 10)


def test_a_link_leads_to_where_browsers_find_airflow(notices: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://hospital.example/airflow/")
    case = _case(email=["ward@example.com"], webhook_connection="chat")
    mail, post = notices.notifiers("approval_waiting", "triage", case)
    wanted = "https://hospital.example/airflow/dags/{{ dag.dag_id }}/runs/{{ run_id | urlencode }}/tasks/approve/required_actions"
    assert post.json["link"] == wanted and wanted in mail.html_content
