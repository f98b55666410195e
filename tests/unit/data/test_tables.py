"""Parquet in batches: all rows, in order, whatever the batches hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.data import tables


@pytest.mark.parametrize("count", [0, 1, 3, 4, 9])
def test_rows_come_back_in_order_over_any_number_of_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(tables, "BATCH", 4)
    rows: list[dict[str, Any]] = [{"a": str(n), "b": n} for n in range(count)]
    assert tables.write(tmp_path / "x.parquet", rows) == count
    assert list(tables.rows(tmp_path / "x.parquet")) == rows


def test_a_column_that_is_empty_in_the_first_batch_may_hold_text_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "BATCH", 2)
    rows: list[dict[str, Any]] = [{"a": None}, {"a": None}, {"a": "late"}]
    tables.write(tmp_path / "x.parquet", rows)
    assert list(tables.rows(tmp_path / "x.parquet")) == rows


def test_an_error_within_leaves_no_file_that_reads_like_a_whole_one(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), tables.Writer(tmp_path / "x.parquet") as writer:
        writer.add({"a": "1"})
        raise RuntimeError("stop")
    assert not (tmp_path / "x.parquet").exists()
