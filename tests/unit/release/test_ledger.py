"""The ledger is a chain: nothing in it can be changed, removed or reordered unnoticed, and nothing gets lost."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.errors import InputError, IntegrityError, StorageError
from llmops_tasks.release import ledger, witnesses
from llmops_tasks.store import artifacts, digests, files, journal, objects
from llmops_tasks.store import s3 as speaking


def _fill(count: int) -> list[Path]:
    for number in range(count):
        ledger.record_entry(usecase="triage", kind="gate", body={"number": number}, once=f"n{number}")
    folder = objects.local_path(f"{objects.store_uri()}/triage/ledger")
    return sorted(folder.rglob("*.json"))


def _change(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    entry = json.loads(path.read_bytes())
    change(entry)
    path.write_bytes(digests.canonical(entry))


def test_an_empty_ledger_is_sound() -> None:
    assert ledger.verify_ledger(usecase="triage") == {"entries": 0, "head_sha256": ledger.GENESIS, "witnesses": 0}


def test_every_entry_holds_its_predecessors_digest() -> None:
    _fill(3)
    chain = ledger.read_ledger(usecase="triage")
    assert [entry["seq"] for entry in chain] == [1, 2, 3]
    assert [entry["previous_sha256"] for entry in chain] == [ledger.GENESIS, chain[0]["sha256"], chain[1]["sha256"]]
    assert ledger.verify_ledger(usecase="triage") == {"entries": 3, "head_sha256": chain[2]["sha256"], "witnesses": 0}
    assert ledger.head(usecase="triage") == {"seq": 3, "sha256": chain[2]["sha256"]}


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


def test_nothing_is_appended_to_a_damaged_end() -> None:
    files = _fill(3)
    _change(files[2], lambda entry: entry.update(kind="approval"))
    with pytest.raises(IntegrityError, match="Ledger entry 3 was changed"):
        ledger.record_entry(usecase="triage", kind="gate", body={}, once="new")
    assert len(list(files[0].parent.glob("*.json"))) == 3


def test_a_forged_thread_is_named() -> None:
    """The links by which the head answers questions are part of the chain."""
    files = _fill(3)

    def forge(entry: dict[str, Any]) -> None:
        entry["last"]["gate"]["seq"] = 1
        entry["sha256"] = digests.digest({name: value for name, value in entry.items() if name != "sha256"})

    _change(files[2], forge)
    with pytest.raises(IntegrityError, match="Ledger entry 3 is missing, moved or reordered"):
        ledger.verify_ledger(usecase="triage")
    with pytest.raises(IntegrityError, match="Ledger entry 1 is missing, or differs from what a later entry names"):
        list(ledger.newest("triage").walk("gate"))[1:]


# ---------------------------------------------------------------- the end of the chain


def _answered(usecase: str, head: Any, part: str = "date=2026-03-30") -> None:
    """A day, or a part of one, that was answered while the ledger ended like this."""

    def build(out: Path) -> dict[str, Any]:
        (out / "predictions.parquet").write_bytes(b"rows")
        return {"rows": 1, "ledger_head": head}

    at = f"{objects.store_uri()}/{usecase}/predictions/{part}"
    artifacts.publish(usecase=usecase, kind="predictions", inputs={"head": head}, build=build, at=at)


@pytest.mark.parametrize("part", ["date=2026-03-30", "date=2026-03-30/part-0002"])
@pytest.mark.parametrize("cut", [1, 2])
def test_a_removed_end_is_named_by_the_predictions_that_saw_it(cut: int, part: str) -> None:
    files = _fill(5)
    _answered("triage", ledger.head(usecase="triage"), part)
    assert ledger.verify_ledger(usecase="triage")["witnesses"] == 1
    for path in files[-cut:]:
        path.unlink()
    with pytest.raises(
        IntegrityError, match=f"ledger ends at entry {5 - cut}, but the predictions of {part} saw entry 5"
    ):
        ledger.verify_ledger(usecase="triage")


def test_an_end_that_was_replaced_is_named(tmp_path: Path) -> None:
    files = _fill(3)
    _answered("triage", ledger.head(usecase="triage"))
    files[-1].unlink()
    ledger.record_entry(usecase="triage", kind="gate", body={"another": True}, once="another")
    with pytest.raises(IntegrityError, match=r"Ledger entry 3 is .*, but the predictions of .* saw .*It was replaced"):
        ledger.verify_ledger(usecase="triage")


def test_a_removed_end_is_named_by_mlflow(mlflow: Path) -> None:
    from llmops_tasks import tracking

    files = _fill(4)
    tracking.client().create_registered_model("triage")
    witnesses.tell(tracking.client(), "triage", ledger.head(usecase="triage"))
    assert ledger.verify_ledger(usecase="triage")["witnesses"] == 1
    files[-1].unlink()
    with pytest.raises(IntegrityError, match="ends at entry 3, but MLflow's registered model 'triage' saw entry 4"):
        ledger.verify_ledger(usecase="triage")


def test_a_mark_of_a_decision_whose_predecessor_is_gone_is_no_reason_to_leave_a_gap() -> None:
    files = _fill(3)
    objects.create(ledger._mark("triage", "gate", "new"), b'{"from":4}')
    files[-1].unlink()
    with pytest.raises(IntegrityError, match="Ledger entry 3 is gone: a mark shows that the ledger continued after it"):
        ledger.record_entry(usecase="triage", kind="gate", body={}, once="new")


def test_a_ledger_of_another_form_is_not_written_on() -> None:
    objects.create(f"{objects.store_uri()}/triage/ledger/00000001.json", b"{}")
    for ask in (ledger.newest, lambda name: ledger.read_ledger(usecase=name)):
        with pytest.raises(IntegrityError, match="is not a journal entry"):
            ask("triage")


# ---------------------------------------------------------------- once


def test_the_same_decision_is_written_once() -> None:
    first = ledger.record_entry(usecase="triage", kind="gate", body={"a": 1}, once="x")
    assert ledger.record_entry(usecase="triage", kind="gate", body={"a": 2}, once="x") == first
    assert ledger.record_entry(usecase="triage", kind="approval", body={"a": 1}, once="x")["seq"] == 2


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(InputError, match=r"Ledger kind 'gates' is unknown. Allowed: \['registration', 'gate'"):
        ledger.record_entry(usecase="triage", kind="gates", body={}, once="x")
    assert ledger.verify_ledger(usecase="triage")["entries"] == 0


def test_entries_are_found_by_kind_in_a_verified_chain() -> None:
    _fill(2)
    ledger.record_entry(usecase="triage", kind="retrain", body={"retrain": False}, once="r")
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
    s3.delete_object(Bucket="bucket", Key=journal.address("store/triage/ledger", 3))
    with pytest.raises(IntegrityError, match="Ledger entry 3"):
        ledger.verify_ledger(usecase="triage")


def test_what_is_asked_takes_few_requests_however_long_the_chain_is(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    for number in range(8):
        ledger.record_entry(usecase="triage", kind="gate", body={}, once=str(number))
    asked: list[str] = []
    again = speaking._again
    monkeypatch.setattr(speaking, "_again", lambda uri, ask, *more: asked.append(uri) or again(uri, ask, *more))
    ledger.record_entry(usecase="triage", kind="gate", body={}, once="new")
    assert len(asked) <= 4, asked
    asked.clear()
    ledger.newest("triage").last("gate")
    assert len(asked) <= 3, asked
    asked.clear()
    found = ledger.find_entry(usecase="triage", kind="gate", once="3")
    assert found is not None and found["seq"] == 4 and len(asked) <= 2, asked


class _PowerCut(BaseException):
    """Whatever dies here runs no more of its own code."""


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("write", [1, 2])
def test_killed_between_any_two_writes_nothing_is_lost_doubled_or_blocked(
    write: int, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(2)
    create, count = objects.create, 0

    def dying(uri: str, data: bytes) -> None:
        nonlocal count
        count += 1
        if count == write and when == "before":
            raise _PowerCut
        create(uri, data)
        if count == write:
            raise _PowerCut

    with monkeypatch.context() as patch:
        patch.setattr(objects, "create", dying)
        with pytest.raises(_PowerCut):
            ledger.record_entry(usecase="triage", kind="approval", body={"a": 1}, once="x")
    ledger.record_entry(usecase="triage", kind="gate", body={}, once="somebody else's")
    entry = ledger.record_entry(usecase="triage", kind="approval", body={"a": 1}, once="x")
    assert ledger.record_entry(usecase="triage", kind="approval", body={"a": 1}, once="x") == entry
    assert [e["kind"] for e in ledger.read_ledger(usecase="triage")].count("approval") == 1
    assert ledger.verify_ledger(usecase="triage")["entries"] == 4


def test_a_writer_thought_dead_and_its_retry_write_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first sleeps between its mark and its entry; meanwhile its retry, and others, write."""
    _fill(1)
    create, asleep, wake = objects.create, threading.Event(), threading.Event()

    def slow(uri: str, data: bytes) -> None:
        if "/ledger/" in uri and threading.current_thread().name == "zombie":
            asleep.set()
            wake.wait(10)
        create(uri, data)

    monkeypatch.setattr(objects, "create", slow)
    found: list[Any] = []
    write = partial(ledger.record_entry, usecase="triage", kind="approval", body={}, once="x")
    zombie = threading.Thread(target=lambda: found.append(write()), name="zombie")
    zombie.start()
    asleep.wait(10)
    ledger.record_entry(usecase="triage", kind="gate", body={}, once="between")
    found.append(write())
    ledger.record_entry(usecase="triage", kind="gate", body={}, once="behind")
    wake.set()
    zombie.join(10)
    assert found[0] == found[1]
    assert [e["kind"] for e in ledger.read_ledger(usecase="triage")] == ["gate", "gate", "approval", "gate"]


@pytest.mark.parametrize("at", ["write", "fsync"])
def test_a_full_disk_leaves_no_half_entry(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """T12."""
    _fill(2)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if at == "fsync":
            patch.setattr(os, "fsync", full)
        else:
            patch.setattr(files, "open", lambda *a, **k: _FullFile(), raising=False)
        with pytest.raises(StorageError, match=r"No space left on device\. Free space"):
            ledger.record_entry(usecase="triage", kind="gate", body={}, once="new")
    assert ledger.verify_ledger(usecase="triage")["entries"] == 2
    assert not list(objects.local_path(objects.store_uri()).rglob("*.tmp"))
    assert ledger.record_entry(usecase="triage", kind="gate", body={}, once="new")["seq"] == 3


class _FullFile:
    """A file on a full disk."""

    def __enter__(self) -> _FullFile:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def write(self, data: bytes) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
