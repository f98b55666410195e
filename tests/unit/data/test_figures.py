"""A dataset in figures, counted by hand on a few rows."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.data.figures import figures
from tests.support import small


def _figures(folder: Path, rows: list[tuple[str, str, str, str | None]], **curate: Any) -> dict[str, Any]:
    """Of rows of text, label, split and time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    times = [time and datetime.datetime.fromisoformat(time) for *_, time in rows]
    columns: dict[str, Any] = {"record_id": [f"V{n}" for n in range(len(rows))]}
    columns |= {name: [row[at] for row in rows] for at, name in enumerate(("text", "label", "split"))}
    pq.write_table(
        pa.table({**columns, "time": pa.array(times, pa.timestamp("us", tz="UTC"))}), folder / "data.parquet"
    )
    case = config.load(small.usecase(folder, {"uri": "file:///x"}, curate=curate))
    return figures(case, folder / "data.parquet", len(rows))


ROWS = [
    ("one", "urgent", "train", "2026-01-02T00:00+00:00"),
    ("one two three", "urgent", "train", "2026-01-01T10:00+00:00"),
    ("one two", "calm", "test", "2026-03-01T00:00+00:00"),
]


def test_rows_labels_words_and_span_are_counted(tmp_path: Path) -> None:
    found = _figures(tmp_path, ROWS)
    assert found["splits"] == {"train": 2, "validation": 0, "test": 1}
    assert found["labels"] == {"train": {"urgent": 2}, "validation": {}, "test": {"calm": 1}}
    assert found["words"] == {"min": 1, "median": 2, "p95": 3, "max": 3}
    assert found["span"] == ["2026-01-01T10:00:00+00:00", "2026-03-01T00:00:00+00:00"]
    assert found["evaluation"]["rows"] == 1 and "languages" not in found


def test_the_evaluation_set_is_known_by_its_rows_alone(tmp_path: Path) -> None:
    sha256 = _figures(tmp_path, ROWS)["evaluation"]["sha256"]
    assert _figures(tmp_path, [("other", *ROWS[0][1:]), *ROWS[1:]])["evaluation"]["sha256"] == sha256
    assert _figures(tmp_path, [*ROWS[:2], ("other", *ROWS[2][1:])])["evaluation"]["sha256"] != sha256


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59.999999+00:00", "0001-01-01T00:00:00+00:00", None])
def test_the_first_and_the_last_moment_have_a_span(tmp_path: Path, time: str | None) -> None:
    """As a fraction of seconds, the last one is in the year 10000."""
    assert _figures(tmp_path, [("one", "calm", "test", time)])["span"] == [time and time[:19] + "+00:00"] * 2


def test_languages_that_nobody_expects_are_counted_together(tmp_path: Path) -> None:
    rows = [
        ("the patient has had a cough for three days now", *ROWS[0][1:]),
        ("le patient tousse depuis trois jours", *ROWS[0][1:]),
    ]
    assert _figures(tmp_path, rows, languages=["en"])["languages"] == {"en": 1, "other": 1}
