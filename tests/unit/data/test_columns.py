"""Columns are found by name; what a file says is never part of a message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import tables
from llmops_tasks.data.ingestion import ingest
from llmops_tasks.errors import ConfigError, SourceError
from llmops_tasks.store import artifacts
from tests.support import small

NAMES = small.HEADER.split(",")
PATIENT = small.row(1, patient="Zelda Quux", note="quuxitis of the note", phone="0209 7946")
CELLS = ("Zelda", "Quux", "quuxitis", "0209", "V1", "2026-01-02")


def _ingest(tmp_path: Path, content: bytes, format: str = "csv", given: Any = None, **source: Any) -> ArtifactRef:
    file = tmp_path / f"rows.{format}"
    file.write_bytes(content)
    return ingest(usecase=small.usecase(tmp_path, {"uri": f"file://{file}", "format": format, **source}, given))


def _message(tmp_path: Path, content: bytes, format: str = "csv", **source: Any) -> str:
    with pytest.raises(SourceError) as caught:
        _ingest(tmp_path, content, format, **source)
    return repr(caught.value) + repr(caught.value.__cause__)


# ---------------------------------------------------------------- a header, or the first patient


def _parquet(tmp_path: Path) -> bytes:
    import pandas as pd

    pd.DataFrame([NAMES], columns=PATIENT.split(",")).to_parquet(tmp_path / "x.parquet")
    return (tmp_path / "x.parquet").read_bytes()


@pytest.mark.parametrize("quoting", ["minimal", "none"])
def test_a_file_without_a_header_tells_no_cell_of_its_first_row(tmp_path: Path, quoting: str) -> None:
    told = _message(tmp_path, f"{PATIENT}\n{small.row(2)}\n".encode(), quoting=quoting)
    assert "it has 8 columns" in told and "data.source.header" in told
    assert not [cell for cell in CELLS if cell in told]


def test_neither_do_the_keys_of_records_and_of_parquet(tmp_path: Path) -> None:
    keys = json.dumps(dict(zip(PATIENT.split(","), NAMES, strict=True)))
    for content, format in ((keys, "jsonl"), (f"[{keys}]", "json"), (_parquet(tmp_path), "parquet")):
        data = content.encode() if isinstance(content, str) else content
        told = _message(tmp_path, data, format)
        assert "lacks the columns" in told and not [cell for cell in CELLS if cell in told]


def test_a_name_that_is_nearly_right_is_reported_by_its_position(tmp_path: Path) -> None:
    content = "\n".join([small.HEADER.replace("note", "notes"), PATIENT]).encode()
    told = _message(tmp_path, content)
    assert "lacks the columns ['note']" in told and "Column 6 is spelled almost like 'note'" in told
    assert "notes" not in told and "data.source.header" not in told


def test_one_header_cell_that_is_right_makes_the_others_no_names(tmp_path: Path) -> None:
    """A patient called `note` proves nothing."""
    told = _message(tmp_path, f"{PATIENT.replace('Zelda Quux', 'note')}\n{small.row(2)}\n".encode())
    assert not [cell for cell in CELLS if cell in told]


# ---------------------------------------------------------------- names that stand twice


@pytest.mark.parametrize("quoting", ["minimal", "none"])
@pytest.mark.parametrize("twice", ["note", " note", "note\t"])
def test_a_name_that_stands_twice_is_refused_by_its_places(tmp_path: Path, twice: str, quoting: str) -> None:
    """The last used to win: the phone number became the note."""
    content = "\n".join([small.HEADER.replace("phone", twice), small.row(1, phone="555")]).encode()
    told = _message(tmp_path, content, quoting=quoting)
    assert "columns 6 and 7 have the same name" in told and "note" not in told.replace("rows", "")


def test_columns_without_a_name_are_no_names_that_stand_twice(tmp_path: Path) -> None:
    """Spreadsheets leave them behind."""
    ref = _ingest(tmp_path, "\n".join([small.HEADER + ",,", small.row(1) + ",,"]).encode())
    assert ref["rows"] == 1 and ref["meta"]["source_columns"] == sorted(NAMES)


def test_names_in_the_use_case_stand_there_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data.source.header: \['note'\] are given more than once"):
        config.load(small.usecase(tmp_path, {"uri": "file:///x", "header": [*NAMES, "note"]}))


@pytest.mark.parametrize("format", ["jsonl", "json"])
@pytest.mark.parametrize("records", ["item", "*.item"])
def test_a_key_that_stands_twice_costs_its_record(tmp_path: Path, format: str, records: str) -> None:
    one, two = (json.dumps(dict(zip(NAMES, small.row(n).split(","), strict=True))) for n in (1, 2))
    twice = one[:-1] + ', "note": "555"}'
    content = f"{twice}\n{two}" if format == "jsonl" else f"[{twice}, {two}]"
    content = content if format == "jsonl" or records == "item" else f'{{"a": {content}}}'
    ref = _ingest(tmp_path, content.encode(), format, records=records)
    folder = artifacts.fetch(ref)
    assert [row["visit"] for row in tables.rows(folder / "records.parquet")] == ["V2"]
    assert [row["reason"] for row in tables.rows(folder / "rejected.parquet")] == ["a repeated key"]


def test_a_parquet_column_that_stands_twice_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    cells = [pa.array([cell]) for cell in small.row(1).split(",")]
    pq.write_table(pa.Table.from_arrays([*cells, pa.array(["555"])], [*NAMES, "note"]), tmp_path / "x.parquet")
    told = _message(tmp_path, (tmp_path / "x.parquet").read_bytes(), "parquet")
    assert "columns 6 and 9 have the same name" in told
