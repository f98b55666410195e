"""The ledger decides, whoever may edit what in Airflow; and people are told apart by their names where ids are numbers."""

from __future__ import annotations

import pytest

from llmops_tasks.release import ledger, registry
from tests.support.fab import Fab

pytestmark = [pytest.mark.fab, pytest.mark.timeout(300)]
PROMOTE = "/dags/triage.promote/dagRuns"


def _answers() -> list[tuple[str, str, str]]:
    bodies = [entry["body"] for entry in ledger.read_ledger(usecase="triage", kind="approval")]
    return [(body["version"], body["by"], body["choice"]) for body in bodies]


def _mark(fab: Fab, name: str, run: str, task: str) -> int:
    return fab.code(name, "PATCH", f"{PROMOTE}/{run}/taskInstances/{task}", {"new_state": "success"})


def _write(fab: Fab, name: str, run: str, task: str, value: object) -> int:
    body = {"key": "return_value", "value": value}
    return fab.code(name, "POST", f"{PROMOTE}/{run}/taskInstances/{task}/xcomEntries", body)


def test_an_approval_that_is_marked_and_all_that_travels_edited_promote_nothing(fab: Fab, runs: dict[str, str]) -> None:
    """Operators and approvers may not even try. Of those who may, the last thing that is asked looks into the ledger."""
    run = runs["1"]
    for name in ("operator", "approver"):
        assert _mark(fab, name, run, "approve") == _write(fab, name, run, "approve", {}) == 403
    assert _write(fab, "steward", run, "approve", {}) == 403
    answer = {"chosen_options": ["Approve"], "responded_by_user": {"id": "3", "name": "approver"}}
    assert _write(fab, "op", run, "approve", answer) == _write(fab, "op", run, "may_be_promoted", True) == 201
    assert _mark(fab, "steward", run, "may_be_promoted") == _mark(fab, "steward", run, "approve") == 200
    fab.wait(lambda: fab.states("triage.promote", run)["promote"] in ("failed", "success", "skipped"), 60, "the end")
    assert fab.states("triage.promote", run)["promote"] == "failed"
    assert "has no approval of this evidence" in fab.people["op"].log("triage.promote", run, "promote")
    assert _answers() == [] and ledger.read_ledger(usecase="triage", kind="promotion") == []
    assert registry.find_champion(usecase="triage")["version"] is None


def test_whom_the_use_case_does_not_assign_answers_nothing_and_who_is_assigned_promotes(
    fab: Fab, runs: dict[str, str]
) -> None:
    """Airflow lets both answer: their ids are numbers, and the use case names them."""
    fab.asked("triage.promote", runs["2"])
    fab.people["colleague"].answer("triage.promote", runs["2"], "approve", "Approve")
    fab.wait(lambda: _open(fab, runs["2"]), 60, "the question, put once more")
    assert _answers() == []
    fab.people["approver"].answer("triage.promote", runs["2"], "approve", "Approve")
    fab.wait(lambda: ledger.read_ledger(usecase="triage", kind="promotion"), 60, "the promotion")
    assert _answers() == [("2", "approver", "Approve")]
    assert registry.find_champion(usecase="triage")["version"] == "2"


def _open(fab: Fab, run: str) -> bool:
    """Whether a question waits for its answer."""
    asked = [one for one in fab.people["approver"].approvals() if one["task_instance"]["dag_run_id"] == run]
    return any(one["task_instance"]["state"] in ("awaiting_input", "deferred") for one in asked)
