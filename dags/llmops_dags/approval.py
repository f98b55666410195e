"""Airflow's approval operator, whose answer is recorded in the ledger at once and requested only once."""

from __future__ import annotations

import datetime
from typing import Any

from airflow.configuration import conf
from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk.timezone import utcnow
from llmops_triggers import AnswerTrigger

from llmops_tasks.errors import EvidenceError
from llmops_tasks.release import find_answer, record_approval

_ASKED = "asked"  # in Airflow's store of the task's state: which verdict the question is about, until it is answered
_ANSWERED = "answered"


class Approval(ApprovalOperator):
    """A question about a verdict.

    Airflow deletes a stored answer when its task runs again (cleared or retried), and considers the task failed if the
    answer arrives before the end of its worker is noticed. So the ledger is checked first, a question is not asked
    again, and a retry finds the answer that Airflow has stored.

    Args:
        usecase: bound to its configuration.
        question: from `find_question`.
        people: number of different approvers, this one included, when it succeeds.
        assigned: names of the only users who may answer; empty: every user that Airflow permits.
    """

    template_fields = (*ApprovalOperator.template_fields, "usecase", "question")

    def __init__(self, *, usecase: Any, question: Any, people: int = 1, assigned: Any = (), **more: Any) -> None:
        super().__init__(defaults=self.REJECT, assigned_users=_respondents(assigned), **more)
        self.usecase, self.question, self.people = usecase, question, people

    def execute(self, context: Any) -> Any:
        """Continue with the existing answer, or ask."""
        about = {name: self.question[name] for name in ("version", "verdict_sha256")}
        again = self.question["again"] and context["task_state_store"].get(_ASKED) != _ANSWERED
        known = None if again else find_answer(usecase=self.usecase, people=self.people, **about)
        if known is not None:
            self.log.info("version %s: %s, as recorded in the ledger", known["version"], known["choice"])
            return super().execute_complete(context, _as_event(known))
        if context["task_state_store"].get(_ASKED) == self.question["verdict_sha256"]:
            self._wait_for_stored(context)
        return self._ask(context)

    def _ask(self, context: Any) -> Any:
        """Put the question, and keep what it is about where an edited XCom does not reach."""
        context["task_state_store"].set(_ASKED, self.question["verdict_sha256"])
        return super().execute(context)

    def _wait_for_stored(self, context: Any) -> None:
        """The question was asked already: wait for its answer, which Airflow may have. Asking again would delete it."""
        self.log.info("version %s: asked already, waiting for the answer", self.question["version"])
        until = utcnow() + self.response_timeout
        about = {"ti_id": context["ti"].id, "options": self.options, "defaults": self.defaults, "params": {}}
        self.defer(trigger=AnswerTrigger(**about, timeout_datetime=until), method_name="execute_complete")

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Record the answer; if the user may not approve, or the question was changed since, ask again."""
        if "error" not in event:
            if context["task_state_store"].get(_ASKED) != self.question["verdict_sha256"]:
                self.log.error("The question was changed after it was put: its answer counts for nothing")
                return self._ask(context)
            about = {name: self.question[name] for name in ("version", "verdict_sha256")}
            response = {**event, "responded_at": event["responded_at"].isoformat()}
            try:
                record_approval(usecase=self.usecase, **about, response=response)
            except EvidenceError as exc:
                self.log.error("%s", exc)
                return self._ask(context)
            context["task_state_store"].set(_ASKED, _ANSWERED)
        return super().execute_complete(context, event)


def _respondents(names: Any) -> list[dict[str, str]] | None:
    """Airflow compares ids, and only the simple auth manager's are names. Users of the others are checked when their
    answer is recorded."""
    named = "SimpleAuthManager" in conf.get("core", "auth_manager")
    return [{"id": name, "name": name} for name in names] or None if named else None


def _as_event(known: dict[str, Any]) -> dict[str, Any]:
    """A recorded answer in the form of Airflow's event."""
    return {
        "chosen_options": [known["choice"]],
        "params_input": {},
        "responded_at": datetime.datetime.fromisoformat(known["at"]),
        "responded_by_user": {"id": known["by_id"], "name": known["by"]},
    }
