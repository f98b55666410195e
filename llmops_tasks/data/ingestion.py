"""Rows from a source into one Parquet file of strings, under the use case's column names.

Streaming, in batches: never a whole file in memory. A row that cannot be read (broken JSON, wrong number of fields,
invalid UTF-8), or that comes from the future, is set aside in `rejected.parquet` with a reason and the digest of what
was there; all others are kept. Types are checked by validation. Formats are in `formats`,
column mapping in `columns`, incremental sources in `landing` and `arrivals`.
"""

from __future__ import annotations

import datetime
import logging
import re
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from llmops_tasks import config
from llmops_tasks.config import Data, Source
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import columns, formats, landing, tables
from llmops_tasks.data.arrivals import Arrivals, Before
from llmops_tasks.data.formats import MAX_CELL
from llmops_tasks.errors import InputError, SourceError, StorageError
from llmops_tasks.store import artifacts, digests, looks, objects
from llmops_tasks.store.sources import code_digest

__all__ = ["MAX_CELL", "ingest"]
log = logging.getLogger(__name__)


def ingest(*, usecase: str, date: str | None = None) -> ArtifactRef:
    """Read the use case's source, or one day of its batch source.

    Args:
        usecase: name or YAML path.
        date: YYYY-MM-DD; the day of the batch source to read. Without it, `data.source` is read.

    Returns:
        A reference of kind "records": `records.parquet` and `rejected.parquet`. `meta.left_out` counts rows
        excluded for their time: `future`, `late` (both in rejected.parquet) and `read before`.

    Raises:
        SourceError: if no file matches, or the columns are not those of the use case.
        StorageError: if the source or the store fails, or a file changes while it is read.

    Example:
        >>> records = ingest(usecase="triage")
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    source = _source(case, date)
    marks = _files(config.expand(source.uri))
    ref = _ingested(case, name, source, marks, date)
    if date is None:
        looks.remember(name, marks)
    return ref


def _ingested(case: config.UseCase, name: str, source: Source, marks: dict[str, str], date: str | None) -> ArtifactRef:
    if date is None and case.data.source.incremental != "none":
        return _increments(case, name, source, marks)
    if not marks:
        raise _nothing(source)
    inputs = {**_settings(case, source, date is None), "files": {uri: objects.stream_digest(uri) for uri in marks}}
    read = partial(_read, case.data, source, marks, date is None)
    return artifacts.publish(usecase=name, kind="records", inputs=inputs, build=lambda out: _checked(source, read(out)))


def _source(case: config.UseCase, date: str | None) -> Source:
    if date is None:
        return case.data.source
    if case.batch is None:
        raise InputError(
            "The use case has no `batch` section, so there is nothing to read by date. Add one, or omit `date`."
        )
    day = config.checked_date(date)
    return case.batch.source.model_copy(update={"uri": case.batch.source.uri.replace("{date}", day)})


def _files(pattern: str) -> dict[str, str]:
    """The files that match, each with a mark of its content; a link that leads out of their folder is refused.

    Raises:
        SourceError: naming the link. Who may write into a landing area may not choose what is read elsewhere.
    """
    marks = objects.fingerprints(pattern)
    if not objects.is_s3(pattern):
        folder = Path(re.split(r"[*?\[]", str(objects.local_path(pattern)))[0] + "x").parent.resolve()
        for uri in marks:
            if not objects.local_path(uri).resolve().is_relative_to(folder):
                raise SourceError(f"'{uri}' is a link that leads out of 'file://{folder}'. Put the file itself there.")
    return marks


def _settings(case: config.UseCase, source: Source, labelled: bool) -> dict[str, Any]:
    """What the rows follow from, apart from the files."""
    used = {"role", "source", "words", "type"}
    return {
        "source": source.model_dump(
            mode="json", exclude={"uri", "incremental", "watch_seconds", "allowed_lateness_hours"}
        ),
        "columns": [[name, column.model_dump(include=used)] for name, column in case.data.columns.items()],
        "labelled": labelled,
        "code": code_digest(__name__),
    }


def _nothing(source: Source) -> SourceError:
    return SourceError(
        f"No file matches '{source.uri}'. Put the data there, or change the source's uri in the use case."
    )


def _checked(source: Source, figures: dict[str, Any]) -> dict[str, Any]:
    """A source without a single good row is a mistake."""
    if figures["rows"] == 0:
        hints = {"json": "records", "csv": "delimiter and encoding"}
        raise SourceError(
            f"'{source.uri}' has no row that can be read ({figures['rejected']} could not). "
            f"Check the file, and {hints.get(source.format, 'format and encoding')}."
        )
    counts = (figures[name] for name in ("rows", "files", "rejected"))
    log.info("ingested %d rows of %d file(s), %d set aside", *counts)
    if timed := {kind: count for kind, count in figures["left_out"].items() if kind != "read before"}:
        log.warning("of these for their time: %s; see rejected.parquet", timed)
    return figures


# ---------------------------------------------------------------- reading


def _writers(data: Data, out: Path) -> tuple[tables.Writer, tables.Writer]:
    good = tables.Writer(out / "records.parquet", dict.fromkeys(columns.names(data), "string"))
    return good, tables.Writer(out / "rejected.parquet", tables.REJECTED)


def _read(
    data: Data, source: Source, marks: dict[str, str], labelled: bool, out: Path, before: Before | None = None
) -> dict[str, Any]:
    """Files into the two tables; with `before`, only the rows that were not read then."""
    import pyarrow as pa

    good, bad = _writers(data, out)
    header, time, left_out = set[str](), now(), Counter[str]()
    latest = before.latest if before else None
    with good, bad:
        for uri in marks:
            rejected = _Rejected(source, uri, bad, before)
            arrivals = Arrivals(data, source, time, rejected.row, before)
            rows = formats.rows(source, uri)
            for batch in columns.batches(data, source, uri, rows, labelled, rejected.original, header):
                kept = arrivals.keep(batch)
                good.add(pa.table(dict(zip(good.schema.names, kept, strict=True)), schema=good.schema))
            left_out += arrivals.counts + rejected.counts
            latest = arrivals.latest
    _unchanged(marks)
    figures: dict[str, Any] = {"rows": good.rows, "rejected": bad.rows, "files": len(marks)}
    figures |= {"source_columns": sorted(header), "left_out": dict(left_out)}
    return figures | ({"latest": latest} if before else {}) | ({"now": time.isoformat()} if left_out["future"] else {})


def now() -> datetime.datetime:
    """The clock, looked at once for each artifact: what it decided is kept with it, and a rerun finds that."""
    return datetime.datetime.now(datetime.UTC)


class _Rejected:
    """Sets rows of a file aside, each with its number, reason and digest; those that were before are only counted."""

    def __init__(self, source: Source, uri: str, bad: tables.Writer, before: Before | None) -> None:
        self._source, self._uri, self._bad = source, uri, bad
        self._before = before.rejected() if before else set[str]()
        self.counts: Counter[str] = Counter()

    def original(self, number: int, reason: str, row: Any) -> None:
        """One that could not be taken apart."""
        self._add(number, reason, digests.digest(formats.original(self._source, row)))

    def row(self, row: dict[str, Any], reason: str) -> bool:
        """One that could, known as it is in quarantine; False if it was set aside before."""
        values = {name: cell for name, cell in row.items() if name not in tables.ORIGIN}
        return self._add(int(row["_row"]), reason, digests.digest(values))

    def _add(self, number: int, reason: str, sha256: str) -> bool:
        if sha256 in self._before:
            self.counts["read before"] += 1
            return False
        self._bad.add_row({"source": self._uri, "row": number, "reason": reason, "sha256": sha256})
        return True


def _unchanged(marks: dict[str, str]) -> None:
    """An artifact's address holds its files' digests, so they must be the files that were read."""
    for uri, mark in marks.items():
        if objects.fingerprints(uri).get(uri, mark) != mark:
            raise StorageError(f"'{uri}' was changed while it was read. Try again when it is complete.")


# ---------------------------------------------------------------- increments


def _increments(case: config.UseCase, name: str, source: Source, marks: dict[str, str]) -> ArtifactRef:
    settings = _settings(case, source, True)
    lateness = case.data.source.allowed_lateness_hours

    def part(uri: str, sha256: str, before: Before | None) -> ArtifactRef:
        """One file's rows, an artifact of its own."""
        inputs = {**settings, "file": {uri: sha256}} | ({**before.inputs(), "late": lateness} if before else {})
        read: Callable[[Path], dict[str, Any]] = partial(
            _read, case.data, source, {uri: marks[uri]}, True, before=before
        )
        return artifacts.publish(usecase=name, kind="records_part", inputs=inputs, build=read)

    parts = landing.collected(name, case.data, marks, digests.digest(settings), part)
    if not parts:
        raise _nothing(source)
    inputs = {"parts": [entry["part"]["sha256"] for entry in parts], "settings": settings}
    return artifacts.publish(
        usecase=name,
        kind="records",
        inputs=inputs,
        build=lambda out: _checked(source, _joined(case.data, parts, out)),
    )


def _joined(data: Data, parts: list[landing.Entry], out: Path) -> dict[str, Any]:
    good, bad = _writers(data, out)
    with good, bad:
        for entry in parts:
            folder = artifacts.fetch(entry["part"])
            _append(good, folder / "records.parquet")
            _append(bad, folder / "rejected.parquet")
    header = {name for entry in parts for name in entry["part"]["meta"]["source_columns"]}
    files = len({entry["uri"] for entry in parts})
    left_out = sum((Counter(entry["part"]["meta"].get("left_out", {})) for entry in parts), Counter[str]())
    figures = {"rows": good.rows, "rejected": bad.rows, "files": files, "source_columns": sorted(header)}
    return figures | {"left_out": dict(left_out)}


def _append(writer: tables.Writer, path: Path) -> None:
    """A part's rows; columns that it was read without are empty, those that are no longer asked for left out."""
    import pyarrow as pa

    for table in tables.read(path):
        whole = pa.concat_tables([writer.schema.empty_table(), table], promote_options="default")
        writer.add(whole.select(writer.schema.names))
