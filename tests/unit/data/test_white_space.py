"""One rule for white space, one for time: what the eye cannot tell apart is one thing, and every bad row has a reason."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import tables
from llmops_tasks.data.anonymization import anonymize
from llmops_tasks.data.dataset import build_dataset
from llmops_tasks.data.ingestion import ingest
from llmops_tasks.data.validation import validate
from llmops_tasks.store import artifacts
from tests.support import small

SPACES = ["", " ", "  ", "\t", "\xa0", "\u3000", "\u200b", " \ufeff", "\u2009\u200b "]
SEX = {"sex": {"role": "input", "values": ["female", "male"]}}


def _validated(
    tmp_path: Path, rows: list[str], columns: dict[str, Any] | None = None, **data: Any
) -> tuple[str, ArtifactRef]:
    header = small.HEADER + (",sex" if columns else "")
    source = {"uri": small.csv(tmp_path, rows, header=header), "max_future_hours": None}
    usecase = small.usecase(tmp_path, source, columns, **data)
    return usecase, validate(usecase=usecase, records=ingest(usecase=usecase))


def _rows(ref: ArtifactRef, name: str = "records.parquet") -> list[dict[str, Any]]:
    return list(tables.rows(artifacts.fetch(ref) / name))


def test_ids_groups_labels_and_words_are_trimmed_alike(tmp_path: Path) -> None:
    """ "P1" and "P1 " were two patients, while "1 " was no label."""
    rows = [
        small.row(
            n, visit=f"{space}V{n}{space}", patient=f"{space}P1{space}", level=f"{space}1{space}", sex=f"male{space}"
        )
        for n, space in enumerate(SPACES)
    ]
    _, ref = _validated(tmp_path, rows, SEX, max_quarantined=0)
    found = {(row["patient"], row["level"], row["sex"]) for row in _rows(ref)}
    assert found == {("P1", "1", "male")}
    assert [row["visit"] for row in _rows(ref)] == [f"V{n}" for n in range(len(SPACES))]


def test_ids_that_differ_in_white_space_alone_are_one(tmp_path: Path) -> None:
    _, ref = _validated(tmp_path, [small.row(1, visit="V1"), small.row(2, visit="V1\u200b ")], max_quarantined=0.5)
    assert [row["reason"] for row in _rows(ref, "quarantine.parquet")] == ["visit: duplicate"]


def test_null_tokens_and_codes_are_known_with_white_space_around_them(tmp_path: Path) -> None:
    header = small.HEADER + ",sex"
    uri = small.csv(
        tmp_path, [small.row(1, age=" NA ", nurse=" 1 ", sex=" f "), small.row(2, note="  ", sex="m")], header=header
    )
    columns = {"nurse": {"words": {"1": "one"}}, "sex": {"role": "input", "words": {"f": "female"}}}
    rows = _rows(ingest(usecase=small.usecase(tmp_path, {"uri": uri, "null_values": ["", "NA"]}, columns)))
    assert [(row["age"], row["nurse"], row["note"], row["sex"]) for row in rows] == [
        (None, "one", "sore throat 1", "female"),
        ("40", "2", None, "m"),
    ]


def test_free_text_keeps_every_space(tmp_path: Path) -> None:
    _, ref = _validated(tmp_path, [small.row(1, note=" \t\xa0 a note \u200b")], max_quarantined=0)
    assert _rows(ref)[0]["note"] == " \t\xa0 a note \u200b"


BEYOND = ["9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00"]


@pytest.mark.parametrize("time", BEYOND)
@pytest.mark.parametrize("others", ["2026-01-02T10:00:00Z", "20260102"])
def test_a_time_that_is_none_in_utc_is_a_bad_row_with_a_reason(tmp_path: Path, time: str, others: str) -> None:
    """It died in building the dataset with a bare ValueError."""
    rows = [small.row(n, seen=others) for n in range(60)]
    usecase, ref = _validated(tmp_path, [*rows, small.row(99, seen=time)])
    bad = [(row["row"], row["reason"]) for row in _rows(ref, "quarantine.parquet")]
    assert bad == [(61, "seen: not a timestamp")]
    assert build_dataset(usecase=usecase, records=anonymize(usecase=usecase, records=ref))["rows"] == 60


@pytest.mark.parametrize("time", ["9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999999Z"])
def test_the_first_and_the_last_moment_are_times(tmp_path: Path, time: str) -> None:
    _, ref = _validated(tmp_path, [small.row(1, seen=time)])
    assert _rows(ref)[0]["seen"] == datetime.datetime.fromisoformat(time)


def test_a_parquet_time_that_python_cannot_hold_costs_its_row(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [dict(zip(small.HEADER.split(","), small.row(n).split(","), strict=True)) for n in range(3)]
    table = pa.Table.from_pylist(rows)
    times = pa.array([0, 253_402_300_800_000_000, 1], pa.timestamp("us", tz="UTC"))
    table = table.set_column(table.column_names.index("seen"), "seen", times)
    pq.write_table(table, tmp_path / "rows.parquet")
    usecase = small.usecase(
        tmp_path, {"uri": f"file://{tmp_path}/rows.parquet", "format": "parquet"}, max_quarantined=0.5
    )
    ref = validate(usecase=usecase, records=ingest(usecase=usecase))
    assert [(row["row"], row["reason"]) for row in _rows(ref, "quarantine.parquet")] == [(2, "seen: not a timestamp")]
