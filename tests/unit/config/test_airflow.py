"""Pools, priorities and limits: what a section leaves out is as it is without the section."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from llmops_tasks.config.airflow import DEFAULTS, Access, Airflow, Notify


def test_one_slot_serves_days_first_then_verdicts_then_trainings_then_searches() -> None:
    rule = Airflow()
    order = [rule.inference, rule.evaluation, rule.training, rule.search]
    assert [work.priority for work in order] == sorted((work.priority for work in order), reverse=True)
    assert {work.pool for work in order} == {"compute"}
    assert rule.download.pool == "default_pool"  # a hung one keeps nobody from the slot
    assert rule.pools() == ["compute", "default_pool"]


def test_what_a_section_leaves_out_is_of_its_kind() -> None:
    rule = Airflow.model_validate({"training": {"pool": "gpu"}, "search": {"timeout_hours": 1}})
    assert rule.training.model_dump() == DEFAULTS["training"] | {"pool": "gpu"}
    assert rule.search.model_dump() == DEFAULTS["search"] | {"timeout_hours": 1}
    assert rule.evaluation == Airflow().evaluation
    assert rule.pools() == ["compute", "default_pool", "gpu"]


@pytest.mark.parametrize("given", [{"training": {"pol": "gpu"}}, {"training": {"priority": -1}}, {"trainings": {}}])
def test_what_is_misspelled_or_out_of_range_is_refused(given: object) -> None:
    with pytest.raises(ValidationError):
        Airflow.model_validate(given)


def test_nothing_is_notified_by_default() -> None:
    rule = Notify()
    assert (rule.email, rule.webhook_connection) == ([], None)
    assert set(rule.events) == {"failure", "approval_waiting", "approval_expiring", "candidate_refused", "drift_alarm"}


def test_whoever_runs_stages_does_not_decide_who_serves_and_whoever_decides_runs_nothing() -> None:
    rule = Access(viewers=["v"], operators=["o"], approvers=["a"], stewards=["s"])
    read = {"DAGs": {"can_read"}}
    run = {"DAGs": {"can_read", "can_edit"}, "DAG Runs": {"can_create"}}
    assert rule.grants("train") == {"v": read, "o": run, "a": read, "s": run}
    assert rule.grants("rollback") == {"v": read, "o": read, "a": read, "s": run}
    assert rule.grants("promote") == {"v": read, "o": read, "a": {"DAGs": {"can_read", "can_edit"}}, "s": run}
    assert Access().grants("train") == {}
