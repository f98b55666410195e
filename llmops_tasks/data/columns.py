"""From a source's rows to the use case's columns: found by name, converted to text, in batches.

A batch is a list of values for each column, as Parquet wants it. A row with a cell that is too large or no
valid text is set aside. No message holds a name that a file gives its columns: where the header is missing, the
first record stands in its place. Messages contain only the use case's own names, and positions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from llmops_tasks.config import Column, Data, Source
from llmops_tasks.data import tables
from llmops_tasks.data.folding import trimmed
from llmops_tasks.data.formats import MAX_CELL, Row
from llmops_tasks.errors import SourceError, nearest

BATCH_CHARACTERS = 1 << 25  # a batch of long texts ends earlier
MADE = ("_id", "_row", "_file", "_key")  # by the reader
Batch = list[list[str | None]]
Reject = Callable[[int, str, Any], None]
_ABSENT = object()


def names(data: Data) -> list[str]:
    """The columns of a batch, in their order; the last two say where a row came from."""
    return [*data.columns, *tables.ORIGIN]


def keys(data: Data) -> list[str]:
    """The columns by which a row is known again: id and time, or all that the file holds where the reader makes the id."""
    if not any(path in MADE for path in _paths(data.one("id"), data.columns[data.one("id")])):
        return [data.one("id"), *data.named("time")]
    return [name for name, column in data.columns.items() if not any(path in MADE for path in _paths(name, column))]


def batches(
    data: Data, source: Source, uri: str, rows: Iterable[Row], labelled: bool, reject: Reject, header: set[str]
) -> Iterator[Batch]:
    """Rows of one file as batches of the use case's columns.

    Args:
        reject: is given the number, the reason and the original of each row that is set aside.
        header: gets the names of a table's columns; records without a fixed form have none.

    Raises:
        SourceError: if a column is in none of the first rows.
    """
    finder = _Finder(data, uri, source.format in ("csv", "text"), labelled)
    picked: list[Any] = []
    numbers: list[str | None] = []
    size = 0
    for number, record, reason, row in rows:
        values = () if record is None else finder.pick(number, record)
        if record is not None and source.format in ("csv", "parquet") and not header >= record.keys():
            header.update(record)
        length, reason = (0, reason) if record is None else _examined(values)
        if reason:
            reject(number, reason, row)
            continue
        picked.append(values)
        numbers.append(str(number))
        size += length
        if len(picked) >= tables.BATCH or size >= BATCH_CHARACTERS:
            yield _finished(finder, source, picked, numbers)
            picked, numbers, size = [], [], 0
    if picked:
        yield _finished(finder, source, picked, numbers)


def _finished(finder: _Finder, source: Source, picked: list[Any], numbers: list[str | None]) -> Batch:
    finder.check()
    free = finder.data.free_text()
    given = zip(finder.data.columns.items(), zip(*picked, strict=True), strict=True)
    cleaned = (_cleaned(column, source, cells, name in free) for (name, column), cells in given)
    return [*cleaned, [finder.uri] * len(picked), numbers]


def _examined(values: Iterable[str | None]) -> tuple[int, str]:
    """How many characters a row has, and what is wrong with it."""
    joined = "".join(filter(None, values))
    if len(joined) > MAX_CELL and max(map(len, filter(None, values))) > MAX_CELL:
        return 0, f"a cell of more than {MAX_CELL} characters"
    if "\0" in joined:  # databases refuse it
        return 0, "a NUL character"
    try:
        if not joined.isascii():
            joined.encode()
    except UnicodeEncodeError as exc:
        if "\udc80" <= joined[exc.start] <= "\udcff":  # what undecodable bytes became
            return 0, "bytes that are not valid in the encoding"
        return 0, "text that is not valid Unicode"  # JSON may escape half a surrogate pair
    return len(joined), ""


def _cleaned(column: Column, source: Source, cells: Iterable[str | None], free: bool) -> list[str | None]:
    """White space around it is no part of a cell, but of free text; null tokens to None, codes to words, commas to points."""
    nulls, words = frozenset(source.null_values), column.words
    bare = [cell if cell is None else trimmed(cell) for cell in cells]
    kept = cells if free else bare
    result = [None if word in nulls else cell for word, cell in zip(bare, kept, strict=True)]
    if words:
        result = [
            cell if cell is None else words.get(word or "", cell) for word, cell in zip(bare, result, strict=True)
        ]
    if source.decimal == "," and column.type == "number":
        result = [cell if cell is None else cell.replace(",", ".") for cell in result]
    return result


# ---------------------------------------------------------------- finding


class _Finder:
    """Looks the use case's columns up in a file's rows; what is in none of the first rows is missing."""

    def __init__(self, data: Data, uri: str, uniform: bool, labelled: bool) -> None:
        self.data, self.uri = data, uri
        self._paths = {name: _paths(name, column) for name, column in data.columns.items()}
        self._made = any(path in MADE for paths in self._paths.values() for path in paths)
        self._file = uri.rsplit("/", 1)[1]
        self._missing = [name for name, column in data.columns.items() if not _optional(column, labelled)]
        self._uniform, self._found, self._names = uniform, list[str](), list[str]()

    def pick(self, number: int, record: dict[str, Any]) -> list[str | None]:
        """The columns' values in a row, as text."""
        if self._made:
            record = {**record, "_id": f"{self._file}#{number}", "_row": str(number), "_file": self._file}
        if not self._found:
            self._begin(record)
        if self._uniform:  # rows of a table: all have the first one's keys, and text only
            return [record.get(name) for name in self._names]
        if self._missing:
            self._missing = [name for name in self._missing if _first(record, self._paths[name]) is _ABSENT]
        return [_as_text(_first(record, paths)) for paths in self._paths.values()]

    def _begin(self, record: dict[str, Any]) -> None:
        self._found = list(record)
        self._names = [next((path for path in paths if path in record), paths[0]) for paths in self._paths.values()]
        self._missing = [name for name in self._missing if _first(record, self._paths[name]) is _ABSENT]
        if self._uniform:
            self.check()

    def check(self) -> None:
        """Complain of columns that no row had."""
        if not self._missing:
            return
        absent = [self._paths[name][0] for name in self._missing]
        given = [name for name in self._found if name not in MADE]
        raise SourceError(
            f"'{self.uri}' lacks the columns {absent}; it has {len(given)} columns.{self._hints(absent, given)} "
            "Name them in data.columns.<name>.source."
        )

    def _hints(self, absent: list[str], given: list[str]) -> str:
        """Where a missing column may be, by its place alone; that there may be no header."""
        near = [(nearest(name, given), name) for name in absent]
        hints = "".join(
            f" Column {given.index(found) + 1} is spelled almost like '{name}'." for found, name in near if found
        )
        known = {path for paths in self._paths.values() for path in paths}
        if self._uniform and not known & set(given):
            hints += (
                " None of them is in the use case: if the file has no header, give the names in data.source.header."
            )
        return hints


def _paths(name: str, column: Column) -> list[str]:
    given = name if column.source is None else column.source
    return [given] if isinstance(given, str) else given


def _optional(column: Column, labelled: bool) -> bool:
    """Labels and what is only known later may be absent from a day's records; what is ignored, always."""
    return column.role == "ignore" or (not labelled and column.role in ("label", "leakage"))


def _first(record: dict[str, Any], paths: list[str]) -> Any:
    """The first of these that the row has: as a key, dots and all, else step by step into nested objects."""
    for path in paths:
        if path in record:
            return record[path]
        if "." in path and (value := _nested(record, path)) is not _ABSENT:
            return value
    return _ABSENT


def _nested(value: Any, path: str) -> Any:
    while path:
        if not isinstance(value, dict):
            return _ABSENT
        if path in value:
            return value[path]
        step, _, path = path.partition(".")
        value = value.get(step, _ABSENT)
    return _ABSENT


def _as_text(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if value is None or value is _ABSENT:
        return None
    if isinstance(value, bool | dict | list):
        return json.dumps(value, ensure_ascii=False, default=_plain)
    return str(value)


def _plain(value: Any) -> Any:
    """The JSON parser's exact decimals within lists and objects; Parquet's dates."""
    from decimal import Decimal

    return float(value) if isinstance(value, Decimal) else str(value)
