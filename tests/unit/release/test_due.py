"""What waits is found from ledger and store alone, and what is done is not done twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from llmops_tasks.errors import EvidenceError, InputError
from llmops_tasks.release import due, ledger, records
from llmops_tasks.store import artifacts, digests, partitions
from tests.support.releases import (
    answered,
    approval_rules,
    approved,
    dataset,
    judged,
    promoted,
    promoted_as_it_is,
    registered,
    released,
    rolled_back,
)

pytestmark = pytest.mark.usefixtures("mlflow")


def _candidates() -> list[str]:
    return due.find_due_candidates(usecase="triage")


def _questions() -> list[str]:
    return [question["version"] for question in due.find_due_questions(usecase="triage")]


def test_every_registered_candidate_without_a_verdict_is_due_the_newest_first() -> None:
    """Two came while one was waiting for its approval: Airflow makes one run for both, and shows the last."""
    judged(registered(1))
    registered(2)
    registered(3, smoke=True)
    assert _candidates() == ["3", "2"]
    judged({"version": "2", "release": released(2)}, said="fail")
    assert _candidates() == ["3"]


def test_what_was_refused_rejected_or_promoted_is_not_due_again() -> None:
    judged(registered(1), said="fail")
    judged(registered(2), said="insufficient")
    third = registered(3)
    answered(third, judged(third), "Reject")
    promoted(registered(4))
    assert (_candidates(), _questions()) == ([], [])
    rolled = registered(5)
    promoted(rolled)
    rolled_back()
    assert _candidates() == []


def test_a_passed_verdict_waits_for_an_answer_until_there_is_one() -> None:
    candidate = registered(1)
    verdict = judged(candidate)
    assert due.find_due_questions(usecase="triage") == [{"version": "1", "verdict_sha256": digests.digest(verdict)}]
    answered(candidate, verdict)
    assert _questions() == ["1"]  # approved, and not yet promoted: the run that asks promotes as well
    promoted_as_it_is(candidate)
    assert _questions() == []


def test_a_verdict_beside_a_former_champion_is_due_again_where_it_may_still_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    approval_rules(tmp_path, monkeypatch, newer_candidate="keeps_open")
    first, second, third = registered(1), registered(2), registered(3)
    judged(first)
    approved(third)
    promoted(second)
    assert (_candidates(), _questions()) == (["3", "1"], [])
    judged(third)
    assert (_candidates(), _questions()) == (["1"], ["3"])


def test_a_superseded_candidate_is_not_due_and_its_question_is_closed() -> None:
    judged(registered(1))
    second = registered(2)
    judged(second)
    assert _questions() == ["2"]
    promoted_as_it_is_after(second)
    assert (_candidates(), _questions()) == ([], [])


def promoted_as_it_is_after(candidate: dict[str, Any]) -> None:
    approved(candidate)
    promoted_as_it_is(candidate)


def test_a_champion_that_returns_makes_an_earlier_verdict_true_again_and_its_question_is_put() -> None:
    promoted(registered(1))
    promoted(registered(2))
    third = registered(3)
    judged(third)
    beside_two = due.find_due(usecase="triage", stage="promote")
    rolled_back()
    again = due.find_due(usecase="triage", stage="evaluate")
    judged(third)
    rolled_back(version="2")
    (run,) = due.find_due(usecase="triage", stage="evaluate")
    assert run["run_id"] not in {one["run_id"] for one in again}
    judged(third)
    assert _candidates() == []
    assert due.find_due(usecase="triage", stage="promote") != beside_two
    answered(third, judged(third))
    assert promoted_as_it_is(third)["version"] == "3"


def test_a_question_is_put_again_once_what_superseded_it_is_rejected() -> None:
    first, second = registered(1), registered(2)
    approved(first)
    (before,) = due.find_due(usecase="triage", stage="promote")
    newer = judged(second)
    assert [run["conf"]["version"] for run in due.find_due(usecase="triage", stage="promote")] == ["2"]
    answered(second, newer, "Reject")
    (after,) = due.find_due(usecase="triage", stage="promote")
    assert (after["conf"], after["run_id"] == before["run_id"]) == ({"version": "1"}, False)


def test_a_changed_gate_makes_an_open_verdict_due_again() -> None:
    judged(registered(1), policy_sha256="q" * 64)
    assert (_candidates(), _questions()) == (["1"], [])


def test_the_approver_reads_what_an_answer_means_beside_newer_candidates() -> None:
    judged(registered(1))
    question = due.find_question(usecase="triage", version="1")
    assert question["passed"] and "promotes nothing" in question["notice"] and "already" not in question["notice"]
    judged(registered(2))
    assert "Version 2 has passed it already" in due.find_question(usecase="triage", version="1")["notice"]
    with pytest.raises(EvidenceError, match="no verdict about version '7'"):
        due.find_question(usecase="triage", version="7")


def test_an_answer_is_found_by_the_verdict_that_it_was_given_to_and_time_that_ran_out_is_none() -> None:
    candidate = registered(1)
    first = judged(candidate)
    about: Any = {"usecase": "triage", "version": "1", "verdict_sha256": digests.digest(first)}
    assert due.find_answer(**about) is None
    records.record_approval(**about, response={"chosen_options": ["Reject"], "timedout": True})
    assert due.find_answer(**about) is None
    given = answered(candidate, first)
    assert due.find_answer(**about) == given | {"once": due.find_answer(**about)["once"]}  # type: ignore[index]
    second = judged(candidate, policy_sha256="q" * 64)
    assert due.find_answer(usecase="triage", version="1", verdict_sha256=digests.digest(second)) is None


def test_only_a_yes_that_still_counts_goes_on() -> None:
    candidate = registered(1)
    verdict = judged(candidate)
    assert not due.may_be_promoted(usecase="triage", version="1")
    answered(candidate, verdict, "Reject")
    assert not due.may_be_promoted(usecase="triage", version="1")
    answered(candidate, verdict, at="later")
    assert due.may_be_promoted(usecase="triage", version="1")
    judged(registered(2))
    assert not due.may_be_promoted(usecase="triage", version="1")


def test_who_was_promoted_and_superseded_since_may_be_shown_again() -> None:
    """Its run is cleared and goes through once more: nothing new happens, and nothing fails."""
    promoted(registered(1))
    judged(registered(2))
    assert due.may_be_promoted(usecase="triage", version="1")


def test_a_candidate_comes_with_the_dataset_it_was_trained_on() -> None:
    release = registered(1, data=dataset(2))["release"]
    found = due.find_candidate(usecase="triage", version="1")
    assert (found["version"], found["release"], found["dataset"]) == ("1", release, dataset(2))
    with pytest.raises(EvidenceError, match="has no version '9'"):
        due.find_candidate(usecase="triage", version="9")


# ---------------------------------------------------------------- datasets and days


def test_the_newest_dataset_is_due_until_a_candidate_was_trained_on_it() -> None:
    assert due.find_due_dataset(usecase="triage") is None
    first = dataset(1)
    assert due.find_due_dataset(usecase="triage") == first
    registered(1, data=first, smoke=True)
    registered(2, data=first, control="shuffled_labels")
    assert due.find_due_dataset(usecase="triage") == first  # neither is a training
    registered(3, data=first)
    assert due.find_due_dataset(usecase="triage") is None
    second, third = dataset(2), dataset(3)
    assert due.find_due_dataset(usecase="triage") == third != second
    registered(4, data=third)
    assert due.find_due_dataset(usecase="triage") is None  # the second one's rows are in the third


def test_an_earlier_dataset_is_found_by_how_its_digest_begins() -> None:
    with pytest.raises(InputError, match="There is no dataset of 'triage' yet"):
        due.find_dataset(usecase="triage")
    first, second = dataset(1), dataset(2)
    assert due.find_dataset(usecase="triage") == second
    assert due.find_dataset(usecase="triage", sha256=first["sha256"][:10]) == first
    with pytest.raises(InputError, match="no dataset whose sha256 begins with 'ffffffff'"):
        due.find_dataset(usecase="triage", sha256="ffffffff")


def _part(date: str, number: int) -> None:
    def build(out: Path) -> dict[str, Any]:
        pd.DataFrame({"record_id": [f"{date}-{number}"]}).to_parquet(out / "predictions.parquet")
        return {"rows": 1, "release_version": "1", "parents": [artifacts.parent(_day(date))]}

    at = f"{partitions.folder('triage', date)}/part-{number:04d}"
    artifacts.publish(usecase="triage", kind="predictions", inputs={"n": number, "date": date}, build=build, at=at)


def _day(date: str) -> Any:
    def build(out: Path) -> dict[str, Any]:
        (out / "data.parquet").write_text(date)
        return {"rows": 1, "date": date}

    return artifacts.publish(usecase="triage", kind="day", inputs={"date": date}, build=build)


def _decide(found: list[dict[str, Any]]) -> None:
    for one in found:
        sha256 = one["predictions"]["sha256"]
        decision = {"retrain": False, "date": one["day"]["meta"]["date"], "once": sha256, "predictions_sha256": sha256}
        records.record_decisions(usecase="triage", decisions=[decision])


def test_an_answered_day_is_due_until_it_has_a_decision_and_again_when_records_were_added() -> None:
    assert due.find_due_days(usecase="triage") == []
    promoted(registered(1))
    _part("2026-03-31", 1)
    _part("2026-03-30", 1)
    found = due.find_due_days(usecase="triage")
    assert [one["day"] for one in found] == [_day("2026-03-30"), _day("2026-03-31")]
    assert [one["champion"]["version"] for one in found] == ["1", "1"]
    _decide(found)
    assert due.find_due_days(usecase="triage") == []
    _part("2026-03-30", 2)
    (late,) = due.find_due_days(usecase="triage")
    assert (late["day"]["meta"]["date"], late["predictions"]["rows"]) == ("2026-03-30", 2)


def test_a_day_and_a_verdict_of_an_earlier_version_break_nothing(caplog: pytest.LogCaptureFixture) -> None:
    promoted(registered(1))

    def build(out: Path) -> dict[str, Any]:
        pd.DataFrame({"record_id": ["a"]}).to_parquet(out / "predictions.parquet")
        return {"rows": 1, "release_version": "1"}

    at = f"{partitions.folder('triage', '2026-03-29')}/part-0001"
    artifacts.publish(usecase="triage", kind="predictions", inputs={"n": 0}, build=build, at=at)
    assert due.find_due_days(usecase="triage") == []
    assert "2026-03-29 was scored by an earlier version" in caplog.text
    registered(2)
    old = {"verdict": "pass", "candidate_version": "2", "evidence_sha256": "e", "policy_sha256": "p"}
    ledger.record_entry(usecase="triage", kind="gate", body={"verdict": old}, once="old")
    assert _candidates() == ["2"]  # judged beside nobody, says an entry that does not say beside whom
    with pytest.raises(EvidenceError, match="no verdict about version '2'"):
        due.find_question(usecase="triage", version="2")


def test_a_day_that_is_damaged_keeps_no_other_day_waiting() -> None:
    promoted(registered(1))
    _part("2026-03-30", 1)
    _part("2026-03-31", 1)
    (artifacts.fetch(_day("2026-03-30")) / artifacts.MANIFEST).unlink()
    assert [one["day"]["meta"]["date"] for one in due.find_due_days(usecase="triage")] == ["2026-03-31"]


def test_everything_that_waits_is_named_as_the_run_that_does_it_and_alike_each_time() -> None:
    promoted(registered(1))
    judged(registered(2))
    registered(3)
    _part("2026-03-30", 1)
    dataset(2)
    found = due.find_due(usecase="triage")
    assert [(one["stage"], sorted(one["conf"])) for one in found] == [
        ("train", ["dataset"]), ("evaluate", ["version"]), ("promote", ["version"]), ("monitor", []),
    ]  # fmt: skip
    assert found[0]["run_id"] == f"due__{dataset(2)['sha256'][:12]}"
    assert found[1]["run_id"].startswith("due__3_beside_1_")
    assert found == due.find_due(usecase="triage")
    assert len({one["run_id"] for one in found}) == 4


def test_a_decision_to_retrain_waits_until_something_was_trained() -> None:
    assert due.find_due(usecase="triage", stage="prepare_data") == []
    yes: Any = {"retrain": True, "date": "2026-03-31", "once": "o" * 64, "reasons": []}
    records.record_decisions(usecase="triage", decisions=[yes])
    (run,) = due.find_due(usecase="triage", stage="prepare_data")
    assert (run["conf"], run["run_id"]) == ({}, f"due__retrain_{'o' * 12}")
    registered(1, smoke=True)
    assert due.find_due(usecase="triage", stage="prepare_data") == [run]  # a smoke run is no training
    registered(2)
    assert due.find_due(usecase="triage", stage="prepare_data") == []
