"""Parquet files of data preparation, read and written in batches so that memory stays flat.

The same rows in the same batches give the same bytes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from llmops_tasks.errors import StorageError
from llmops_tasks.store import artifacts
from llmops_tasks.store.files import home

BATCH = 10_000  # rows
BATCH_BYTES = 1 << 25  # a batch of long texts ends earlier
ORIGIN = ("_source", "_row")  # where a row came from
REJECTED = {"source": "string", "row": "int64", "reason": "string", "sha256": "string"}  # of a row set aside


def read(source: Any) -> Iterator[Any]:
    """A Parquet file (a path or a stream), as Arrow tables of at most BATCH rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    # By default Arrow reads ahead and keeps what it has read until the end; without a buffer, a column of a row group.
    with pq.ParquetFile(source, pre_buffer=False, buffer_size=1 << 20) as file:
        for batch in file.iter_batches(batch_size=BATCH):
            yield pa.Table.from_batches([batch])


def rows(source: Any) -> Iterator[dict[str, Any]]:
    """The same, row by row."""
    for table in read(source):
        yield from table.to_pylist()


class Writer:
    """Tables or rows of one schema into a Parquet file, in row groups of about BATCH rows or BATCH_BYTES.

    Args:
        schema: names of columns to Arrow's names of types. None: the first table decides.
    """

    def __init__(self, path: Path, schema: Mapping[str, str] | None = None) -> None:
        import pyarrow as pa

        self.path, self.rows = path, 0
        self.schema: Any = schema and pa.schema([(name, pa.type_for_alias(kind)) for name, kind in schema.items()])
        self._file: Any = None
        self._tables: list[Any] = []
        self._rows: list[Mapping[str, Any]] = []
        self._held, self._bytes = 0, 0

    def add(self, table: Any) -> None:
        """Append an Arrow table."""
        self.schema = self.schema or table.schema
        self.rows += table.num_rows
        self._tables.append(table)
        self._held, self._bytes = self._held + table.num_rows, self._bytes + table.nbytes
        if self._held >= BATCH or self._bytes >= BATCH_BYTES:
            self._flush()

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Append one row of the schema that was given."""
        self._rows.append(row)
        if len(self._rows) >= BATCH:
            self._add_rows()

    def _add_rows(self) -> None:
        import pyarrow as pa

        rows, self._rows = self._rows, []
        self.add(pa.Table.from_pylist(rows, schema=self.schema))

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._file is None:
            self._file = pq.ParquetWriter(self.path, self.schema)
        self._file.write_table(pa.concat_tables(self._tables))
        self._tables, self._held, self._bytes = [], 0, 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._add_rows()
            if self._held or self._file is None:
                self._flush()
        if self._file is not None:
            self._file.close()
        if kind is not None:
            self.path.unlink(missing_ok=True)


@contextmanager
def database(rows: int = 0) -> Iterator[Any]:
    """A DuckDB connection for sorting and joining what does not fit into memory; it spills into a private folder.

    Args:
        rows: how many are sorted. From some four million on DuckDB gets 16 bytes for each, as it merges more runs.

    Raises:
        OSError: if the disk is full.
    """
    import duckdb

    with artifacts.scratch() as spill:
        settings = {
            "memory_limit": f"{max(64, rows // 62_500)}MB",
            "threads": 1,
            "partitioned_write_flush_threshold": BATCH,
            "temp_directory": str(spill),
            "autoinstall_known_extensions": False,
        }
        db = duckdb.connect(config=settings)
        try:
            yield db
        except (duckdb.OperationalError, OSError) as exc:  # the latter out of Arrow's hands
            if code := _full(str(exc)):
                raise OSError(code, os.strerror(code), str(spill)) from exc
            raise
        finally:
            db.close()


@contextmanager
def told_as_full() -> Iterator[None]:
    """Report a full disk as `artifacts.publish` does; for work outside an artifact.

    Raises:
        StorageError: instead of the system's own error.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno not in artifacts.FULL:
            raise
        raise StorageError(f"Cannot write below '{home()}': {exc.strerror}. Free space, or set LLMOPS_HOME.") from exc


def _full(message: str) -> int | None:
    """The system's message for a full disk reported by DuckDB; it holds its spill folder to the space that was free."""
    if "max_temp_directory_size" in message:
        return errno.ENOSPC
    return next((code for code in artifacts.FULL if os.strerror(code) in message), None)


def view(db: Any, path: Path, name: str, **options: Any) -> None:
    """Let a Parquet file be read under a name; the path never becomes part of a statement."""
    db.read_parquet(str(path), **options).create_view(name)


def one(db: Any, query: str) -> Any:
    """The only row of a query's result."""
    return db.execute(query).fetchall()[0]


def batches(relation: Any) -> Iterator[Any]:
    """What a DuckDB relation holds, as Arrow tables of at most BATCH rows."""
    import pyarrow as pa

    for batch in relation.to_arrow_reader(BATCH):
        yield pa.Table.from_batches([batch])
