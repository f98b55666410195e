"""
### Promote
Requests human approval of a candidate that passed the gate, and promotes it to champion if it is approved.

`question → approve → promote → announce`

The approver sees the gate's table, and what an answer means beside newer candidates. The answer is recorded in the ledger
at once, and never requested twice. A timeout is recorded too, and promotes nothing. An approval is valid only for this
evidence and this champion; a promotion reads everything it depends on from ledger and store.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param, task
from llmops_dags import runs
from llmops_dags.approval import Approval
from llmops_dags.assets import announced, assets_of, champion_event
from llmops_dags.stage import VERSION, optional, stage
from llmops_notices import reminder

from llmops_tasks.config import UseCase
from llmops_tasks.evaluation import render_gate_table
from llmops_tasks.release import may_be_promoted, promote

PARAMS = {
    "version": optional(VERSION, "Candidate", "A version that passed the gate. Empty: the newest without an answer."),
    "ask_again": Param(
        False,
        type="boolean",
        title="Ask again",
        description_md="Request approval again, even if there is an answer already.",
    ),
}
OPEN_QUESTIONS = 16  # at a time; each run waits for one answer and holds no slot meanwhile


def _reminder(usecase: str, case: UseCase) -> Any:
    return reminder(usecase, case) or None


def _asked(usecase: Any, name: str, case: UseCase, question: Any) -> list[Any]:
    """One question for each required approver, one after the other."""
    found: list[Any] = []
    for number in range(case.approval.people):
        approve = Approval(
            task_id="approve" if number == 0 else f"approve_{number + 1}",
            subject=f"Promote version {{{{ ti.xcom_pull(task_ids='question')['version'] }}}} of {name}?",
            body="{{ ti.xcom_pull(task_ids='gate_table')['markdown'] }}\n\n{{ ti.xcom_pull(task_ids='question')['notice'] }}",
            usecase=usecase,
            question=question,
            people=number + 1,
            response_timeout=timedelta(hours=case.approval.timeout_hours),
            retry_delay=timedelta(seconds=3),
            assigned=case.approval.assigned,
        )
        if found:
            found[-1] >> approve
        found.append(approve)
    return found


@stage(
    "promote",
    schedule=lambda usecase, case: None,
    params=PARAMS,
    doc=__doc__,
    max_active_runs=OPEN_QUESTIONS,
    deadline=_reminder,
)
def dags(usecase: Any, name: str, case: UseCase) -> None:
    """Wire one use case."""
    question = runs.question(usecase)
    table: Any = task(render_gate_table, task_id="gate_table")(verdict=question["verdict"])
    # a separate task, so that a mail server that is down does not block the question
    runs.notify("approval_waiting", name, case, question, lambda question: bool(question))
    answer = _asked(usecase, name, case, question)
    table >> answer[0]
    go_on = task.short_circuit(may_be_promoted)(usecase=usecase, version=question["version"])
    answer[-1] >> go_on
    champion: Any = task(promote)(usecase=usecase, version=question["version"])
    go_on >> champion
    announced(assets_of(name).champion, champion_event(champion), again=True)


globals().update(dags)
