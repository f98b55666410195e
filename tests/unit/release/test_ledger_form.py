"""The form in which a ledger lies in the store: what was written years ago must be read, by this code or by another."""

from __future__ import annotations

import datetime
import hashlib
import json
from typing import Any

import pytest

from llmops_tasks.release import ledger
from llmops_tasks.store import digests, objects


def _record(kind: str, once: str, **body: Any) -> Any:
    return ledger.record_entry(usecase="triage", kind=kind, body=body, once=once)


def _kept(number: int) -> dict[str, Any]:
    """An entry as anybody would read it, without this package."""
    path = objects.local_path(f"{objects.store_uri()}/triage/ledger/999999/{number:08d}.json")
    return dict(json.loads(path.read_bytes()))


def test_the_first_entry_follows_nothing_and_names_itself_by_its_content() -> None:
    _record("gate", "x", number=7)
    entry = _kept(1)
    own = entry.pop("sha256")
    time = datetime.datetime.fromisoformat(entry["time"])
    assert time.utcoffset() == datetime.timedelta() and time.microsecond == 0
    assert abs(time - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=1)
    assert entry == {
        "seq": 1, "previous_sha256": "0" * 64, "last": {}, "kind": "gate", "time": entry["time"],
        "body": {"number": 7, "once": "x"},
    }  # fmt: skip
    assert own == hashlib.sha256(json.dumps(entry, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


@pytest.mark.parametrize(
    ("kind", "body", "more"),
    [
        ("registration", {}, []),
        ("gate", {}, []),
        ("approval", {}, []),
        ("promotion", {}, ["change of champion"]),
        ("rollback", {}, ["change of champion"]),
        ("retrain", {"retrain": True}, ["retraining"]),
        ("retrain", {"retrain": False}, []),
        ("base_model_selection", {}, []),
    ],
)
def test_an_entry_names_the_newest_of_every_thread_before_it(kind: str, body: dict[str, Any], more: list[str]) -> None:
    first = _record(kind, "x", **body)
    link = {"seq": 1, "sha256": first["sha256"]}
    _record("gate", "next")
    assert _kept(2)["last"] == dict.fromkeys([kind, *more], link)
    assert _kept(2)["previous_sha256"] == first["sha256"]


def test_a_thread_is_walked_from_the_newest_to_the_first_past_all_others() -> None:
    for number in range(6):
        _record("gate" if number % 2 else "approval", str(number))
    end = ledger.newest("triage")
    assert [entry["seq"] for entry in end.walk("gate")] == [6, 4, 2]
    assert [entry["seq"] for entry in end.walk("approval")] == [5, 3, 1]
    assert end.last("promotion") is None and list(end.walk("promotion")) == []


@pytest.mark.parametrize("between", [1, 2, 3])
def test_a_decision_is_found_behind_whatever_came_between_its_mark_and_its_entry(between: int) -> None:
    mark = f"{objects.store_uri()}/triage/ledger_once/{digests.digest(['approval', 'x'])}"
    objects.create(mark, b'{"from":1}')  # its writer was killed here
    for number in range(between):
        _record("gate", str(number))
    assert ledger.find_entry(usecase="triage", kind="approval", once="x") is None
    entry = _record("approval", "x")
    assert entry["seq"] == between + 1
    assert ledger.find_entry(usecase="triage", kind="approval", once="x") == entry


@pytest.mark.parametrize("mark", [b'{"from":0}', b'{"from":"1"}', b"{}"])
def test_a_mark_that_was_changed_is_named(mark: bytes) -> None:
    objects.create(f"{objects.store_uri()}/triage/ledger_once/{digests.digest(['gate', 'x'])}", mark)
    with pytest.raises(ledger.IntegrityError, match="was changed after it was written"):
        _record("gate", "x")


def test_a_writer_whose_twin_looked_later_goes_on_from_the_twins_mark() -> None:
    """Between its look at the end and its own mark another entry came, and the twin marked behind that."""
    _record("gate", "first")
    mark = f"{objects.store_uri()}/triage/ledger_once/{digests.digest(['approval', 'x'])}"

    def body(end: ledger.Head) -> dict[str, Any]:
        if end.seq == 1:
            _record("gate", "between")
            objects.create(mark, b'{"from":3}')
        return {"after": end.seq}

    entry = ledger.append(usecase="triage", kind="approval", once="x", body=body)
    assert (entry["seq"], entry["body"]["after"]) == (3, 2)
    assert ledger.verify_ledger(usecase="triage")["entries"] == 3


def test_a_ledger_where_others_are_always_quicker_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "_TRIES", 3)

    def body(end: ledger.Head) -> dict[str, Any]:
        _record("gate", f"after {end.seq}")
        return {}

    with pytest.raises(ledger.ConflictError, match="busy for 3 tries; nothing was written"):
        ledger.append(usecase="triage", kind="approval", once="x", body=body)
    assert [entry["seq"] for entry in ledger.read_ledger(usecase="triage", kind="gate")] == [1, 2, 3]
