"""Readers of CSV, JSON lines, JSON, Parquet and text: each a stream of rows, never a whole file in memory.

A reader knows its format and nothing of the use case's columns. A row it cannot take apart has a reason in
place of values; a file it cannot read on (a JSON document that breaks off, a quote that never closes) is a
SourceError, as nobody can tell what the rest of it would have been. No reason holds anything of the row.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llmops_tasks.config import Source
from llmops_tasks.data import tables
from llmops_tasks.errors import SourceError
from llmops_tasks.store import objects

MAX_CELL = 1 << 20  # characters; a larger cell is set aside
# Number in the file from 1, values by name, the reason if there are none, and what `original` makes bytes of.
Row = tuple[int, dict[str, Any] | None, str, Any]


def rows(source: Source, uri: str) -> Iterator[Row]:
    """Every row of a file, as its format has it.

    Raises:
        SourceError: if the file is not of this format, or breaks off within it.
        StorageError: if it cannot be got from where it is.
    """
    readers = {"csv": _csv, "jsonl": _jsonl, "json": _json, "parquet": _parquet, "text": _text}
    with _errors(uri), objects.open_stream(uri) as stream:
        yield from readers[source.format](source, uri, stream)


@contextmanager
def _errors(uri: str) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise SourceError(f"Cannot read '{uri}': {type(exc).__name__}. Check the file and its permissions.") from exc
    except csv.Error:
        raise SourceError(f"Cannot read '{uri}': a cell does not end. Look for a quote that is never closed.") from None
    except UnicodeError:  # it holds what it could not decode
        raise SourceError(f"Cannot read '{uri}': it is not in the encoding. Check data.source.encoding.") from None


def original(source: Source, row: Any) -> bytes:
    """The bytes that a row set aside is known by: its line, else its values in one fixed form."""
    text = source.delimiter.join(row) if source.format == "csv" else row
    if not isinstance(text, str):
        text = json.dumps(text, sort_keys=True, default=str)
    return text.encode("utf-8", "surrogateescape")


def _decoded(source: Source, stream: Any, newline: str) -> io.TextIOWrapper:
    """Text without byte-order mark; undecodable bytes become lone surrogates, so that they cost one row only."""
    encoding = "utf-8-sig" if _is_utf8(source) else source.encoding
    return io.TextIOWrapper(stream, encoding=encoding, errors="surrogateescape", newline=newline)


def _is_utf8(source: Source) -> bool:
    return source.encoding.lower().replace("-", "").replace("_", "") in ("utf8", "utf8sig")


# ---------------------------------------------------------------- csv and text


def _csv(source: Source, uri: str, stream: Any) -> Iterator[Row]:
    lines = _split(source, stream) if source.quoting == "none" else _quoted(source, stream)
    header = source.header or next(lines, None)
    if header is None:
        raise SourceError(f"'{uri}' is empty. Give a file with a header and rows.")
    if source.header is None:
        _check_delimiter(source, uri, header)
    width = len(header)
    for number, fields in enumerate(lines, start=1):
        if len(fields) == width:
            yield number, dict(zip(header, fields, strict=True)), "", fields
        elif fields:
            yield number, None, f"{len(fields)} fields, the header has {width}", fields


def _quoted(source: Source, stream: Any) -> Iterator[list[str]]:
    csv.field_size_limit(MAX_CELL * 8)
    return csv.reader(_decoded(source, stream, newline=""), delimiter=source.delimiter)


def _split(source: Source, stream: Any) -> Iterator[list[str]]:
    """Quotes are letters, and a row ends at a line feed only: no other kind of line end splits it."""
    for line in _decoded(source, stream, newline="\n"):
        bare = _bare(line)
        yield bare.split(source.delimiter) if bare else []


def _bare(line: str) -> str:
    return line.removesuffix("\n").removesuffix("\r")


def _check_delimiter(source: Source, uri: str, header: list[str]) -> None:
    if len(header) > 1:
        return
    first = header[0] if header else ""
    found = [other for other in ",;\t|" if other != source.delimiter and other in first]
    hint = f" The header holds {found[0]!r}: is that the delimiter?" if found else ""
    raise SourceError(f"'{uri}' has one column when split at {source.delimiter!r}.{hint}")


def _text(source: Source, uri: str, stream: Any) -> Iterator[Row]:
    for number, line in enumerate(_decoded(source, stream, newline="\n"), start=1):
        if line.strip():
            yield number, {"text": _bare(line)}, "", line


# ---------------------------------------------------------------- json


def _jsonl(source: Source, uri: str, stream: Any) -> Iterator[Row]:
    text = _decoded(source, stream, newline="\n")
    for number, line in enumerate(text, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            yield number, None, _broken(line), line
        else:
            yield number, *_object(values), line


def _broken(line: str) -> str:
    bad = not line.isascii() and any("\udc80" <= char <= "\udcff" for char in line)
    return "bytes that are not valid in the encoding" if bad else "not valid JSON"


def _object(values: Any) -> tuple[dict[str, Any] | None, str]:
    """A JSON object's values, or what is wrong with it; a chat gets `prompt` and `completion`."""
    if not isinstance(values, dict):
        return None, "not a JSON object"
    if "messages" not in values:
        return values, ""
    pair = _chat(values["messages"])
    return (None, "messages that are not a list of {role, content}") if pair is None else ({**pair, **values}, "")


def _chat(messages: Any) -> dict[str, Any] | None:
    """What stands before the assistant's last message, and that message; a chat without one has no completion."""
    try:
        said = [(message["role"], message["content"]) for message in messages]
    except (TypeError, KeyError):
        return None
    if not all(isinstance(part, str) for pair in said for part in pair):
        return None
    last = max((place for place, (role, _) in enumerate(said) if role == "assistant"), default=len(said))
    prompt = "\n".join(f"{role}: {content}" for role, content in said[:last])
    return {"prompt": prompt} | ({"completion": said[last][1]} if last < len(said) else {})


def _json(source: Source, uri: str, stream: Any) -> Iterator[Row]:
    import ijson

    try:
        found = _records(source, _Recoded(source, stream))
        for number, (key, values) in enumerate(found, start=1):
            record, reason = _object(values)
            yield number, record if key is None or record is None else {**record, "_key": key}, reason, values
    except (ijson.JSONError, UnicodeError):  # the parser's own words quote the document
        raise SourceError(
            f"Cannot read '{uri}': it is empty, breaks off, or is not valid JSON in {source.encoding}. "
            "Deliver it again; for one object a line the format is jsonl."
        ) from None


class _Recoded:
    """A stream in another encoding, read as UTF-8 without byte-order mark, which is what the parser knows."""

    def __init__(self, source: Source, stream: Any) -> None:
        encoding = "utf-8-sig" if _is_utf8(source) else source.encoding
        self._text = io.TextIOWrapper(stream, encoding=encoding, newline="")

    def read(self, size: int) -> bytes:
        return self._text.read(size).encode()


def _records(source: Source, stream: Any) -> Iterator[tuple[str | None, Any]]:
    import ijson

    if "*" not in source.records.split("."):
        return ((None, record) for record in ijson.items(stream, source.records))
    return _starred(stream, source.records.split("."))


def _starred(stream: Any, steps: list[str]) -> Iterator[tuple[str | None, Any]]:
    """Records on paths with a `*`, each with the (last) key that matched one."""
    import ijson

    path: list[str] = []  # from the document's root to here; a list's elements are `item`
    star = max(place for place, step in enumerate(steps) if step == "*")
    events = iter(ijson.basic_parse(stream))
    for event, value in events:
        if event == "map_key":
            path[-1] = value
        elif event in ("end_map", "end_array"):
            path.pop()
        elif len(path) == len(steps) and all(step in ("*", name) for step, name in zip(steps, path, strict=True)):
            yield path[star], _value(event, value, events)
        elif event in ("start_map", "start_array"):
            path.append("item")


def _value(event: str, value: Any, events: Iterator[tuple[str, Any]]) -> Any:
    """The value that begins with this event."""
    from ijson.common import ObjectBuilder

    builder, depth = ObjectBuilder(), 0
    while True:
        builder.event(event, value)
        depth += event.startswith("start") - event.startswith("end")
        if depth == 0:
            return builder.value
        event, value = next(events)


# ---------------------------------------------------------------- parquet


def _parquet(source: Source, uri: str, stream: Any) -> Iterator[Row]:
    import pyarrow as pa

    try:
        for number, values in enumerate(tables.rows(pa.PythonFile(stream, mode="r")), start=1):
            yield number, values, "", values
    except pa.ArrowInvalid as exc:
        raise SourceError(f"'{uri}' is not a Parquet file, or damaged. Check it, and the use case's format.") from exc
