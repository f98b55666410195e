"""The use case's rules on columns, checked on batches of rows: what a cell must be, and the reason if it is not.

Columns come as strings and leave typed. All checks of a batch are vectorised (pyarrow.compute); memory is that of
one batch. What this does not do: look at more than one row at a time (duplicate ids are found by `validate`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from llmops_tasks.config import Column
from llmops_tasks.prompts.conversations import is_conversation

if TYPE_CHECKING:
    import pyarrow as pa

# Decimal numbers as people write them; "nan" and "inf" are words here.
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"

_FIRST, _END = -62_135_596_800_000_000, 253_402_300_800_000_000  # the years 1 and 10000, in microseconds


@dataclass(frozen=True)
class Rule:
    """One check: `bad(column)` is true where a cell breaks it; null cells are only the business of `required`."""

    column: str
    reason: str
    bad: Callable[[Any], Any]


class Rules:
    """All rules of a use case, in the order in which their reasons are given."""

    def __init__(self, columns: dict[str, Column], labels: list[str]) -> None:
        self.columns = columns
        self.rules = [rule for name, column in columns.items() for rule in _rules(name, column, labels)]
        self.reasons = {rule.reason for rule in self.rules}

    def check(self, batch: pa.Table) -> tuple[pa.Table, pa.Array]:
        """Type a batch and judge every row.

        Args:
            batch: string columns with the use case's names; others are left out.

        Returns:
            The typed columns, and for every row the first reason why it is bad, or null.
        """
        import pyarrow as pa

        reasons = pa.nulls(batch.num_rows, pa.string())
        typed: dict[str, Any] = {}
        for name, column in self.columns.items():
            typed[name], wrong = _typed(batch[name].combine_chunks(), column)
            if wrong is not None:
                reasons = first(reasons, wrong, f"{name}: not a {column.type}")
        for rule in self.rules:
            reasons = first(reasons, rule.bad(typed[rule.column]), rule.reason)
        return pa.table(typed), reasons


def first(reasons: Any, bad: Any, reason: str) -> Any:
    """The reasons so far, and this one where there was none."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not pc.any(bad).as_py():
        return reasons
    return pc.if_else(pc.and_(pc.fill_null(bad, False), reasons.is_null()), pa.scalar(reason), reasons)


def _typed(cells: Any, column: Column) -> tuple[Any, Any]:
    """The cells as the column's type, and where they are of another (None for strings)."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if column.type in ("string", "conversation"):
        return cells.cast(pa.string()), None
    if column.type == "number":
        if not pa.types.is_string(cells.type):
            return cells.cast(pa.float64()), None
        return _numbers(cells)
    times = _within_years(_times(cells))
    return times, pc.and_(times.is_null(), cells.is_valid())


def _numbers(cells: Any) -> tuple[Any, Any]:
    """Strings as numbers, and where they are none; only what is not all digits is trimmed and meets the pattern."""
    import pyarrow as pa
    import pyarrow.compute as pc

    others = pc.fill_null(pc.invert(pc.ascii_is_decimal(cells)), False)
    if not pc.any(others).as_py():
        return cells.cast(pa.float64()), others
    trimmed = pc.utf8_trim_whitespace(cells.filter(others))
    right = pc.match_substring_regex(trimmed, _NUMBER)
    clean = pc.replace_with_mask(cells, others, pc.if_else(right, trimmed, None))
    return clean.cast(pa.float64()), pc.replace_with_mask(others, others, pc.invert(right))


def _times(cells: Any) -> Any:
    """Points in time; the quick way where all cells are of one form, else one by one."""
    import pyarrow as pa
    import pyarrow.compute as pc

    utc = pa.timestamp("us", tz="UTC")
    for kind in (utc, pa.timestamp("us")):  # with a zone, without one
        try:
            times = cells.cast(kind)
        except pa.ArrowInvalid:
            continue
        return times if kind == utc else pc.assume_timezone(times, "UTC")
    return pa.array([_time(cell) for cell in cells.to_pylist()], utc)


def _within_years(times: Any) -> Any:
    """Without what is in UTC no year from 1 to 9999: most programs cannot hold it, and fall over later."""
    import pyarrow.compute as pc

    micros = times.cast("int64")
    return pc.if_else(pc.and_(pc.greater_equal(micros, _FIRST), pc.less(micros, _END)), times, None)


def _time(cell: str | datetime | None) -> datetime | None:
    """ISO 8601; without a zone it is UTC."""
    try:
        time = cell if cell is None or isinstance(cell, datetime) else datetime.fromisoformat(cell.strip())
        return None if time is None else time.replace(tzinfo=time.tzinfo or UTC).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _rules(name: str, column: Column, labels: list[str]) -> Iterator[Rule]:
    import pyarrow.compute as pc

    if column.needed:
        yield Rule(name, f"{name}: missing", lambda cells: cells.is_null())
    if column.min is not None or column.max is not None:
        yield Rule(name, f"{name}: not between {column.min} and {column.max}", _outside(column))
    if column.values is not None:
        yield Rule(name, f"{name}: unknown value", _not_in(column.values))
    if column.role == "label" and labels:  # an answer that is written freely has no closed set
        yield Rule(name, f"{name}: unknown label", _not_in(labels))
    if column.type == "conversation":
        yield Rule(name, f"{name}: not a conversation that begins and ends with the user", _not_conversation)
    if column.max_length is not None:
        longest = column.max_length
        reason = f"{name}: longer than {longest} characters"
        yield Rule(name, reason, lambda cells: pc.greater(pc.utf8_length(cells), longest))


def _outside(column: Column) -> Callable[[Any], Any]:
    import pyarrow.compute as pc

    low = float("-inf") if column.min is None else column.min
    high = float("inf") if column.max is None else column.max
    return lambda cells: pc.or_(pc.less(cells, low), pc.greater(cells, high))


def _not_conversation(cells: Any) -> Any:
    import pyarrow as pa

    return pa.array([cell is not None and not is_conversation(cell) for cell in cells.to_pylist()], pa.bool_())


def _not_in(words: list[str]) -> Callable[[Any], Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    known = pa.array([*words, None], pa.string())  # a null cell is missing, not unknown
    return lambda cells: pc.invert(pc.is_in(cells, value_set=known))
