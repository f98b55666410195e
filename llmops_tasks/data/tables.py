"""Parquet files of the data room, written in batches so that memory stays flat.

The same rows in the same batches give the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

from llmops_tasks import storage
from llmops_tasks.errors import StorageError

BATCH = 10_000  # rows
ORIGIN = ("_source", "_row")  # where a row came from


class Writer:
    """Rows into a Parquet file.

    Args:
        schema: names of columns to Arrow's names of types. None: the first batch of rows decides; then an
            empty file is a valid one without columns.
    """

    def __init__(self, path: Path, schema: Mapping[str, str] | None = None) -> None:
        self.path, self.rows = path, 0
        self._buffer: list[dict[str, Any]] = []
        self._given = schema
        self._writer: Any = None

    def add(self, row: Mapping[str, Any]) -> None:
        """Append one row, a dict with the same keys as the others."""
        self._buffer.append(dict(row))
        self.rows += 1
        if len(self._buffer) >= BATCH:
            self._flush()

    def add_columns(self, columns: Sequence[Sequence[Any]]) -> None:
        """Append a batch, given as one list of values for each column of the schema."""
        import pyarrow as pa

        self._open()
        self._write(pa.table(list(map(pa.array, columns, self._schema.types)), schema=self._schema))
        self.rows += len(columns[0])

    def add_file(self, path: Path) -> None:
        """Append another Parquet file; columns it does not have are empty, those that are not in the schema left out."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._open()
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH):
                arrays = [
                    batch.column(field.name) if field.name in batch.schema.names else pa.nulls(len(batch), field.type)
                    for field in self._schema
                ]
                self._write(pa.table(arrays, schema=self._schema))
                self.rows += len(batch)

    def _flush(self) -> None:
        import pyarrow as pa

        self._open()
        self._write(pa.Table.from_pylist(self._buffer, schema=self._schema))
        self._buffer = []

    def _open(self) -> None:
        if self._writer is not None:
            return
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self._given is not None:
            self._schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in self._given.items()])
        else:  # a column that is empty in the first batch holds strings
            table = pa.Table.from_pylist(self._buffer)
            self._schema = pa.schema(
                [field.with_type(pa.string()) if pa.types.is_null(field.type) else field for field in table.schema]
            )
        with _writing(self.path):
            self._writer = pq.ParquetWriter(self.path, self._schema)

    def _write(self, table: Any) -> None:
        with _writing(self.path):
            self._writer.write_table(table)

    def __enter__(self) -> Writer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and (self._buffer or self._writer is None):
            self._flush()
        if self._writer is not None:
            with _writing(self.path):
                self._writer.close()


class _writing:
    """A full disk is the store's problem, which may pass; it is not the rows'."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if isinstance(error, OSError):
            raise StorageError(
                f"Cannot write '{self._path}': {error.strerror or error}. Free space or mend permissions."
            ) from error


def rows(path: Path) -> Iterator[dict[str, Any]]:
    """All rows of a Parquet file, batch by batch."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=BATCH):
            yield from batch.to_pylist()


def write(path: Path, table: list[dict[str, Any]]) -> int:
    """Write rows to a Parquet file; returns how many."""
    with Writer(path) as writer:
        for row in table:
            writer.add(row)
    return writer.rows


class TableWriter:
    """Arrow tables of one schema into a Parquet file; the first decides the schema."""

    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, 0
        self._writer: Any = None

    def add(self, table: Any) -> None:
        """Append a table."""
        import pyarrow.parquet as pq

        if self._writer is None:
            self._writer = pq.ParquetWriter(self.path, table.schema)
        self._writer.write_table(table)
        self.rows += table.num_rows

    def __enter__(self) -> TableWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()


@contextmanager
def database() -> Iterator[Any]:
    """A DuckDB connection for sorting and joining what does not fit into memory; it spills into a private folder."""
    import tempfile

    import duckdb

    with tempfile.TemporaryDirectory(dir=storage.home()) as spill:
        settings = {
            "memory_limit": "128MB",
            "threads": 1,
            "temp_directory": spill,
            "autoinstall_known_extensions": False,
        }
        db = duckdb.connect(config=settings)
        try:
            yield db
        except duckdb.IOException as exc:
            raise StorageError(f"Cannot write to '{spill}': is the disk full? Free space, or set LLMOPS_HOME.") from exc
        finally:
            db.close()


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
