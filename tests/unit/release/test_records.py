"""What stages write into the ledger is written once, and bound to what it is about."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tasks.release import ledger, records
from llmops_tasks.store import digests

VERDICT: Any = {"verdict": "pass", "evidence_sha256": "e" * 64, "policy_sha256": "p" * 64, "candidate_version": "2"}


def test_the_same_verdict_is_recorded_once_and_a_changed_policy_gives_a_new_entry() -> None:
    first = records.record_verdict(usecase="triage", verdict=VERDICT)
    assert records.record_verdict(usecase="triage", verdict=VERDICT) == first
    assert records.record_verdict(usecase="triage", verdict={**VERDICT, "policy_sha256": "q" * 64})["seq"] == 2


def _answer(response: dict[str, Any]) -> dict[str, Any]:
    return records.record_approval(
        usecase="triage", candidate={"version": "2"}, verdict=VERDICT, champion={"version": "1"}, response=response
    )


def test_an_approval_is_bound_to_evidence_champion_and_person() -> None:
    response = {"chosen_options": ["Approve"], "responded_by_user": {"id": "7", "name": "Dr. Who"}, "responded_at": "t"}
    body = _answer(response)
    assert (body["choice"], body["by"], body["version"], body["champion_version"]) == ("Approve", "Dr. Who", "2", "1")
    assert (body["at"], body["evidence_sha256"]) == ("t", VERDICT["evidence_sha256"])
    assert body["verdict_sha256"] == digests.digest(VERDICT)  # policy and dataset included
    assert _answer(response) == body
    assert ledger.verify_ledger(usecase="triage")["entries"] == 1


def test_an_answer_by_time_out_names_nobody() -> None:
    body = _answer({"chosen_options": ["Reject"], "responded_by_user": None, "responded_at": None})
    assert (body["choice"], body["by"]) == ("Reject", "nobody: time ran out")


def test_a_person_without_a_name_is_known_by_their_id() -> None:
    response = {"chosen_options": ["Approve"], "responded_by_user": {"id": "7", "name": None}, "responded_at": "t"}
    assert _answer(response)["by"] == "7"


def test_retraining_decisions_are_recorded_once_yes_or_no() -> None:
    decisions: list[dict[str, Any]] = [
        {"retrain": False, "once": "x", "date": "2026-03-30"},
        {"retrain": True, "once": "y", "date": "2026-03-31"},
    ]
    for _ in range(2):
        assert records.record_decisions(usecase="triage", decisions=decisions) == decisions
    assert [entry["body"] for entry in ledger.read_ledger(usecase="triage", kind="retrain")] == decisions


@pytest.mark.parametrize("day", ["2026-03-30", "2026-04-01"])
def test_of_two_runs_that_decide_at_once_one_retrains(day: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """T25. Both saw a history without a retraining; the other one writes just before ours."""
    ours, theirs = ({"retrain": True, "once": once, "date": date, "reasons": ["drift"]} for once, date in (("a", "2026-03-31"), ("b", day)))  # fmt: skip
    write = ledger._write

    def late(*given: Any) -> Any:
        monkeypatch.setattr(ledger, "_write", write)
        assert records.record_decisions(usecase="triage", decisions=[theirs]) == [theirs]
        return write(*given)

    monkeypatch.setattr(ledger, "_write", late)
    for _ in range(2):  # a retried task learns the same
        (found,) = records.record_decisions(usecase="triage", decisions=[ours])
        assert not found["retrain"] and f"decided on for {day} already" in found["reasons"][-1]
    assert [entry["body"]["once"] for entry in ledger.newest("triage").walk(ledger.RETRAINING)] == ["b"]


def test_a_retraining_long_ago_holds_nobody_back() -> None:
    decisions = [{"retrain": True, "once": date, "date": date, "reasons": []} for date in ("2026-01-05", "2026-03-31")]
    assert records.record_decisions(usecase="triage", decisions=decisions) == decisions


def test_only_retrainings_that_can_still_hold_a_day_back_are_read() -> None:
    """Monitoring takes these through XCom: not the whole history."""
    for date, yes in (("2026-01-05", True), ("2026-03-01", True), ("2026-03-25", True), ("2026-03-26", False)):
        decision = {"retrain": yes, "once": date, "date": date}
        records.record_decisions(usecase="triage", decisions=[decision])
    found = records.find_retrainings(usecase="triage", drifts=[{"date": "2026-03-30"}, {"date": "2026-03-31"}])
    assert [entry["body"]["date"] for entry in found] == ["2026-03-25"]
    assert records.find_retrainings(usecase="triage", drifts=[{"date": "2026-02-01"}]) == []
    assert records.find_retrainings(usecase="triage", drifts=[]) == []


def test_retrainings_come_in_the_order_they_were_decided() -> None:
    dates = [f"2026-03-{day}" for day in (25, 26, 27, 28)]
    for date in dates:
        body = {"retrain": True, "date": date}
        ledger.record_entry(usecase="triage", kind="retrain", body=body, once=date)
    found = records.find_retrainings(usecase="triage", drifts=[{"date": "2026-03-28"}])
    assert [entry["body"]["date"] for entry in found] == dates


def test_a_choice_of_a_base_model_is_recorded_once_for_its_evidence_and_policy() -> None:
    chosen: Any = {"chosen": "small", "evidence_sha256": "e", "policy_sha256": "p"}
    first = records.record_selection(usecase="triage", decision=chosen)
    assert (first["kind"], first["body"]["decision"]) == ("base_model_selection", chosen)
    assert records.record_selection(usecase="triage", decision=chosen) == first
    for changed in ({"evidence_sha256": "f"}, {"policy_sha256": "q"}):
        assert records.record_selection(usecase="triage", decision=chosen | changed)["seq"] > first["seq"]
    assert len(ledger.read_ledger(usecase="triage", kind="base_model_selection")) == 3
