"""Parquet in batches: all rows, in order, whatever the batches hold; and a database that runs out of disk."""

from __future__ import annotations

import errno
import random
import resource
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmops_tasks.data import tables

SCHEMA = {"a": "string", "b": "int64"}


def _rows(count: int) -> list[dict[str, Any]]:
    return [{"a": str(n) if n % 3 else None, "b": n} for n in range(count)]


@pytest.mark.parametrize("count", [0, 1, 3, 4, 8, 9])
def test_rows_come_back_in_order_over_any_number_of_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(tables, "BATCH", 4)
    with tables.Writer(tmp_path / "x.parquet", SCHEMA) as writer:
        for row in _rows(count):
            writer.add_row(row)
    assert writer.rows == count
    assert list(tables.rows(tmp_path / "x.parquet")) == _rows(count)
    assert pq.read_schema(tmp_path / "x.parquet").names == ["a", "b"]


@pytest.mark.parametrize(
    ("limits", "groups"), [({}, [21]), ({"BATCH": 4}, [6, 4, 5, 6]), ({"BATCH_BYTES": 1}, [*range(1, 7)])]
)
def test_tables_of_any_size_are_written_in_groups_of_one_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], groups: list[int]
) -> None:
    for name, limit in limits.items():
        monkeypatch.setattr(tables, name, limit)
    parts = [pa.table({"n": pa.array(range(n), pa.int64())}) for n in range(7)]
    with tables.Writer(tmp_path / "x.parquet") as writer:
        for part in parts:
            writer.add(part)
    found = pq.ParquetFile(tmp_path / "x.parquet").metadata
    assert [found.row_group(at).num_rows for at in range(found.num_row_groups)] == groups
    assert pa.concat_tables(tables.read(tmp_path / "x.parquet")) == pa.concat_tables(parts)


@pytest.mark.parametrize("group", [tables.BATCH, 40 * tables.BATCH])
def test_reading_holds_little_of_a_file_however_it_was_written(tmp_path: Path, group: int) -> None:
    rng = random.Random(0)
    whole = pa.table({"a": [rng.randbytes(50).hex() for _ in range(40 * tables.BATCH)]})
    pq.write_table(whole, tmp_path / "x.parquet", row_group_size=group)
    before = pa.total_allocated_bytes()
    held = [pa.total_allocated_bytes() - before for _ in tables.read(tmp_path / "x.parquet")]
    assert len(held) == 40
    assert max(held) < whole.nbytes / 4


def test_an_error_within_leaves_no_file_that_reads_like_a_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "BATCH", 2)
    for count in (1, 5):
        with pytest.raises(RuntimeError), tables.Writer(tmp_path / "x.parquet", SCHEMA) as writer:
            for row in _rows(count):
                writer.add_row(row)
            raise RuntimeError("stop")
        assert not (tmp_path / "x.parquet").exists()


# ---------------------------------------------------------------- a database without disk

_LARGE = "select * from (select md5(i::varchar) as a from range(4000000) numbers(i)) order by a"


def _spill(db: Any) -> None:
    """Sort 200 MB, which do not fit into memory."""
    db.execute(_LARGE).fetchone()


def test_a_spill_folder_without_space_is_a_full_disk() -> None:
    with pytest.raises(OSError) as caught, tables.database() as db:
        db.execute("set max_temp_directory_size = '1MB'")  # by default, the space that is free
        _spill(db)
    assert caught.value.errno == errno.ENOSPC


def test_one_that_is_noticed_between_two_batches_is_too() -> None:
    """Arrow hands DuckDB's words on as an OSError without a number."""
    with pytest.raises(OSError) as caught, tables.database():
        raise OSError("Out of Memory Error: ... This limit was set by the 'max_temp_directory_size' setting.")
    assert caught.value.errno == errno.ENOSPC


def test_a_disk_that_fills_while_the_database_spills_is_a_full_disk() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with pytest.raises(OSError) as caught, tables.database() as db:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, hard))
        try:
            _spill(db)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.errno == errno.EFBIG


def test_another_failure_of_the_database_is_reported_as_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(duckdb.IOException, match="No files found"), tables.database() as db:
        tables.view(db, tmp_path / "absent.parquet", "absent")
