"""The ledger is a chain: nothing in it can be changed, removed or reordered unnoticed, and nothing gets lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.errors import InputError, IntegrityError
from llmops_tasks.release import ledger
from llmops_tasks.store import digests, objects


def _fill(count: int) -> list[Path]:
    for number in range(count):
        ledger.record_entry(usecase="triage", kind="gate", body={"number": number}, once=f"n{number}")
    folder = objects.local_path(f"{objects.store_uri()}/triage/ledger")
    return sorted(folder.glob("*.json"))


def _change(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    entry = json.loads(path.read_bytes())
    change(entry)
    path.write_bytes(digests.canonical(entry))


def test_an_empty_ledger_is_sound() -> None:
    assert ledger.verify_ledger(usecase="triage") == {"entries": 0, "head_sha256": ledger.GENESIS}


def test_every_entry_holds_its_predecessors_digest() -> None:
    _fill(3)
    chain = ledger.read_ledger(usecase="triage")
    assert [entry["seq"] for entry in chain] == [1, 2, 3]
    assert [entry["previous_sha256"] for entry in chain] == [ledger.GENESIS, chain[0]["sha256"], chain[1]["sha256"]]
    assert ledger.verify_ledger(usecase="triage") == {"entries": 3, "head_sha256": chain[2]["sha256"]}


def test_a_changed_entry_is_named() -> None:
    files = _fill(4)
    _change(files[1], lambda entry: entry["body"].update(number=99))
    with pytest.raises(IntegrityError, match="Ledger entry 2 was changed"):
        ledger.read_ledger(usecase="triage")


def test_an_entry_changed_together_with_its_digest_betrays_itself_in_the_next() -> None:
    files = _fill(4)

    def forge(entry: dict[str, Any]) -> None:
        entry["body"]["number"] = 99
        entry["sha256"] = digests.digest({name: value for name, value in entry.items() if name != "sha256"})

    _change(files[1], forge)
    with pytest.raises(IntegrityError, match="Ledger entry 3 is missing, moved or reordered"):
        ledger.read_ledger(usecase="triage")


def test_a_removed_entry_is_named() -> None:
    _fill(4)[1].unlink()
    with pytest.raises(IntegrityError, match="Ledger entry 2 is missing"):
        ledger.verify_ledger(usecase="triage")


def test_reordered_entries_are_named() -> None:
    files = _fill(4)
    third, fourth = files[2].read_bytes(), files[3].read_bytes()
    files[2].write_bytes(fourth)
    files[3].write_bytes(third)
    with pytest.raises(IntegrityError, match="Ledger entry 3 is missing, moved or reordered"):
        ledger.read_ledger(usecase="triage")


def test_nothing_is_appended_to_a_damaged_chain() -> None:
    files = _fill(3)
    _change(files[0], lambda entry: entry.update(kind="approval"))
    with pytest.raises(IntegrityError, match="Ledger entry 1"):
        ledger.record_entry(usecase="triage", kind="gate", body={}, once="new")
    assert len(list(files[0].parent.glob("*.json"))) == 3


def test_the_same_decision_is_written_once() -> None:
    first = ledger.record_entry(usecase="triage", kind="gate", body={"a": 1}, once="x")
    assert ledger.record_entry(usecase="triage", kind="gate", body={"a": 2}, once="x") == first
    assert ledger.record_entry(usecase="triage", kind="retrain", body={"a": 1}, once="x")["seq"] == 2


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match=r"Ledger kind 'gates' is unknown. Allowed: \['gate'"):
        ledger.record_entry(usecase="triage", kind="gates", body={}, once="x")
    assert ledger.verify_ledger(usecase="triage")["entries"] == 0


def test_entries_are_found_by_kind_in_a_verified_chain() -> None:
    _fill(2)
    ledger.record_entry(usecase="triage", kind="retrain", body={}, once="r")
    assert [entry["seq"] for entry in ledger.read_ledger(usecase="triage", kind="retrain")] == [3]


def test_many_writers_lose_no_entry_and_leave_no_gap() -> None:
    def write(thread: int) -> None:
        for number in range(20):
            ledger.record_entry(usecase="triage", kind="gate", body={}, once=f"{thread}-{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(8)))
    chain = ledger.read_ledger(usecase="triage")
    assert [entry["seq"] for entry in chain] == list(range(1, 161))
    assert {entry["body"]["once"] for entry in chain} == {f"{t}-{n}" for t in range(8) for n in range(20)}


def test_the_chain_holds_on_s3(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda n: ledger.record_entry(usecase="triage", kind="gate", body={}, once=str(n)), range(6)))
    assert ledger.verify_ledger(usecase="triage")["entries"] == 6
    s3.delete_object(Bucket="bucket", Key="store/triage/ledger/00000003.json")
    with pytest.raises(IntegrityError, match="Ledger entry 3"):
        ledger.verify_ledger(usecase="triage")


VERDICT: Any = {"verdict": "pass", "evidence_sha256": "e" * 64, "policy_sha256": "p" * 64, "candidate_version": "2"}


def test_the_same_verdict_is_recorded_once_and_a_changed_policy_gives_a_new_entry() -> None:
    first = ledger.record_verdict(usecase="triage", verdict=VERDICT)
    assert ledger.record_verdict(usecase="triage", verdict=VERDICT) == first
    assert ledger.record_verdict(usecase="triage", verdict={**VERDICT, "policy_sha256": "q" * 64})["seq"] == 2


def _answer(response: dict[str, Any]) -> dict[str, Any]:
    return ledger.record_approval(
        usecase="triage", candidate={"version": "2"}, verdict=VERDICT, champion={"version": "1"}, response=response
    )


def test_an_approval_is_bound_to_evidence_champion_and_person() -> None:
    response = {"chosen_options": ["Approve"], "responded_by_user": {"id": "7", "name": "Dr. Who"}, "responded_at": "t"}
    body = _answer(response)
    assert (body["choice"], body["by"], body["version"], body["champion_version"]) == ("Approve", "Dr. Who", "2", "1")
    assert body["evidence_sha256"] == VERDICT["evidence_sha256"]
    assert _answer(response) == body
    assert ledger.verify_ledger(usecase="triage")["entries"] == 1


def test_an_answer_by_time_out_names_nobody() -> None:
    body = _answer({"chosen_options": ["Reject"], "responded_by_user": None, "responded_at": None})
    assert (body["choice"], body["by"]) == ("Reject", "nobody: time ran out")


def test_retraining_decisions_are_recorded_once_yes_or_no() -> None:
    decisions: list[dict[str, Any]] = [{"retrain": False, "once": "x"}, {"retrain": True, "once": "y"}]
    assert ledger.record_decisions(usecase="triage", decisions=decisions) == decisions
    assert ledger.record_decisions(usecase="triage", decisions=decisions) == decisions
    assert [entry["body"] for entry in ledger.read_ledger(usecase="triage", kind="retrain")] == decisions
