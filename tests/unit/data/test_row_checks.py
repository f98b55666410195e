"""The vectorised rules and Great Expectations find the same rows, whatever the cells hold."""

from __future__ import annotations

import random
from typing import Any

import pyarrow as pa
import pytest

from llmops_tasks.config import Column
from llmops_tasks.data import gx_report, row_checks

COLUMNS = {
    "age": Column(role="input", type="number", min=0, max=120, required=True),
    "sex": Column(role="input", values=["female", "male"]),
    "note": Column(role="input", max_length=5),
    "level": Column(role="label", required=True),
    "low": Column(role="input", type="number", min=3),
}
NUMBERS = ["0", "120", "120.01", "-0.5", "1e2", "1e9", " 7 ", "", "nan", "inf", "0x10", "1,5", "١٢", "old", None]
WORDS = ["female", "male", "Female", "", "émile", None, "aaaaaa"]


def _batch(rows: int, seed: int) -> pa.Table:
    rng = random.Random(seed)
    pick: dict[str, list[Any]] = {
        "age": NUMBERS,
        "low": NUMBERS,
        "sex": WORDS,
        "note": WORDS,
        "level": ["1", "2", "9", None],
    }
    return pa.table({name: pa.array(rng.choices(pick[name], k=rows), pa.string()) for name in COLUMNS})


@pytest.mark.parametrize("seed", range(3))
def test_rules_and_great_expectations_agree_on_every_row(seed: int, tmp_path: Any) -> None:
    typed, reasons = row_checks.Rules(COLUMNS, ["1", "2"]).check(_batch(400, seed))
    frame = typed.to_pandas()
    frame[gx_report.ROW] = range(len(frame))
    found = gx_report.run(frame, gx_report.suite(COLUMNS, ["1", "2"]), [], tmp_path, "t")
    broken: dict[int, set[str]] = {}
    for reason, rows in found.items():
        for row in rows:
            broken.setdefault(row, set()).add(reason)
    for row, reason in enumerate(reasons.to_pylist()):
        if reason is None:
            assert row not in broken
        elif ": not a " not in reason:
            assert reason in broken[row]
    assert {row for row, reason in enumerate(reasons.to_pylist()) if reason} >= set(broken)


@pytest.mark.parametrize(
    ("cell", "number"),
    [("1e2", 100.0), (" 7 ", 7.0), ("-.5", -0.5), ("3.", 3.0), ("nan", None), ("inf", None), ("1,5", None), ("", None)],
)
def test_numbers_are_what_people_write_as_numbers(cell: str, number: float | None) -> None:
    column = Column(role="input", type="number")
    typed, reasons = row_checks.Rules({"x": column}, []).check(pa.table({"x": pa.array([cell, None], pa.string())}))
    assert typed["x"].to_pylist() == [number, None]
    assert reasons.to_pylist() == [None if number is not None else "x: not a number", None]


@pytest.mark.parametrize(
    ("cell", "iso"),
    [
        ("2026-03-30T10:00:00Z", "2026-03-30T10:00:00+00:00"),
        ("2026-03-30 12:00+02:00", "2026-03-30T10:00:00+00:00"),
        ("2026-03-30", "2026-03-30T00:00:00+00:00"),
        ("2026-02-31", None),
        ("30.03.2026", None),
        ("yesterday", None),
    ],
)
def test_times_are_iso_and_utc_unless_they_say_otherwise(cell: str, iso: str | None) -> None:
    column = Column(role="time", type="timestamp")
    typed, reasons = row_checks.Rules({"x": column}, []).check(pa.table({"x": pa.array([cell], pa.string())}))
    moment = typed["x"].to_pylist()[0]
    assert (moment.isoformat() if moment else None) == iso
    assert reasons.to_pylist() == [None if iso else "x: not a timestamp"]


def test_an_empty_batch_and_an_all_null_column_are_fine() -> None:
    judge = row_checks.Rules(COLUMNS, ["1"])
    assert judge.check(_batch(0, 0))[0].num_rows == 0
    nothing = pa.table({name: pa.nulls(3, pa.string()) for name in COLUMNS})
    assert judge.check(nothing)[1].to_pylist() == ["age: missing"] * 3
