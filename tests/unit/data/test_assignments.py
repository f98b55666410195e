"""Nobody who was assigned ever moves: whatever arrives late, in any order, at the same time, or is erased."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.config import Split
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import assignments, tables
from llmops_tasks.errors import ConflictError, DataError, IntegrityError
from llmops_tasks.store import artifacts, objects

RULE = Split()  # as shipped
Visits = list[tuple[str, int]]  # patient, time


def _records(visits: Visits, key: str = "k") -> ArtifactRef:
    def build(out: Path) -> dict[str, Any]:
        with tables.Writer(out / "records.parquet", {"patient": "string", "seen": "int64"}) as writer:
            for patient, seen in visits:
                writer.add_row({"patient": patient, "seen": seen})
        return {"rows": len(visits), "key": key}

    return artifacts.publish(usecase="demo", kind="records", inputs={"visits": visits, "key": key}, build=build)


def _assign(visits: Visits, rule: Split = RULE) -> dict[str, str]:
    """Everybody's split after these records have come."""
    parts = assignments.assigned(usecase="demo", rule=rule, records=_records(visits), group="patient", time="seen")
    rows = [row for part in parts for row in tables.rows(artifacts.fetch(part) / "groups.parquet")]
    found = {row["group"]: row["split"] for row in rows}
    assert len(found) == len(rows)  # nobody twice
    return found


def _moved(before: dict[str, str], after: dict[str, str]) -> int:
    return sum(after[group] != split for group, split in before.items())


@pytest.fixture
def thousand() -> Visits:
    return [(f"P{n:04d}", 1000 + 10 * n) for n in range(1000)]


def test_a_part_is_the_use_case_s_own_and_says_how_many_it_assigned(thousand: Visits) -> None:
    given: dict[str, Any] = {"usecase": "demo", "rule": Split(cohort=10), "group": "patient", "time": "seen"}
    assignments.assigned(records=_records(thousand[:10]), **given)
    first, second = assignments.assigned(records=_records(thousand[:30]), **given)
    assert first["uri"].startswith(f"{objects.store_uri()}/demo/")
    assert (first["rows"], second["rows"]) == (10, 20)
    assert [sum(part["meta"]["counts"].values()) for part in (first, second)] == [10, 20]


def test_ten_patients_delivered_late_move_nobody(thousand: Visits) -> None:
    before = _assign(thousand)
    late = [(f"L{n}", 2001 + n) for n in range(10)]  # at rank 100
    after = _assign(sorted([*thousand, *late], key=lambda visit: visit[1]))
    assert len(after) == 1010 and _moved(before, after) == 0


def test_ten_erased_patients_move_nobody(thousand: Visits) -> None:
    before = _assign(thousand)
    assert _moved(before, _assign(thousand[:100] + thousand[110:])) == 0


@pytest.mark.parametrize("seed", range(6))
def test_no_history_moves_anybody(seed: int) -> None:
    """Deliveries in any order and size, patients who come again, earlier visits that turn up, erasures."""
    rng = random.Random(seed)
    rule = Split(cohort=rng.choice([3, 20, 50]))
    there: Visits = []
    known: dict[str, str] = {}
    for _ in range(6):
        there += [(f"P{rng.randrange(300)}", rng.randrange(10_000)) for _ in range(rng.choice([1, 5, 80]))]
        if rng.random() < 0.5:
            erased = {f"P{rng.randrange(300)}" for _ in range(20)}
            there = [visit for visit in there if visit[0] not in erased]
        rng.shuffle(there)
        if there:
            now = _assign(there, rule)
            assert {patient for patient, _ in there} <= set(now) and _moved(known, now) == 0
            known = now


def test_the_same_records_in_another_order_assign_alike(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    visits = [(f"P{n % 90}", (n * 7919) % 500) for n in range(200)]
    first = _assign(visits)
    monkeypatch.setenv("LLMOPS_HOME", f"{home}-other")
    assert _assign(visits[::-1]) == first


def test_records_without_a_time_are_assigned_last() -> None:
    parts = _assign([("P1", 5), ("P2", None), ("P3", 7)], Split(cohort=3))  # type: ignore[list-item]
    assert parts["P2"] == "test"


def test_another_rule_has_a_memory_of_its_own(thousand: Visits) -> None:
    before = _assign(thousand)
    other = _assign(thousand[:40], Split(train=0.4, validation=0.1, test=0.5))
    assert len(other) == 40
    assert _assign(thousand) == before


def test_nothing_new_writes_nothing(thousand: Visits) -> None:
    _assign(thousand)
    entries = objects.find(f"{objects.store_uri()}/demo/splits*/*")
    _assign(thousand[:500])
    assert objects.find(f"{objects.store_uri()}/demo/splits*/*") == entries


def _between(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> None:
    """Let something happen just before the journal's next entry is written, once."""
    create, waiting = objects.create, [act]

    def late(uri: str, data: bytes) -> None:
        if "/splits/" in uri and waiting:
            waiting.pop()()
        create(uri, data)

    monkeypatch.setattr(objects, "create", late)


def test_of_two_runs_at_once_the_second_assigns_what_is_still_new(
    thousand: Visits, monkeypatch: pytest.MonkeyPatch
) -> None:
    _between(monkeypatch, lambda: _assign(thousand[200:400]))
    after = _assign(thousand[:300])
    assert set(after) == {group for group, _ in thousand[:400]}
    assert _moved(after, _assign(thousand)) == 0


def test_killed_before_the_entry_is_written_the_next_run_assigns_alike(
    thousand: Visits, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        _between(patch, end)
        with pytest.raises(KeyboardInterrupt):
            _assign(thousand[:100])
    assert set(_assign(thousand[:100])) == {group for group, _ in thousand[:100]}


def test_a_journal_that_never_rests_is_given_up_on(thousand: Visits, monkeypatch: pytest.MonkeyPatch) -> None:
    def taken(uri: str, data: bytes) -> None:
        raise ConflictError("taken")

    monkeypatch.setattr(objects, "create", taken)
    with pytest.raises(ConflictError, match="Other runs keep assigning groups of 'demo'"):
        _assign(thousand[:10])


def test_pseudonyms_of_another_key_are_refused(thousand: Visits) -> None:
    """Everybody would be new, and the overlap with what a release has learnt from could not be seen."""
    _assign(thousand[:10])
    other = _records(thousand[:10], key="another")
    with pytest.raises(DataError, match="made with another key"):
        assignments.assigned(usecase="demo", rule=RULE, records=other, group="patient", time="seen")


def test_a_missing_entry_is_noticed(thousand: Visits) -> None:
    _assign(thousand[:10])
    _assign(thousand[:20])
    objects.local_path(objects.find(f"{objects.store_uri()}/demo/splits/*/00000001.json")[0]).unlink()
    with pytest.raises(IntegrityError, match="Entries are missing"):
        _assign(thousand[:30])
