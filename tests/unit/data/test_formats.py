"""Every shape that a source may have, read by what the use case says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import columns, tables
from llmops_tasks.data.ingestion import ingest
from llmops_tasks.errors import SourceError
from llmops_tasks.store import artifacts
from tests.support import small

NAMES = small.HEADER.split(",")


def _ingest(
    tmp_path: Path, content: bytes, format: str, given: dict[str, Any] | None = None, **source: Any
) -> ArtifactRef:
    file = tmp_path / f"rows.{format}"
    file.write_bytes(content)
    return ingest(usecase=small.usecase(tmp_path, {"uri": f"file://{file}", "format": format, **source}, given))


def _good(ref: ArtifactRef) -> list[dict[str, Any]]:
    return list(tables.rows(artifacts.fetch(ref) / "records.parquet"))


def _bad(ref: ArtifactRef) -> list[tuple[int, str]]:
    return [(row["row"], row["reason"]) for row in tables.rows(artifacts.fetch(ref) / "rejected.parquet")]


def _record(number: int, **values: Any) -> dict[str, Any]:
    return dict(zip(NAMES, small.row(number).split(","), strict=True)) | values


# ---------------------------------------------------------------- csv


def test_without_quoting_a_quote_is_a_letter_and_only_a_line_feed_ends_a_row(tmp_path: Path) -> None:
    note = 'he said "ouch\x85and\u2028left\x1c\x0b\x0c'
    lines = ["\t".join(_record(n, note=note).values()) for n in (1, 2)]
    ref = _ingest(tmp_path, "\r\n".join([*lines, ""]).encode(), "csv", delimiter="\t", quoting="none", header=NAMES)
    assert [row["note"] for row in _good(ref)] == [note, note]
    assert [(row["_row"], row["nurse"]) for row in _good(ref)] == [("1", "2"), ("2", "2")]


def test_without_quoting_a_lone_carriage_return_stays_in_its_cell(tmp_path: Path) -> None:
    line = "\t".join(_record(1, note="one\rtwo").values())
    ref = _ingest(tmp_path, line.encode(), "csv", delimiter="\t", quoting="none", header=NAMES)
    assert _good(ref)[0]["note"] == "one\rtwo"


def test_a_header_in_the_use_case_makes_the_first_line_a_row(tmp_path: Path) -> None:
    ref = _ingest(tmp_path, f"{small.row(1)}\n{small.row(2)},more\n".encode(), "csv", header=NAMES)
    assert [row["visit"] for row in _good(ref)] == ["V1"]
    assert _bad(ref) == [(2, "9 fields, the header has 8")]


def test_a_file_of_one_column_is_fine_where_its_name_is_given(tmp_path: Path) -> None:
    given = {name: {"source": "_id"} for name in NAMES} | {"note": {"source": "line"}}
    ref = _ingest(tmp_path, b"a sore throat\n", "csv", given, header=["line"])
    assert _good(ref)[0]["note"] == "a sore throat"


def test_mixed_line_ends_are_no_part_of_any_cell(tmp_path: Path) -> None:
    content = "\r\n".join([small.HEADER, small.row(1)]) + "\n" + small.row(2) + "\r" + small.row(3)
    ref = _ingest(tmp_path, content.encode(), "csv")
    assert [(row["visit"], row["nurse"]) for row in _good(ref)] == [("V1", "2"), ("V2", "2"), ("V3", "2")]


# ---------------------------------------------------------------- text


def test_text_is_one_record_a_line(tmp_path: Path) -> None:
    given = {name: {"source": "_id"} for name in NAMES} | {"note": {"source": "text"}, "age": {"source": "_row"}}
    ref = _ingest(tmp_path, 'one "a,b\x85\r\n\n\xa0two\n'.encode(), "text", given)
    assert [(row["note"], row["visit"], row["age"]) for row in _good(ref)] == [
        ('one "a,b\x85', "rows.text#1", "1"),
        ("\xa0two", "rows.text#3", "3"),
    ]


# ---------------------------------------------------------------- columns


def test_columns_are_found_under_any_of_their_names_and_inside_objects(tmp_path: Path) -> None:
    nested = {"age": {"source": ["history.age years", "history.years", "age.in.years"]}}
    lines = [
        _record(1, history={"age years": 1}),
        _record(2, history={"years": 2}),
        _record(3) | {"age.in.years": 3},
        _record(4, age={"in.years": 4}),
        _record(5, history={"age years": None, "years": 5}),
        _record(6, history="none"),
    ]
    ref = _ingest(tmp_path, "\n".join(map(json.dumps, lines)).encode(), "jsonl", nested)
    assert [row["age"] for row in _good(ref)] == ["1", "2", "3", "4", None, None]


def test_csv_columns_have_other_names_too(tmp_path: Path) -> None:
    content = "\n".join([small.HEADER.replace("note", "the.note"), small.row(1)]).encode()
    ref = _ingest(tmp_path, content, "csv", {"note": {"source": ["text", "the.note"]}})
    assert _good(ref)[0]["note"] == "sore throat 1"


def test_lists_and_objects_are_json_that_people_can_read(tmp_path: Path) -> None:
    document = [_record(1, note=["\u732b", {"a": 1.5}, True])]
    for format, content in (("json", json.dumps(document)), ("jsonl", json.dumps(document[0]))):
        assert _good(_ingest(tmp_path, content.encode(), format))[0]["note"] == '["\u732b", {"a": 1.5}, true]'


def test_the_reader_makes_up_ids_rows_and_files(tmp_path: Path) -> None:
    given = {"visit": {"source": "_id"}, "patient": {"source": "_file"}, "nurse": {"source": "_row"}}
    ref = _ingest(tmp_path, "\n".join([small.HEADER, small.row(1), small.row(2)]).encode(), "csv", given)
    assert [(row["visit"], row["patient"], row["nurse"]) for row in _good(ref)] == [
        ("rows.csv#1", "rows.csv", "1"),
        ("rows.csv#2", "rows.csv", "2"),
    ]


def test_codes_become_words_after_null_tokens(tmp_path: Path) -> None:
    given = {"nurse": {"words": {"1": "female", "2": "male", "": "never", "9": "never"}}}
    lines = [small.row(n, nurse=code) for n, code in enumerate(["1", "2", "3", "", "9"])]
    content = "\n".join([small.HEADER, *lines]).encode()
    ref = _ingest(tmp_path, content, "csv", given, null_values=["", "9"])
    assert [row["nurse"] for row in _good(ref)] == ["female", "male", "3", None, None]


def test_a_column_without_any_value_is_there_and_is_text(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    content = "\n".join([small.HEADER, *(small.row(n, age="") for n in range(3))]).encode()
    path = artifacts.fetch(_ingest(tmp_path, content, "csv")) / "records.parquet"
    schema = pq.read_schema(path)
    assert schema.names == [*small.COLUMNS, "_source", "_row"]
    assert {str(field.type) for field in schema} == {"string"}


def test_rows_keep_their_order_over_any_number_of_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = "\n".join([small.HEADER, *(small.row(n, note="x" * n) for n in range(25))]).encode()
    whole = _good(_ingest(tmp_path, content, "csv"))
    for module, name, limit in ((tables, "BATCH", 4), (columns, "BATCH_CHARACTERS", 60)):
        monkeypatch.setattr(module, name, limit)
        monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / name))
        assert _good(_ingest(tmp_path, content, "csv")) == whole


def test_a_damaged_parquet_file_is_an_error(tmp_path: Path) -> None:
    import pandas as pd

    pd.DataFrame([_record(n) for n in range(100)]).to_parquet(tmp_path / "in.parquet")
    content = (tmp_path / "in.parquet").read_bytes()
    with pytest.raises(SourceError, match="is not a Parquet file, or damaged"):
        _ingest(tmp_path, content[: len(content) // 2], "parquet")
    torn = bytes(80) + content[80:]
    with pytest.raises(SourceError, match=r"is not a Parquet file, or damaged|Cannot read"):
        _ingest(tmp_path, b"PAR1" + torn[4:], "parquet")
