"""Links, nesting and packed sizes that are made to do harm cost their row or their file, and nothing else (T27)."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import formats, json_records, tables
from llmops_tasks.data.ingestion import MAX_CELL, ingest
from llmops_tasks.errors import ConfigError, SourceError
from llmops_tasks.store import artifacts
from tests.support import small, tiny

NAMES = small.HEADER.split(",")


def _record(number: int, **values: Any) -> dict[str, Any]:
    return dict(zip(NAMES, small.row(number).split(","), strict=True)) | values


def _ingest(tmp_path: Path, content: bytes, format: str, **source: Any) -> ArtifactRef:
    (tmp_path / "rows").write_bytes(content)
    return ingest(usecase=small.usecase(tmp_path, {"uri": f"file://{tmp_path}/rows", "format": format, **source}))


def _found(ref: ArtifactRef) -> tuple[list[str], list[tuple[int, str]]]:
    folder = artifacts.fetch(ref)
    bad = [(row["row"], row["reason"]) for row in tables.rows(folder / "rejected.parquet")]
    return [row["visit"] for row in tables.rows(folder / "records.parquet")], bad


# ---------------------------------------------------------------- links and paths


@pytest.mark.parametrize("mode", ["none", "objects", "watermark"])
@pytest.mark.parametrize("pattern", ["in/*.csv", "in/rows.csv", "*/rows.csv"])
def test_a_link_out_of_the_landing_area_is_refused(tmp_path: Path, mode: str, pattern: str) -> None:
    """Who may write there may not choose what is read elsewhere."""
    outside = tmp_path / "outside"
    for folder in (outside, tmp_path / "area" / "in"):
        folder.mkdir(parents=True)
    small.csv(outside, [small.row(1)], "secret.csv")
    (tmp_path / "area" / "in" / "rows.csv").symlink_to(outside / "secret.csv")
    usecase = small.usecase(tmp_path, {"uri": f"file://{tmp_path}/area/{pattern}", "incremental": mode})
    with pytest.raises(SourceError, match=r"rows\.csv' is a link that leads out of"):
        ingest(usecase=usecase)


def test_a_linked_folder_within_is_refused_and_a_linked_landing_area_is_not(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    small.csv(tmp_path / "outside", [small.row(1)])
    (tmp_path / "area").symlink_to(tmp_path / "outside")
    usecase = small.usecase(tmp_path, {"uri": f"file://{tmp_path}/area/*.csv"})
    assert ingest(usecase=usecase)["rows"] == 1
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "day").symlink_to(tmp_path / "outside")
    with pytest.raises(SourceError, match="is a link that leads out of"):
        ingest(usecase=small.usecase(tmp_path, {"uri": f"file://{tmp_path}/in/*/*.csv"}))


def test_a_link_that_stays_within_is_a_file_like_others(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    small.csv(tmp_path / "in", [small.row(1)], "rows.csv.done")
    (tmp_path / "in" / "rows.csv").symlink_to("rows.csv.done")
    assert ingest(usecase=small.usecase(tmp_path, {"uri": f"file://{tmp_path}/in/*.csv"}))["rows"] == 1


@pytest.mark.parametrize(
    "uri", ["file:///landing/../etc/*.csv", "file:///landing/%2e%2e/etc/x.csv", "s3://b/in/../x/*"]
)
def test_an_address_that_leads_upwards_is_a_mistake_in_the_use_case(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ConfigError, match=r"data.source.uri: .* contains '\.\.'"):
        config.load(small.usecase(tmp_path, {"uri": uri}))


# ---------------------------------------------------------------- nesting

DEEP = [json_records.MAX_DEPTH, 900, 4_900]


def _nested(depth: int, kind: str) -> str:
    return "[" * depth + "1" + "]" * depth if kind == "list" else '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize("depth", DEEP)
@pytest.mark.parametrize("kind", ["list", "object"])
@pytest.mark.parametrize("records", ["jsonl", "item", "*.item"])
def test_a_record_that_is_nested_too_deeply_costs_itself(tmp_path: Path, depth: int, kind: str, records: str) -> None:
    deep = json.dumps(_record(1))[:-1] + f', "extra": {_nested(depth, kind)}}}'
    lines = [deep, json.dumps(_record(2))]
    content = "\n".join(lines) if records == "jsonl" else f"[{', '.join(lines)}]"
    content = f'{{"a": {content}}}' if records == "*.item" else content
    format = "jsonl" if records == "jsonl" else "json"
    ref = _ingest(tmp_path, content.encode(), format, **({} if format == "jsonl" else {"records": records}))
    visits, bad = _found(ref)
    assert visits == ["V2"] and bad[0][0] == 1 and bad[0][1] in (json_records.TOO_DEEP, "not valid JSON")


@pytest.mark.parametrize("kind", ["list", "object"])
def test_a_line_that_no_parser_stands_costs_itself(tmp_path: Path, kind: str) -> None:
    content = f"{_nested(200_000, kind)}\n{json.dumps(_record(2))}"
    assert _found(_ingest(tmp_path, content.encode(), "jsonl")) == (["V2"], [(1, "not valid JSON")])


@pytest.mark.parametrize("kind", ["list", "object"])
@pytest.mark.parametrize("records", ["item", "*.item"])
def test_a_document_that_no_parser_stands_is_an_error_and_no_crash(tmp_path: Path, kind: str, records: str) -> None:
    """The process died of it, without a word."""
    content = f"[{json.dumps(_record(2))}, {_nested(200_000, kind)}]"
    content = f'{{"a": {content}}}' if records == "*.item" else content
    with pytest.raises(SourceError, match="nested more than 5000 levels deep"):
        _ingest(tmp_path, content.encode(), "json", records=records)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_the_depth_of_a_document_is_that_outside_its_strings(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    import random

    rng = random.Random(size)
    monkeypatch.setattr(json_records, "MAX_NESTING", 0)  # count sign by sign
    for _ in range(100):
        words = ["".join(rng.choices('[]{}"\\a\n', k=rng.randint(0, 9))) for _ in range(9)]
        depth = rng.randint(1, 6)
        value: Any = words
        for word in words[: depth - 1]:
            value = [word, value] if rng.random() < 0.5 else {word: value}
        text = json.dumps(value).encode()
        nesting = json_records._Nesting()
        assert max(nesting.deepest(text[at : at + size]) for at in range(0, len(text), size)) == depth


def test_nesting_that_people_write_is_none(tmp_path: Path) -> None:
    line = json.dumps(_record(1))[:-1] + f', "extra": {_nested(50, "object")}}}'
    assert _found(_ingest(tmp_path, line.encode(), "jsonl"))[0] == ["V1"]


def test_a_document_without_a_record_is_given_up_before_it_fills_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_records, "MAX_RECORD", 1 << 18)
    content = json.dumps([_record(1), _record(2, note="x" * (1 << 20)), _record(3)]).encode()
    with pytest.raises(SourceError, match="has no record within 262144 bytes"):
        _ingest(tmp_path, content, "json")


# ---------------------------------------------------------------- Parquet


def _parquet(tmp_path: Path, rows: list[dict[str, Any]], **options: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "x.parquet", **options)
    return (tmp_path / "x.parquet").read_bytes()


def test_a_small_file_that_would_unpack_to_a_huge_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "MAX_UNPACKED", 1 << 24)
    rows = [_record(1, note="x" * (1 << 26))]
    content = _parquet(tmp_path, rows, compression="zstd", use_dictionary=False)
    assert len(content) < 50_000
    with pytest.raises(SourceError, match=rf"has {len(content)} bytes and would unpack to \d{{8}}"):
        _ingest(tmp_path, content, "parquet")


def test_a_large_cell_costs_its_row(tmp_path: Path) -> None:
    content = _parquet(tmp_path, [_record(1, note="x" * (MAX_CELL + 1)), _record(2)])
    assert _found(_ingest(tmp_path, content, "parquet")) == (
        ["V2"],
        [(1, f"a cell of more than {MAX_CELL} characters")],
    )


_LIMITED = """
import resource, sys
import pyarrow.parquet
from llmops_tasks.data import ingest
usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(ingest(usecase=sys.argv[1])["meta"]["rejected"], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - usage)
"""


def test_a_long_text_that_a_file_says_three_hundred_times_is_held_once(tmp_path: Path) -> None:
    """Little in the file, 600 MB as rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pylist([_record(n) for n in range(300)])
    note = pa.DictionaryArray.from_arrays(pa.array([0] * 299 + [1], pa.int32()), pa.array(["x" * (2 << 20), "x"]))
    table = table.set_column(table.column_names.index("note"), "note", note)
    pq.write_table(table, tmp_path / "rows", store_schema=False, dictionary_pagesize_limit=1 << 26)
    usecase = small.usecase(tmp_path, {"uri": f"file://{tmp_path}/rows", "format": "parquet"})
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, usecase], cwd=tiny.ROOT, capture_output=True, text=True, check=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30)),
    )  # fmt: skip
    rejected, kilobytes = map(int, done.stdout.split())
    assert rejected == 299 and kilobytes < 100_000


@pytest.mark.parametrize("seed", range(40))
def test_a_parquet_file_with_wrong_bytes_is_read_or_refused(tmp_path: Path, seed: int) -> None:
    """Sizes and counts in it become absurd ones."""
    import random

    rng = random.Random(seed)
    content = bytearray(_parquet(tmp_path, [_record(n) for n in range(50)]))
    for _ in range(rng.randint(1, 8)):
        at = (
            rng.randrange(4, len(content) - 8)
            if rng.random() < 0.5
            else rng.randrange(len(content) - 700, len(content) - 8)
        )
        content[at] = rng.choice([0, 0x7F, 0x80, 0xFF, rng.randrange(256)])
    try:
        _ingest(tmp_path, bytes(content), "parquet")
    except SourceError as exc:
        assert "sore" not in repr(exc)
