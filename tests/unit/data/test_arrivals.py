"""A watermark loses nobody: what is left out for its time is counted, and named where it was not read before."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import ingestion, tables
from llmops_tasks.data.ingestion import ingest
from llmops_tasks.store import artifacts, objects
from tests.support import small

NOW = datetime.datetime(2026, 1, 20, 12, tzinfo=datetime.UTC)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[datetime.datetime]:
    """What the clock says; its last element counts."""
    times = [NOW]
    monkeypatch.setattr(ingestion, "now", lambda: times[-1])
    return times


def _usecase(tmp_path: Path, mode: str = "watermark", **source: Any) -> str:
    (tmp_path / "in").mkdir(exist_ok=True)
    return small.usecase(tmp_path, {"uri": f"file://{tmp_path}/in/*.csv", "incremental": mode, **source})


def _write(tmp_path: Path, name: str, times: dict[int, str]) -> None:
    small.csv(tmp_path / "in", [small.row(n, seen=time) for n, time in times.items()], name)


def _visits(ref: ArtifactRef) -> list[str]:
    return [row["visit"] for row in tables.rows(artifacts.fetch(ref) / "records.parquet")]


def _bad(ref: ArtifactRef) -> list[tuple[str, int, str]]:
    rows = tables.rows(artifacts.fetch(ref) / "rejected.parquet")
    return [(row["source"].rsplit("/", 1)[1], row["row"], row["reason"]) for row in rows]


FUTURE = "seen: more than 24 hours in the future"


def test_one_row_typed_2062_is_a_bad_row_and_takes_no_later_row_with_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All of the next day's rows used to vanish, with none rejected."""
    usecase = _usecase(tmp_path)
    _write(tmp_path, "day.csv", {1: "2026-01-10T10:00", 2: "2062-01-10T10:00"})
    ref = ingest(usecase=usecase)
    assert (_visits(ref), _bad(ref)) == (["V1"], [("day.csv", 2, FUTURE)])
    assert "'future': 1" in caplog.text and "2062" not in caplog.text
    _write(tmp_path, "day.csv", {1: "2026-01-10T10:00", 2: "2062-01-10T10:00", 3: "2026-01-11T10:00"})
    ref = ingest(usecase=usecase)
    assert (_visits(ref), _bad(ref)) == (["V1", "V3"], [("day.csv", 2, FUTURE)])
    assert ref["meta"]["left_out"] == {"future": 1, "read before": 2}


def test_a_second_hospitals_older_file_is_read(tmp_path: Path) -> None:
    usecase = _usecase(tmp_path)
    _write(tmp_path, "north.csv", {1: "2026-01-10T10:00", 2: "2026-01-10T12:00"})
    ingest(usecase=usecase)
    _write(tmp_path, "south.csv", {3: "2026-01-10T11:00", 4: "2025-01-01T00:00"})
    ref = ingest(usecase=usecase)
    assert (_visits(ref), ref["meta"]["left_out"]) == (["V1", "V2", "V3", "V4"], {})


def test_a_file_that_holds_all_of_an_earlier_one_adds_what_is_new(tmp_path: Path) -> None:
    usecase = _usecase(tmp_path)
    _write(tmp_path, "export-1.csv", {1: "2026-01-10T10:00", 2: "2026-01-11T10:00"})
    ingest(usecase=usecase)
    _write(tmp_path, "export-2.csv", {1: "2026-01-10T10:00", 2: "2026-01-11T10:00", 3: "2026-01-09T10:00"})
    ref = ingest(usecase=usecase)
    assert (_visits(ref), ref["meta"]["left_out"]) == (["V1", "V2", "V3"], {"read before": 2})


@pytest.mark.parametrize(("hours", "late"), [(24, [4]), (0, [3, 4]), (1000, [])])
def test_new_rows_of_a_file_may_be_so_late_and_later_ones_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, hours: int, late: list[int]
) -> None:
    usecase = _usecase(tmp_path, allowed_lateness_hours=hours)
    times = {1: "2026-01-10T10:00", 2: "2026-01-12T10:00"}
    _write(tmp_path, "day.csv", times)
    ingest(usecase=usecase)
    times |= {3: "2026-01-11T22:00", 4: "2026-01-08T10:00", 5: "2026-01-12T10:00", 6: "2026-01-13T10:00"}
    _write(tmp_path, "day.csv", times)
    ref = ingest(usecase=usecase)
    reason = f"seen: more than {hours} hours earlier than the latest row read of this file before"
    assert _visits(ref) == [f"V{n}" for n in times if n not in late]
    assert _bad(ref) == [("day.csv", n, reason) for n in late]
    assert ref["meta"]["left_out"].get("late", 0) == len(late)
    assert ("'late'" in caplog.text) == bool(late)
    _write(tmp_path, "day.csv", {**times, 7: "2026-01-13T11:00"})  # what was set aside is not set aside again
    assert ingest(usecase=usecase)["meta"]["rejected"] == len(late)


def test_times_are_compared_as_moments_not_by_their_spelling(tmp_path: Path) -> None:
    usecase = _usecase(tmp_path, allowed_lateness_hours=0)
    _write(tmp_path, "a.csv", {0: "2026-01-05T12:00:00+02:00", 1: "2026-01-05 09:59:59", 2: "20260105"})
    ingest(usecase=usecase)
    times = ["2026-01-05T10:00:00Z", "2026-01-05T10:00:00.5Z", "2026-01-05T11:30:00+02:00", "yesterday", ""]
    _write(tmp_path, "a.csv", dict(enumerate(times, start=10)))
    ref = ingest(usecase=usecase)
    assert _visits(ref) == ["V0", "V1", "V2", "V10", "V11", "V13", "V14"]
    assert [row for _, row, _ in _bad(ref)] == [3]


@pytest.mark.parametrize("mode", ["none", "objects", "watermark"])
@pytest.mark.parametrize(
    "time", ["2026-01-21T12:00:01Z", "2062-01-01", "9999-12-31T23:59:59-05:00", "2026-01-21T13:30+01:00"]
)
def test_a_time_beyond_the_limit_is_a_bad_row_in_every_mode(tmp_path: Path, mode: str, time: str) -> None:
    usecase = _usecase(tmp_path, mode)
    _write(tmp_path, "a.csv", {1: "2026-01-21T12:00:00Z", 2: time, 3: "2026-01-21T14:00+02:00"})
    ref = ingest(usecase=usecase)
    assert _visits(ref) == (["V1", "V3"] if time < "9" else ["V1", "V2", "V3"])  # no moment at all: validation's
    assert ref["meta"]["left_out"] == ({"future": 1} if time < "9" else {})


def test_the_limit_may_be_lifted(tmp_path: Path) -> None:
    usecase = _usecase(tmp_path, "none", max_future_hours=None)
    _write(tmp_path, "a.csv", {1: "2062-01-10T10:00"})
    assert _visits(ingest(usecase=usecase)) == ["V1"]


@pytest.mark.parametrize("mode", ["none", "objects", "watermark"])
def test_a_rerun_a_year_later_gives_what_the_clock_said_then(
    tmp_path: Path, clock: list[datetime.datetime], mode: str
) -> None:
    usecase = _usecase(tmp_path, mode)
    _write(tmp_path, "a.csv", {1: "2026-01-10T10:00", 2: "2026-06-10T10:00"})
    first = ingest(usecase=usecase)
    clock.append(NOW + datetime.timedelta(days=365))
    assert ingest(usecase=usecase) == first and _visits(first) == ["V1"]
    parts = objects.find(
        f"{objects.store_uri()}/small/records{'' if mode == 'none' else '_part'}/*/{artifacts.MANIFEST}"
    )
    assert [objects.read_json(uri)["meta"]["now"] for uri in parts] == [NOW.isoformat()]


def test_rows_known_by_file_and_number_are_known_again_by_what_they_hold(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source = {"uri": f"file://{tmp_path}/in/*.csv", "incremental": "watermark"}
    usecase = small.usecase(tmp_path, source, {"visit": {"source": "_id"}})
    _write(tmp_path, "a.csv", {1: "2026-01-10T10:00", 2: "2026-01-11T10:00"})
    ingest(usecase=usecase)
    _write(tmp_path, "a.csv", {3: "2026-01-11T09:00", 1: "2026-01-10T10:00", 2: "2026-01-11T10:00"})
    ref = ingest(usecase=usecase)
    assert [row["patient"] for row in tables.rows(artifacts.fetch(ref) / "records.parquet")] == ["P1", "P2", "P3"]


@pytest.mark.parametrize("seed", range(4))
def test_over_any_history_every_row_is_read_once_or_named(tmp_path: Path, seed: int) -> None:
    import random

    rng = random.Random(seed)
    usecase, files, number = (
        _usecase(tmp_path, allowed_lateness_hours=rng.choice([0, 5, 48])),
        dict[str, dict[int, str]](),
        0,
    )
    for _ in range(6):
        for name in rng.sample(["n.csv", "s.csv", "w.csv"], 2):
            rows = files.setdefault(name, {})
            for _ in range(rng.randint(0, 4)):
                number += 1
                time = NOW + datetime.timedelta(hours=rng.randint(-200, 60))
                rows[number] = time.isoformat()
            if rows:
                _write(tmp_path, name, dict(rng.sample(list(rows.items()), len(rows))))
        if not files or not any(files.values()):
            continue
        ref = ingest(usecase=usecase)
        kept = _visits(ref)
        assert len(kept) == len(set(kept))
        assert len(kept) + ref["meta"]["rejected"] == sum(map(len, files.values()))
