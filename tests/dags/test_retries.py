"""Errors that trying again does not mend end a task; others are tried a few times; what was lost does not count."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from llmops_tasks import errors
from tests.support import tiny

pytestmark = pytest.mark.airflow


class _State(dict[str, Any]):
    def set(self, key: str, value: Any) -> None:
        self[key] = value


@pytest.fixture
def policy() -> Any:
    sys.path[:0] = [str(tiny.ROOT / "dags")]
    from llmops_dags import retries

    return retries.POLICY


def _decide(policy: Any, state: _State, error: Exception, attempt: int = 1) -> str:
    decision = policy.evaluate(error, attempt, 30, {"task_state_store": state})
    return str(decision.action.value)


def test_a_mistake_ends_the_task_at_once(policy: Any) -> None:
    assert _decide(policy, _State(), errors.ConfigError("x")) == "fail"
    assert _decide(policy, _State(), errors.IntegrityError("x")) == "fail"


def test_a_task_may_fail_by_itself_twice(policy: Any) -> None:
    state = _State()
    assert [_decide(policy, state, errors.StorageError("x")) for _ in range(3)] == ["default", "default", "fail"]


def test_what_was_lost_with_scheduler_or_worker_does_not_count(policy: Any) -> None:
    """Of such attempts nobody asks the policy: only Airflow's own count of tries goes up."""
    state = _State()
    assert [_decide(policy, state, OSError("x"), attempt) for attempt in (9, 17, 25)] == ["default", "default", "fail"]


def test_every_dag_leaves_room_for_restarts() -> None:
    from llmops_dags import retries

    assert retries.LOST >= 10 > retries.OWN
