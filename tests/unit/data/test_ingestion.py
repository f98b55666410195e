"""Rows that can be read are kept, rows that cannot are set aside with a reason, and what is wrong is said."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import tables
from llmops_tasks.data.ingestion import MAX_CELL, ingest
from llmops_tasks.errors import InputError, SourceError, StorageError
from llmops_tasks.store import artifacts, digests, objects
from tests.support import small


def _ingest(tmp_path: Path, content: bytes, format: str = "csv", **source: Any) -> ArtifactRef:
    file = tmp_path / f"rows.{format}"
    file.write_bytes(content)
    return ingest(usecase=small.usecase(tmp_path, {"uri": f"file://{file}", "format": format, **source}))


def _csv(*rows: str) -> bytes:
    return "\n".join([small.HEADER, *rows, ""]).encode()


def _good(ref: ArtifactRef) -> list[dict[str, Any]]:
    return list(tables.rows(artifacts.fetch(ref) / "records.parquet"))


def _bad(ref: ArtifactRef) -> list[dict[str, Any]]:
    return list(tables.rows(artifacts.fetch(ref) / "rejected.parquet"))


def test_every_cell_arrives_as_it_was(tmp_path: Path) -> None:
    ref = _ingest(tmp_path, _csv(small.row(1, note='"a ""quoted"" note, with comma"'), small.row(2, age="")))
    first, second = _good(ref)
    assert first["note"] == 'a "quoted" note, with comma'
    assert (first["_source"], first["_row"]) == (f"file://{tmp_path}/rows.csv", "1")
    assert second["age"] is None
    assert (ref["rows"], ref["meta"]["rejected"], ref["meta"]["files"]) == (2, 0, 1)
    assert ref["meta"]["source_columns"] == sorted(small.HEADER.split(","))


def test_no_file_names_the_address_and_the_remedy(tmp_path: Path) -> None:
    usecase = small.usecase(tmp_path, {"uri": f"file://{tmp_path}/none.csv"})
    with pytest.raises(SourceError, match=r"No file matches 'file://.*/none.csv'. Put the data there"):
        ingest(usecase=usecase)


@pytest.mark.parametrize(
    ("content", "format", "message"),
    [
        (b"", "csv", "is empty. Give a file with a header and rows"),
        (_csv(), "csv", "has no row that can be read"),
        (b"", "jsonl", "has no row that can be read"),
        (b"not parquet at all", "parquet", "is not a Parquet file"),
        (_csv(small.row(1)).replace(b",", b";"), "csv", "The header holds ';': is that the delimiter?"),
        (_csv(small.row(1)).replace(b",", b"\t"), "csv", r"The header holds '\\t': is that the delimiter?"),
        (
            _csv(small.row(1)).replace(b"note", b"notes"),
            "csv",
            r"lacks the columns \['note'\].* Column 6 is spelled almost like 'note'",
        ),
        (b"[1]\n{\n", "jsonl", r"has no row that can be read \(2 could not\)"),
    ],
)
def test_a_source_that_cannot_be_used_says_why(tmp_path: Path, content: bytes, format: str, message: str) -> None:
    with pytest.raises(SourceError, match=message):
        _ingest(tmp_path, content, format)
    assert objects.find(f"{objects.store_uri()}/small/records/*/*") == []


def test_a_line_of_broken_json_is_kept_out_and_the_rest_kept(tmp_path: Path) -> None:
    rows = [dict(zip(small.HEADER.split(","), small.row(n).split(","), strict=True)) for n in range(3)]
    lines = [json.dumps(rows[0]), '{"visit": "V9", "note": "secret', "[1, 2]", "", json.dumps(rows[1] | {"age": 41})]
    deep = "[" * 200_000
    lone = json.dumps(rows[2] | {"note": "half a pair: \ud800"})
    ref = _ingest(tmp_path, "\n".join([*lines, deep, lone]).encode(), "jsonl")
    assert [row["visit"] for row in _good(ref)] == ["V0", "V1"]
    assert _good(ref)[1]["age"] == "41"
    assert [(row["row"], row["reason"]) for row in _bad(ref)] == [
        (2, "not valid JSON"),
        (3, "not a JSON object"),
        (6, "not valid JSON"),
        (7, "text that is not valid Unicode"),
    ]
    assert "secret" not in json.dumps(_bad(ref))
    assert _bad(ref)[0]["sha256"] == digests.digest(lines[1].encode() + b"\n")


def test_prompt_completion_jsonl_needs_no_header(tmp_path: Path) -> None:
    row = dict(zip(small.HEADER.split(","), small.row(1).split(","), strict=True)) | {"extra": {"a": [1]}}
    ref = _ingest(tmp_path, json.dumps(row).encode(), "jsonl")
    assert "extra" not in _good(ref)[0]


def test_a_row_with_invalid_utf_8_is_set_aside_alone(tmp_path: Path) -> None:
    content = _csv(small.row(1), small.row(2, note="caf\u00e9"), small.row(3)).replace("caf\u00e9".encode(), b"caf\xe9")
    ref = _ingest(tmp_path, content)
    assert [row["visit"] for row in _good(ref)] == ["V1", "V3"]
    assert [(row["row"], row["reason"]) for row in _bad(ref)] == [(2, "bytes that are not valid in the encoding")]


def test_the_same_row_is_good_in_its_own_encoding(tmp_path: Path) -> None:
    content = _csv(small.row(2, note="caf\u00e9")).decode().encode("latin-1")
    assert _good(_ingest(tmp_path, content, encoding="latin-1"))[0]["note"] == "caf\u00e9"


def test_rows_with_too_many_or_too_few_fields_are_set_aside(tmp_path: Path) -> None:
    ref = _ingest(tmp_path, _csv(small.row(1) + ",more", "V2,P2", small.row(3)))
    assert [row["reason"] for row in _bad(ref)] == ["9 fields, the header has 8", "2 fields, the header has 8"]
    assert [row["visit"] for row in _good(ref)] == ["V3"]


def test_a_huge_cell_costs_its_row_only(tmp_path: Path) -> None:
    ref = _ingest(tmp_path, _csv(small.row(1, note="x" * (MAX_CELL + 1)), small.row(2)))
    assert [row["visit"] for row in _good(ref)] == ["V2"]
    assert [row["reason"] for row in _bad(ref)] == [f"a cell of more than {MAX_CELL} characters"]


def test_semicolons_decimal_commas_other_names_and_null_words(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "visit;pat;seen;level;Alter;note;phone;nurse\nV1;P1;2026-01-01;1;40,5;a,b;NA;2\n"
    )
    columns = {"patient": {"source": "pat"}, "age": {"source": "Alter"}}
    source = {"uri": f"file://{tmp_path}/rows.csv", "delimiter": ";", "decimal": ",", "null_values": ["", "NA"]}
    row = _good(ingest(usecase=small.usecase(tmp_path, source, columns)))[0]
    assert (row["patient"], row["age"], row["note"], row["phone"]) == ("P1", "40.5", "a,b", None)


def test_a_byte_order_mark_is_not_part_of_the_first_name(tmp_path: Path) -> None:
    assert _good(_ingest(tmp_path, b"\xef\xbb\xbf" + _csv(small.row(1))))[0]["visit"] == "V1"


def test_windows_line_ends_are_not_part_of_the_last_cell(tmp_path: Path) -> None:
    assert _good(_ingest(tmp_path, _csv(small.row(1)).replace(b"\n", b"\r\n")))[0]["nurse"] == "2"


def test_parquet_gives_the_same_rows_as_csv(tmp_path: Path) -> None:
    import pandas as pd

    lines = [small.row(n, age="") if n == 2 else small.row(n) for n in range(4)]
    frame = pd.DataFrame([line.split(",") for line in lines], columns=small.HEADER.split(","))
    frame["age"] = pd.to_numeric(frame["age"], errors="coerce").astype("Int64")
    frame.to_parquet(tmp_path / "in.parquet", index=False)
    parquet = _ingest(tmp_path, (tmp_path / "in.parquet").read_bytes(), "parquet")
    csv = _ingest(tmp_path, _csv(*lines))
    without = [{k: v for k, v in row.items() if k != "_source"} for row in _good(csv)]
    assert [{k: v for k, v in row.items() if k != "_source"} for row in _good(parquet)] == without


def test_many_files_are_read_in_order_of_their_names(tmp_path: Path) -> None:
    for name, number in (("b.csv", 2), ("a.csv", 1)):
        small.csv(tmp_path, [small.row(number)], name)
    ref = ingest(usecase=small.usecase(tmp_path, {"uri": f"file://{tmp_path}/*.csv"}))
    assert [row["visit"] for row in _good(ref)] == ["V1", "V2"]
    assert ref["meta"]["files"] == 2


def test_s3_gives_the_same_rows_as_a_file(tmp_path: Path, s3: Any) -> None:
    s3.put_object(Bucket="bucket", Key="landing/rows.csv", Body=_csv(small.row(1), small.row(2)))
    ref = ingest(usecase=small.usecase(tmp_path, {"uri": "s3://bucket/landing/*.csv"}))
    assert [row["visit"] for row in _good(ref)] == ["V1", "V2"]
    assert _good(ref)[0]["_source"] == "s3://bucket/landing/rows.csv"


def test_an_s3_source_that_refuses_names_the_endpoint(tmp_path: Path, closed_endpoint: str) -> None:
    with pytest.raises(StorageError, match=closed_endpoint):
        ingest(usecase=small.usecase(tmp_path, {"uri": "s3://bucket/landing/*.csv"}))


def test_the_same_source_twice_is_one_artifact_and_no_work(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = _ingest(tmp_path, _csv(small.row(1)))
    written = (artifacts.fetch(first) / "records.parquet").stat().st_mtime_ns
    with caplog.at_level(logging.INFO):
        assert _ingest(tmp_path, _csv(small.row(1))) == first
    assert "is finished already: skipped" in caplog.text
    assert (artifacts.fetch(first) / "records.parquet").stat().st_mtime_ns == written
    assert _ingest(tmp_path, _csv(small.row(2)))["uri"] != first["uri"]


def test_a_days_records_need_no_label_and_no_later_columns(tmp_path: Path) -> None:
    header = small.HEADER.replace("level,", "").replace(",nurse", "")
    small.csv(tmp_path, ["V1,P1,2026-03-30,40,a note,"], "rows-2026-03-30.csv", header)
    usecase = small.usecase(tmp_path, {"uri": f"file://{tmp_path}/rows.csv"})
    assert _good(ingest(usecase=usecase, date="2026-03-30"))[0]["level"] is None
    with pytest.raises(SourceError, match="No file matches"):
        ingest(usecase=usecase, date="2026-03-31")


@pytest.mark.parametrize("date", ["../../etc", "{{ ds }}", "*", "file:///etc", "$(id)"])
def test_what_is_no_day_never_gets_near_an_address(tmp_path: Path, date: str) -> None:
    with pytest.raises(InputError, match="Allowed: YYYY-MM-DD"):
        ingest(usecase=small.usecase(tmp_path, {"uri": f"file://{tmp_path}/rows.csv"}), date=date)


def test_no_cell_of_a_bad_row_is_logged_or_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        ref = _ingest(tmp_path, _csv(small.row(1, note="zebrafish") + ",more", small.row(2)))
    assert "zebrafish" not in caplog.text
    assert "zebrafish" not in json.dumps([ref, _bad(ref)])
