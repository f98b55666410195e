"""Readers of CSV, JSON lines, JSON, Parquet and text: each a stream of rows, never a whole file in memory.

A reader knows its format and nothing of the use case's columns. A row it cannot take apart has a reason in
place of values; a file it cannot read on (a JSON document that breaks off) is a SourceError, as the
rest of it is unknown. No reason holds anything of the row, and no message a name that the file has given.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

from llmops_tasks.config import Source
from llmops_tasks.data import json_records, tables
from llmops_tasks.data.lines import MAX_LINE, TOO_LONG, bare, decoded
from llmops_tasks.data.quoting import Record, Records
from llmops_tasks.errors import SourceError
from llmops_tasks.store import objects

MAX_CELL = 1 << 20  # characters; a larger cell is set aside
MAX_UNPACKED, MAX_RATIO = 1 << 30, 1000  # bytes of Parquet, and how many times the file's: beyond both it is refused
# Number in the file from 1, values by name, the reason if there are none, and what `original` makes bytes of.
Row = tuple[int, dict[str, Any] | None, str, Any]


def rows(source: Source, uri: str) -> Iterator[Row]:
    """Every row of a file, as its format has it.

    Raises:
        SourceError: if the file is not of this format, or breaks off within it.
        StorageError: if it cannot be got from where it is.
    """
    readers = {
        "csv": _csv,
        "jsonl": json_records.by_line,
        "json": json_records.by_document,
        "parquet": _parquet,
        "text": _text,
    }
    with _errors(uri), objects.open_stream(uri) as stream:
        yield from readers[source.format](source, uri, stream)


@contextmanager
def _errors(uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise SourceError(f"Cannot read '{uri}': {type(exc).__name__}. Check the file and its permissions.") from exc
    except UnicodeError:  # it holds what it could not decode
        raise SourceError(f"Cannot read '{uri}': it is not in the encoding. Check data.source.encoding.") from None


def original(source: Source, row: Any) -> bytes:
    """The bytes that a row set aside is known by: its line, else its values in one fixed form."""
    text = source.delimiter.join(row) if source.format == "csv" else row
    if not isinstance(text, str):
        text = json.dumps(json_records.cut(text), sort_keys=True, default=str)
    return text.encode("utf-8", "surrogateescape")


# ---------------------------------------------------------------- csv and text


def _csv(source: Source, uri: str, stream: Any) -> Iterator[Row]:
    records = iter(_split(source, stream) if source.quoting == "none" else _quoted(source, stream))
    header = source.header or _header(source, uri, next(records, None))
    width = len(header)
    for number, (fields, reason) in enumerate(records, start=1):
        if reason:
            yield number, None, reason, fields
        elif len(fields) == width:
            values = dict(zip(header, fields, strict=True))
            values.pop("", None)
            yield number, values, "", fields
        elif fields:
            yield number, None, f"{len(fields)} fields, the header has {width}", fields


def _quoted(source: Source, stream: Any) -> Records:
    return Records(decoded(source, stream, newline=""), source.delimiter, len(source.header or []))


def _split(source: Source, stream: Any) -> Iterator[Record]:
    """Quotes are letters, and a row ends at a line feed only: no other kind of line end splits it."""
    for line in decoded(source, stream, newline="\n"):
        text = bare(line)
        if len(line) > MAX_LINE:
            yield [text], TOO_LONG
        else:
            yield (text.split(source.delimiter) if text else []), ""


def _header(source: Source, uri: str, record: Record | None) -> list[str]:
    """The columns' names without the white space around them."""
    if record is None:
        raise SourceError(f"'{uri}' is empty. Give a file with a header and rows.")
    fields, reason = record
    if reason:
        raise SourceError(f"The header of '{uri}' has {reason}. Fix it, or set data.source.quoting: none.")
    _check_delimiter(source, uri, fields)
    return _each_once(uri, [name.strip() for name in fields])


def _each_once(uri: str, names: list[str]) -> list[str]:
    """Names that stand twice are refused: which one is meant? Those that are empty mean nothing."""
    for place, name in enumerate(names):
        if name and name in names[:place]:
            raise SourceError(
                f"In '{uri}' the columns {names.index(name) + 1} and {place + 1} have the same name. "
                "Give every column a unique name, there or in data.source.header."
            )
    return names


def _check_delimiter(source: Source, uri: str, header: list[str]) -> None:
    if len(header) > 1:
        return
    first = header[0] if header else ""
    found = [other for other in ",;\t|" if other != source.delimiter and other in first]
    hint = f" The header holds {found[0]!r}: is that the delimiter?" if found else ""
    raise SourceError(f"'{uri}' has one column when split at {source.delimiter!r}.{hint}")


def _text(source: Source, uri: str, stream: Any) -> Iterator[Row]:
    for number, line in enumerate(decoded(source, stream, newline="\n"), start=1):
        if len(line) > MAX_LINE:
            yield number, None, TOO_LONG, line
        elif line.strip():
            yield number, {"text": bare(line)}, "", line


# ---------------------------------------------------------------- parquet


def _parquet(source: Source, uri: str, stream: Any) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(pa.PythonFile(stream, mode="r"))
        _each_once(uri, schema.names)
        words = [field.name for field in schema if pa.types.is_string(field.type)]
        # A repeated word is held once: a short file may say the same long text a billion times.
        file = pq.ParquetFile(
            pa.PythonFile(stream, mode="r"), pre_buffer=False, buffer_size=1 << 20, read_dictionary=words
        )
        _check_sizes(uri, stream, file.metadata)
        batches = file.iter_batches(batch_size=tables.BATCH)
        for number, values in enumerate(chain.from_iterable(map(_plain, batches)), start=1):
            yield number, values, "", values
    except (pa.ArrowInvalid, MemoryError):  # Arrow may quote what it could not read
        raise SourceError(f"'{uri}' is not a Parquet file, or damaged. Check it, and the use case's format.") from None


def _check_sizes(uri: str, stream: Any, metadata: Any) -> None:
    """A small file that says it is huge is damaged, or made to fill the memory."""
    whole = sum(metadata.row_group(at).total_byte_size for at in range(metadata.num_row_groups))
    packed = stream.seek(0, io.SEEK_END)
    if whole > MAX_UNPACKED and whole > MAX_RATIO * packed:
        raise SourceError(f"'{uri}' has {packed} bytes and would unpack to {whole}. Check it, or write it anew.")


def _plain(batch: Any) -> list[dict[str, Any]]:
    """A batch's rows."""
    columns = [_cells(column) for column in batch.columns]
    return [dict(zip(batch.schema.names, row, strict=True)) for row in zip(*columns, strict=True)]


def _cells(column: Any) -> list[Any]:
    """A column's values; times that Python cannot hold as text, for validation to judge."""
    import pyarrow as pa

    if pa.types.is_dictionary(column.type):
        words = column.dictionary.to_pylist()
        return [None if place is None else words[place] for place in column.indices.to_pylist()]
    try:
        return list(column.to_pylist())
    except (ValueError, OverflowError):
        return list((column.cast(pa.string()) if pa.types.is_temporal(column.type) else column).to_pylist())
