"""Rows from a source into one Parquet file of strings, under the use case's column names.

Streaming, in batches: never a whole file in memory. A row that cannot be read (broken JSON, wrong number
of fields, invalid UTF-8) is set aside in `rejected.parquet` with a reason and the digest of what was there;
all others are kept. Types are the next step's business. What `formats` can read and where `columns` finds
its values stands there; what an incremental source means, in `landing`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from llmops_tasks import config
from llmops_tasks.config import Data, Source
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import columns, formats, landing, tables
from llmops_tasks.data.formats import MAX_CELL
from llmops_tasks.errors import InputError, SourceError, StorageError
from llmops_tasks.store import artifacts, digests, objects
from llmops_tasks.store.sources import code_digest

__all__ = ["MAX_CELL", "ingest"]
log = logging.getLogger(__name__)


def ingest(*, usecase: str, date: str | None = None) -> ArtifactRef:
    """Read the use case's source, or one day of its batch source.

    Args:
        usecase: name or YAML path.
        date: YYYY-MM-DD; the day of the batch source, which is read whole. None reads `data.source`.

    Returns:
        A reference of kind "records": `records.parquet` and `rejected.parquet`.

    Raises:
        SourceError: if nothing is there, or the columns are not those of the use case.
        StorageError: if the source or the store fails, or a file changes while it is read.
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    source = _source(case, date)
    stamps = objects.stamps(config.expand(source.uri))
    if date is None and case.data.source.incremental != "none":
        return _increments(case, name, source, stamps)
    if not stamps:
        raise _nothing(source)
    inputs = {**_settings(case, source, date is None), "files": {uri: objects.stream_digest(uri) for uri in stamps}}
    read = partial(_read, case.data, source, stamps, date is None)
    return artifacts.publish(usecase=name, kind="records", inputs=inputs, build=lambda out: _checked(source, read(out)))


def _source(case: config.UseCase, date: str | None) -> Source:
    if date is None:
        return case.data.source
    if case.batch is None:
        raise InputError("The use case has no `batch` section, so it has no days. Add one, or leave `date` out.")
    day = config.checked_date(date)
    return case.batch.source.model_copy(update={"uri": case.batch.source.uri.replace("{date}", day)})


def _settings(case: config.UseCase, source: Source, labelled: bool) -> dict[str, Any]:
    """What the rows follow from, apart from the files."""
    used = {"role", "source", "words", "type"}
    return {
        "source": source.model_dump(mode="json", exclude={"uri", "incremental", "watch_seconds"}),
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
    return figures


# ---------------------------------------------------------------- reading


def _writers(data: Data, out: Path) -> tuple[tables.Writer, tables.Writer]:
    good = tables.Writer(out / "records.parquet", dict.fromkeys(columns.names(data), "string"))
    return good, tables.Writer(out / "rejected.parquet", tables.REJECTED)


def _read(
    data: Data, source: Source, stamps: dict[str, str], labelled: bool, out: Path, newer: landing.Newer | None = None
) -> dict[str, Any]:
    """Files into the two tables; with `newer`, only the rows that it keeps."""
    import pyarrow as pa

    good, bad = _writers(data, out)
    header = set[str]()
    with good, bad:
        for uri in stamps:
            rows = formats.rows(source, uri)
            for batch in columns.batches(data, source, uri, rows, labelled, _rejecting(source, uri, bad), header):
                kept = newer.keep(batch) if newer else batch
                good.add(pa.table(dict(zip(good.schema.names, kept, strict=True)), schema=good.schema))
    _unchanged(stamps)
    figures: dict[str, Any] = {"rows": good.rows, "rejected": bad.rows, "files": len(stamps)}
    figures["source_columns"] = sorted(header)
    return figures | ({"latest": newer.latest} if newer else {})


def _rejecting(source: Source, uri: str, bad: tables.Writer) -> columns.Reject:
    def reject(number: int, reason: str, row: Any) -> None:
        sha256 = digests.digest(formats.original(source, row))
        bad.add_row({"source": uri, "row": number, "reason": reason, "sha256": sha256})

    return reject


def _unchanged(stamps: dict[str, str]) -> None:
    """An artifact's address holds its files' digests, so they must be the files that were read."""
    for uri, stamp in stamps.items():
        if objects.stamps(uri).get(uri, stamp) != stamp:
            raise StorageError(f"'{uri}' was changed while it was read. Try again when it is complete.")


# ---------------------------------------------------------------- increments


def _increments(case: config.UseCase, name: str, source: Source, stamps: dict[str, str]) -> ArtifactRef:
    settings = _settings(case, source, True)

    def part(uri: str, sha256: str, newer: landing.Newer | None) -> ArtifactRef:
        """One file's rows, an artifact of its own."""
        inputs = {**settings, "file": {uri: sha256}, "after": newer.after if newer else None}
        read: Callable[[Path], dict[str, Any]] = partial(
            _read, case.data, source, {uri: stamps[uri]}, True, newer=newer
        )
        return artifacts.publish(usecase=name, kind="records_part", inputs=inputs, build=read)

    parts = landing.collected(name, case.data, stamps, digests.digest(settings), part)
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
    return {"rows": good.rows, "rejected": bad.rows, "files": files, "source_columns": sorted(header)}


def _append(writer: tables.Writer, path: Path) -> None:
    """A part's rows; columns that it was read without are empty, those that are no longer asked for left out."""
    import pyarrow as pa

    for table in tables.read(path):
        whole = pa.concat_tables([writer.schema.empty_table(), table], promote_options="default")
        writer.add(whole.select(writer.schema.names))
