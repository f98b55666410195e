"""Which rows of a file are accepted by their time: not from the future, not read before, not too late.

No row is dropped silently: rows from the future or late ones are set aside with reason, file and number, and rows
read before are counted. Rows whose time cannot be read pass, for validation to judge. Times without a zone are UTC.
It reads no clock; `ingest` does, once, and records the time in the artifact.
"""

from __future__ import annotations

import datetime
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from llmops_tasks.config import Data, Source
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import columns, tables
from llmops_tasks.store import artifacts

Reject = Callable[[dict[str, Any], str], bool]  # a row, and why; was it set aside just now, and not before?


@dataclass(frozen=True)
class Before:
    """What was read before a file: the latest time read of it, and all parts."""

    latest: str | None
    parts: list[ArtifactRef]

    def inputs(self) -> dict[str, Any]:
        """What a part follows from."""
        return {"latest": self.latest, "parts": [part["sha256"] for part in self.parts]}

    def rows(self, names: list[str]) -> Any:
        """The keys of all rows, in order: eight bytes each."""
        import numpy as np

        found = [np.zeros(0, np.uint64)]
        for part in self.parts:
            for table in tables.read(artifacts.fetch(part) / "records.parquet"):
                cells = [
                    table[name].to_pylist() if name in table.column_names else [None] * len(table) for name in names
                ]
                found.append(_keys(cells))
        return np.unique(np.concatenate(found))

    def rejected(self) -> set[str]:
        """The digests of all rows that were set aside."""
        paths = (artifacts.fetch(part) / "rejected.parquet" for part in self.parts)
        return {digest for path in paths for table in tables.read(path) for digest in table["sha256"].to_pylist()}


class Arrivals:
    """Lets batches of one file's rows in; counts what it does not.

    Args:
        data: the use case's data section.
        source: where the file comes from, with its limits.
        now: the time that counts as now.
        reject: is given what is set aside.
        before: what was read before; None accepts everything that is not from the future.
    """

    def __init__(
        self, data: Data, source: Source, now: datetime.datetime, reject: Reject, before: Before | None = None
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.latest = before.latest if before else None
        self._names, self._time = columns.names(data), next(iter(data.named("time")), None)
        self._keys, self._before, self._reject = columns.keys(data), before, reject
        hours = source.max_future_hours
        self._end = None if hours is None else _iso(now + datetime.timedelta(hours=hours))
        self._yesterday = _iso(now - datetime.timedelta(days=2))[:10]
        self._future = f"{self._time}: more than {hours:g} hours in the future" if hours is not None else ""
        late = getattr(source, "allowed_lateness_hours", 0)
        self._begin = _earlier(self.latest, late)
        self._late = f"{self._time}: more than {late:g} hours earlier than the latest row read of this file before"

    def keep(self, batch: columns.Batch) -> columns.Batch:
        """The batch without what is left out."""
        if self._time is None or self._all_long_ago(batch):
            return batch
        times = [_moment(cell) for cell in batch[self._names.index(self._time)]]
        seen = self._seen(batch)
        kept = [self._let_in(batch, row, time, bool(seen[row])) for row, time in enumerate(times)]
        return [[cell for cell, keep in zip(cells, kept, strict=True) if keep] for cells in batch]

    def _all_long_ago(self, batch: columns.Batch) -> bool:
        """Nothing to judge, by the first ten characters: days before yesterday."""
        cells = batch[self._names.index(self._time or "")]
        return self._before is None and all(not cell or (cell[4:5] == "-" and cell < self._yesterday) for cell in cells)

    def _let_in(self, batch: columns.Batch, row: int, time: str | None, seen: bool) -> bool:
        if seen:
            self.counts["read before"] += 1
            return False
        if time and self._end and time > self._end:
            return self._set_aside(batch, row, "future", self._future)
        if time and self._begin and time < self._begin:
            return self._set_aside(batch, row, "late", self._late)
        self.latest = max(filter(None, (self.latest, time)), default=None)
        return True

    def _set_aside(self, batch: columns.Batch, row: int, kind: str, reason: str) -> bool:
        values = {name: cells[row] for name, cells in zip(self._names, batch, strict=True)}
        self.counts[kind] += self._reject(values, reason)
        return False

    def _seen(self, batch: columns.Batch) -> Any:
        """Of each row: was it read before?"""
        if self._before is None:
            return [False] * len(batch[0])
        import numpy as np

        found = _keys([batch[self._names.index(name)] for name in self._keys])
        return np.isin(found, self._known)

    @cached_property
    def _known(self) -> Any:
        return self._before.rows(self._keys) if self._before else None


def _keys(cells: list[Any]) -> Any:
    """A number for each row, by which it is known again."""
    import numpy as np

    rows = (repr(row).encode("utf-8", "surrogatepass") for row in zip(*cells, strict=True))
    return np.array([int.from_bytes(hashlib.blake2b(row, digest_size=8).digest()) for row in rows], np.uint64)


def _moment(cell: str | None) -> str | None:
    """A time in UTC and one form, so that earlier times are smaller strings; None if it is none."""
    try:
        time = datetime.datetime.fromisoformat((cell or "").strip())
        return _iso(time.replace(tzinfo=time.tzinfo or datetime.UTC))
    except (ValueError, OverflowError):
        return None


def _iso(time: datetime.datetime) -> str:
    return time.astimezone(datetime.UTC).isoformat(timespec="microseconds")


def _earlier(time: str | None, hours: float) -> str | None:
    if time is None:
        return None
    try:
        return _iso(datetime.datetime.fromisoformat(time) - datetime.timedelta(hours=hours))
    except OverflowError:
        return None
