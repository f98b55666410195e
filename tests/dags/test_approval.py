"""An answer is recorded at once, asked for once, and never lost to a task that runs again."""

from __future__ import annotations

import datetime
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from llmops_tasks.errors import EvidenceError
from tests.support import tiny

pytestmark = pytest.mark.airflow
QUESTION = {"version": "3", "verdict_sha256": "v" * 64, "again": False}
USER = {"id": "7", "name": "Dr. Who"}
LIMIT = {"response_timeout": datetime.timedelta(hours=1)}
AT = datetime.datetime(2026, 3, 30, 12, tzinfo=datetime.UTC)


class _Asked(Exception):
    """A person is asked: the task gives up its slot."""


class _Waits(Exception):
    """The answer to a question that was put before is waited for."""


class _State(dict[str, Any]):
    """Airflow's store of a task's state, as much as is used."""

    def set(self, key: str, value: Any) -> None:
        self[key] = value


class _Scene:
    """One approval task, with what the ledger and Airflow know."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        sys.path[:0] = [str(tiny.ROOT / "dags"), str(tiny.ROOT / "plugins")]
        from airflow.providers.standard.operators.hitl import HITLOperator
        from llmops_dags import approval

        self.ledger: list[dict[str, Any]] = []
        self.refuses = False
        self.state = _State()
        patch.setattr(approval, "find_answer", self._find)
        patch.setattr(approval, "record_approval", self._record)
        patch.setattr(HITLOperator, "execute", self._ask)
        patch.setattr(approval.Approval, "defer", self._defer)
        self._kind = approval.Approval

    def _find(self, *, usecase: str, version: str, verdict_sha256: str, people: int) -> Any:
        found = [one for one in self.ledger if one["verdict_sha256"] == verdict_sha256]
        return found[-1] if len(found) >= people else None

    def _record(self, *, usecase: str, version: str, verdict_sha256: str, response: dict[str, Any]) -> None:
        if self.refuses:
            raise EvidenceError("not by you")
        user = response["responded_by_user"] or {"id": None, "name": "nobody"}
        about = {"version": version, "verdict_sha256": verdict_sha256, "choice": response["chosen_options"][0]}
        self.ledger.append({**about, "by": user["name"], "by_id": user["id"], "at": response["responded_at"]})

    @staticmethod
    def _ask(operator: Any, context: Any) -> None:
        raise _Asked

    @staticmethod
    def _defer(operator: Any, *, trigger: Any, method_name: str) -> None:
        classpath, arguments = trigger.serialize()
        assert (classpath, method_name) == ("llmops_triggers.AnswerTrigger", "execute_complete")
        assert (arguments["ti_id"], arguments["options"], arguments["defaults"]) == (
            "ti",
            ["Approve", "Reject"],
            ["Reject"],
        )
        raise _Waits

    def task(self, *, assigned: Any = (), **question: Any) -> Any:
        about = {"usecase": "triage@0", "question": QUESTION | question, "assigned": assigned}
        return self._kind(task_id="approve", subject="s", **about, **LIMIT)

    def asked(self, **question: Any) -> Any:
        """The task, once it has put its question."""
        task = self.task(**question)
        with pytest.raises(_Asked):
            task.execute(self.context())
        return task

    def context(self) -> dict[str, Any]:
        return {"task_state_store": self.state, "ti": SimpleNamespace(id="ti")}


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> _Scene:
    return _Scene(monkeypatch)


def _event(choice: str = "Approve") -> dict[str, Any]:
    return {"chosen_options": [choice], "params_input": {}, "responded_at": AT, "responded_by_user": USER}


def test_a_person_is_asked_where_nobody_has_answered(scene: _Scene) -> None:
    with pytest.raises(_Asked):
        scene.task().execute(scene.context())


def test_an_answer_stands_in_the_ledger_before_anything_follows_from_it(scene: _Scene) -> None:
    assert scene.asked().execute_complete(scene.context(), _event())["chosen_options"] == ["Approve"]
    (entry,) = scene.ledger
    assert (entry["choice"], entry["by"], entry["at"]) == ("Approve", "Dr. Who", AT.isoformat())


def test_cleared_and_run_again_it_finds_the_answer_and_asks_nobody(scene: _Scene) -> None:
    scene.asked().execute_complete(scene.context(), _event("Reject"))
    scene.state.clear()
    assert scene.task().execute(scene.context())["chosen_options"] == ["Reject"]
    assert len(scene.ledger) == 1


def test_an_answer_about_another_verdict_is_none(scene: _Scene) -> None:
    scene.asked().execute_complete(scene.context(), _event())
    with pytest.raises(_Asked):
        scene.task(verdict_sha256="w" * 64).execute(scene.context())


def test_whoever_wants_to_can_ask_again(scene: _Scene) -> None:
    scene.asked().execute_complete(scene.context(), _event("Reject"))
    scene.state.clear()  # another run
    with pytest.raises(_Asked):
        scene.task(again=True).execute(scene.context())
    scene.state.set("asked", "answered")
    assert scene.task(again=True).execute(scene.context())["chosen_options"] == ["Reject"]  # its retry asks no more


def test_a_question_that_was_put_is_not_put_anew_which_would_delete_its_answer(scene: _Scene) -> None:
    """The answer came so soon that Airflow took the task for failed; the retry finds it stored."""
    with pytest.raises(_Asked):
        scene.task().execute(scene.context())
    with pytest.raises(_Waits):
        scene.task().execute(scene.context())
    scene.task().execute_complete(scene.context(), _event())
    assert [entry["by"] for entry in scene.ledger] == ["Dr. Who"]


def test_another_verdict_is_another_question(scene: _Scene) -> None:
    """Cleared, after the champion has changed: a stored answer is to the earlier one."""
    with pytest.raises(_Asked):
        scene.task(verdict_sha256="o" * 64).execute(scene.context())
    with pytest.raises(_Asked):
        scene.task().execute(scene.context())


def test_after_time_ran_out_it_is_asked_anew(scene: _Scene) -> None:
    with pytest.raises(_Asked):
        scene.task().execute(scene.context())
    late = _event("Reject") | {"responded_by_user": None, "timedout": True}
    scene.task().execute_complete(scene.context(), late)
    scene.ledger.clear()  # the ledger's own `find_answer` passes over it
    with pytest.raises(_Asked):
        scene.task().execute(scene.context())


def test_of_a_person_who_may_not_answer_another_one_is_asked(scene: _Scene) -> None:
    scene.refuses = True
    task = scene.asked()
    with pytest.raises(_Asked):
        task.execute_complete(scene.context(), _event())
    assert scene.ledger == []


def test_an_answer_to_a_question_that_was_changed_meanwhile_counts_for_neither(scene: _Scene) -> None:
    """Whoever may edit XComs could lay a person's yes to one version at the door of another."""
    scene.asked()
    with pytest.raises(_Asked):
        scene.task(version="4", verdict_sha256="w" * 64).execute_complete(scene.context(), _event())
    assert scene.ledger == []
    assert scene.state["asked"] == "w" * 64  # and what is asked now is what would be recorded


@pytest.mark.parametrize(
    ("manager", "respondents"), [("simple.simple_auth_manager.SimpleAuthManager", ["ann"]), ("FabAuthManager", [])]
)
def test_airflow_is_told_who_may_answer_where_its_ids_are_names(
    scene: _Scene, monkeypatch: pytest.MonkeyPatch, manager: str, respondents: list[str]
) -> None:
    """Elsewhere it would let nobody answer; the ledger keeps the others out."""
    monkeypatch.setenv("AIRFLOW__CORE__AUTH_MANAGER", manager)
    task = scene.task(assigned=["ann"])
    assert [user["id"] for user in task.assigned_users or []] == respondents


def test_one_of_two_answers_is_not_enough_for_the_second_question(scene: _Scene) -> None:
    scene.asked().execute_complete(scene.context(), _event())
    second = scene.task()
    second.people = 2
    with pytest.raises(_Asked):
        second.execute(scene.context())
