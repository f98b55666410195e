"""What stages write into the ledger is written once, and bound to what it is about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.errors import EvidenceError
from llmops_tasks.release import ledger, records
from llmops_tasks.store import digests
from tests.support.releases import answered, approval_rules, judged, promoted, promoted_as_it_is, registered, verdict_on

pytestmark = pytest.mark.usefixtures("mlflow")


def test_the_same_verdict_is_recorded_once_and_a_changed_policy_gives_a_new_entry() -> None:
    candidate = registered(1)
    ref = verdict_on(candidate)
    first = records.record_verdict(usecase="triage", verdict=ref)
    assert records.record_verdict(usecase="triage", verdict=ref) == first
    assert first["body"]["kept"] == {"uri": ref["uri"], "sha256": ref["sha256"]}
    again = records.record_verdict(usecase="triage", verdict=verdict_on(candidate, policy_sha256="q" * 64))
    assert again["seq"] == first["seq"] + 1


def test_what_is_recorded_is_what_the_store_has_whatever_was_handed_in() -> None:
    """A reference travels by XCom, which an operator may edit."""
    ref = verdict_on(registered(1), said="fail")
    entry = records.record_verdict(usecase="triage", verdict={**ref, "meta": {"verdict": "pass"}})
    assert entry["body"]["verdict"]["verdict"] == "fail"


@pytest.mark.parametrize("change", [{"candidate_version": "9"}, {"candidate_sha256": "f" * 64}])
def test_a_verdict_about_what_is_not_registered_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(EvidenceError, match=r"has no version '9'|about another release than version 1"):
        records.record_verdict(usecase="triage", verdict=verdict_on(registered(1), **change))
    assert ledger.read_ledger(usecase="triage", kind="gate") == []


def _answer(response: dict[str, Any], version: str = "1", **more: Any) -> dict[str, Any]:
    verdict = ledger.read_ledger(usecase="triage", kind="gate")[0]["body"]["verdict"]
    about = {"version": version, "verdict_sha256": digests.digest(verdict)} | more
    return records.record_approval(usecase="triage", **about, response=response)


def test_an_approval_is_bound_to_evidence_champion_and_person() -> None:
    promoted(registered(1))
    verdict = judged(registered(2))
    response = {"chosen_options": ["Approve"], "responded_by_user": {"id": "7", "name": "Dr. Who"}, "responded_at": "t"}
    body = _answer(response, version="2", verdict_sha256=digests.digest(verdict))
    assert (body["choice"], body["by"], body["by_id"], body["version"]) == ("Approve", "Dr. Who", "7", "2")
    assert (body["at"], body["champion_version"]) == ("t", "1")
    assert body["evidence_sha256"] == verdict["evidence_sha256"]
    entries = ledger.verify_ledger(usecase="triage")["entries"]
    assert _answer(response, version="2", verdict_sha256=digests.digest(verdict)) == body
    assert ledger.verify_ledger(usecase="triage")["entries"] == entries


def test_that_time_ran_out_is_recorded_as_such_and_names_nobody() -> None:
    judged(registered(1))
    body = _answer({"chosen_options": ["Reject"], "responded_by_user": None, "responded_at": None, "timedout": True})
    assert (body["choice"], body["by"]) == ("Timed out", "none: timed out")


def test_a_person_without_a_name_is_known_by_their_id() -> None:
    judged(registered(1))
    response = {"chosen_options": ["Approve"], "responded_by_user": {"id": "7", "name": None}, "responded_at": "t"}
    assert _answer(response)["by"] == "7"


def test_an_answer_to_what_was_never_judged_is_refused() -> None:
    judged(registered(1))
    with pytest.raises(EvidenceError, match="no such verdict about version '1'"):
        _answer({"chosen_options": ["Approve"]}, verdict_sha256="0" * 64)


def test_who_started_the_training_may_reject_but_not_approve_where_another_one_must_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    approval_rules(tmp_path, monkeypatch, four_eyes=True)
    candidate = registered(1, started_by="Dr. Who")
    verdict = judged(candidate)
    with pytest.raises(EvidenceError, match="started the training of version 1 and may not approve"):
        answered(candidate, verdict)
    answered(candidate, verdict, "Reject")
    answered(candidate, verdict, at="later", by="Dr. No")
    assert promoted_as_it_is(candidate)["version"] == "1"


@pytest.mark.parametrize(
    "user", [{"id": "ann", "name": "ann"}, {"id": "7", "name": "ann"}, {"id": "ann", "name": "Dr. Ann"}]
)
@pytest.mark.parametrize("choice", ["Approve", "Reject"])
def test_whoever_is_assigned_answers_by_name_or_id_whatever_the_auth_manager(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: dict[str, str], choice: str
) -> None:
    """The simple auth manager's ids are names, FAB's are numbers."""
    approval_rules(tmp_path, monkeypatch, assigned=["ann", "bob"])
    judged(registered(1))
    assert _answer({"chosen_options": [choice], "responded_by_user": user, "responded_at": "t"})["choice"] == choice


@pytest.mark.parametrize("choice", ["Approve", "Reject"])
def test_others_answer_nothing_where_people_are_assigned_but_time_may_run_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choice: str
) -> None:
    approval_rules(tmp_path, monkeypatch, assigned=["ann", "bob"])
    judged(registered(1))
    other = {"chosen_options": [choice], "responded_by_user": {"id": "8", "name": "Ann"}, "responded_at": "t"}
    with pytest.raises(EvidenceError, match=r"Ann is not assigned to answer about version 1 .* Ask one of ann, bob"):
        _answer(other)
    assert ledger.read_ledger(usecase="triage", kind="approval") == []
    nobody = {"chosen_options": ["Reject"], "responded_by_user": None, "responded_at": None, "timedout": True}
    assert _answer(nobody)["choice"] == "Timed out"


def test_two_different_people_must_approve_where_the_policy_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    approval_rules(tmp_path, monkeypatch, people=2)
    candidate = registered(1)
    verdict = judged(candidate)
    answered(candidate, verdict)
    with pytest.raises(EvidenceError, match=r"no approval of this evidence by 2 person\(s\)"):
        promoted_as_it_is(candidate)
    with pytest.raises(EvidenceError, match=r"Dr\. Who has approved version 1 already"):
        answered(candidate, verdict, at="once more")
    answered(candidate, verdict, by="Dr. No")
    assert promoted_as_it_is(candidate)["version"] == "1"
    assert ledger.read_ledger(usecase="triage", kind="promotion")[0]["body"]["approved_by"] == "Dr. Who, Dr. No"


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
