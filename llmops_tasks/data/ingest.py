"""Rows from a source into one Parquet file of strings, under the use case's column names.

Streaming, row by row into batches: never a whole file in memory. A row that cannot be read (broken
JSON, wrong number of fields, invalid UTF-8) is set aside in `rejected.parquet` with a reason and the
digest of what was there; all others are kept. Types are the next step's business.
"""

from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from llmops_tasks import artifacts, config, storage
from llmops_tasks.config import Data, Source
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import tables
from llmops_tasks.errors import InputError, SourceError, StorageError, did_you_mean

log = logging.getLogger(__name__)
MAX_CELL = 1 << 20  # characters; a larger cell is set aside
Row = tuple[int, dict[str, str | None] | None, str, bytes]  # number, values, reason if none, original bytes


def ingest(*, usecase: str, date: str | None = None) -> ArtifactRef:
    """Read the use case's source, or one day of its batch source.

    Args:
        usecase: name or YAML path.
        date: YYYY-MM-DD; the day of the batch source. None reads `data.source`.

    Returns:
        A reference of kind "records": `records.parquet` and `rejected.parquet`.

    Raises:
        SourceError: if nothing is there, or the columns are not those of the use case.
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    source = _source(case, date)
    uris = storage.find(config.expand(source.uri))
    if not uris:
        raise SourceError(
            f"No file matches '{source.uri}'. Put the data there, or change the source's uri in the use case."
        )
    inputs = {
        "source": source.model_dump(mode="json"),
        "columns": case.digest("data"),
        "files": {uri: storage.stream_digest(uri) for uri in uris},
        "labelled": date is None,
        "code": storage.code_digest(__file__),
    }
    build = lambda out: _build(case.data, source, uris, date is None, out)  # noqa: E731
    return artifacts.publish(usecase=name, kind="records", inputs=inputs, build=build)


def _source(case: config.UseCase, date: str | None) -> Source:
    if date is None:
        return case.data.source
    if case.batch is None:
        raise InputError("The use case has no `batch` section, so it has no days. Add one, or leave `date` out.")
    day = config.checked_date(date)
    return case.batch.source.model_copy(update={"uri": case.batch.source.uri.replace("{date}", day)})


def _build(data: Data, source: Source, uris: list[str], labelled: bool, out: Path) -> dict[str, Any]:
    with tables.Writer(out / "records.parquet") as good, tables.Writer(out / "rejected.parquet") as bad:
        for uri in uris:
            rows = _rows(source, uri)
            for number, values, reason, original in _mapped(data, uri, rows, labelled):
                if values is None:
                    bad.add({"source": uri, "row": number, "reason": reason, "sha256": storage.digest(original)})
                else:
                    good.add({**_cleaned(data, source, values), "_source": uri, "_row": str(number)})
    if good.rows == 0:
        raise SourceError(
            f"'{source.uri}' has no row that can be read ({bad.rows} could not). Check the file, and delimiter and encoding."
        )
    log.info("ingested %d rows of %d file(s), %d set aside", good.rows, len(uris), bad.rows)
    return {"rows": good.rows, "rejected": bad.rows, "files": len(uris)}


def _cleaned(data: Data, source: Source, values: dict[str, str | None]) -> dict[str, str | None]:
    """Null tokens to None, decimal commas to points."""
    result = {name: None if value in source.null_values else value for name, value in values.items()}
    if source.decimal == ",":
        for name, value in result.items():
            if value is not None and data.columns[name].type == "number":
                result[name] = value.replace(",", ".")
    return result


# ---------------------------------------------------------------- formats


def _rows(source: Source, uri: str) -> Iterator[Row]:
    try:
        with storage.open_stream(uri) as stream:
            yield from {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}[source.format](source, uri, stream)
    except (OSError, StorageError) as exc:
        if isinstance(exc, StorageError):
            raise
        raise SourceError(f"Cannot read '{uri}': {type(exc).__name__}. Check the file and its permissions.") from exc
    except csv.Error:
        raise SourceError(f"Cannot read '{uri}': a cell does not end. Look for a quote that is never closed.") from None


def _csv(source: Source, uri: str, stream: Any) -> Iterator[Row]:
    csv.field_size_limit(MAX_CELL * 8)
    # Undecodable bytes become lone surrogates, so that one bad row does not cost the file.
    encoding = "utf-8-sig" if source.encoding.lower().replace("-", "") == "utf8" else source.encoding
    text = io.TextIOWrapper(stream, encoding=encoding, errors="surrogateescape", newline="")
    reader = csv.reader((line.replace("\0", "\ufffd") for line in text), delimiter=source.delimiter)
    header = next(reader, None)
    if header is None:
        raise SourceError(f"'{uri}' is empty. Give a file with a header and rows.")
    _check_delimiter(source, uri, header)
    for number, fields in enumerate(reader, start=1):
        joined = source.delimiter.join(fields)
        original = joined.encode("utf-8", "surrogateescape")
        if not fields:
            continue
        reason = _row_problem(joined, fields)
        if not reason and len(fields) != len(header):
            reason = f"{len(fields)} fields, the header has {len(header)}"
        yield number, None if reason else dict(zip(header, fields, strict=True)), reason, original


def _row_problem(joined: str, fields: list[str]) -> str:
    if not joined.isascii() and any("\udc80" <= char <= "\udcff" for char in joined):
        return "bytes that are not valid in the encoding"
    if max(map(len, fields)) > MAX_CELL:
        return f"a cell of more than {MAX_CELL} characters"
    return ""


def _check_delimiter(source: Source, uri: str, header: list[str]) -> None:
    if len(header) > 1:
        return
    found = [other for other in ",;\t|" if other != source.delimiter and other in header[0]]
    hint = f" The header holds {found[0]!r}: is that the delimiter?" if found else ""
    raise SourceError(f"'{uri}' has one column when split at {source.delimiter!r}.{hint}")


def _jsonl(source: Source, uri: str, stream: Any) -> Iterator[Row]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line.decode(source.encoding))
        except UnicodeDecodeError:
            yield number, None, "bytes that are not valid in the encoding", line
        except (ValueError, RecursionError):
            yield number, None, "not valid JSON", line
        else:
            yield number, *_object(values), line


def _object(values: Any) -> tuple[dict[str, str | None] | None, str]:
    """A JSON object's values as text, or what is wrong with it."""
    if not isinstance(values, dict):
        return None, "not a JSON object"
    result = {name: _text(value) for name, value in values.items()}
    try:
        "".join(filter(None, result.values())).encode()  # JSON may escape half a surrogate pair
    except UnicodeEncodeError:
        return None, "text that is not valid Unicode"
    return result, ""


def _parquet(source: Source, uri: str, stream: Any) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(pa.PythonFile(stream, mode="r"))
    except pa.ArrowInvalid as exc:
        raise SourceError(f"'{uri}' is not a Parquet file. Check the format in the use case.") from exc
    number = 0
    for batch in file.iter_batches(batch_size=tables.BATCH):
        for values in batch.to_pylist():
            number += 1
            yield number, {name: _text(value) for name, value in values.items()}, "", b""


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value) if isinstance(value, bool | dict | list) else str(value)


# ---------------------------------------------------------------- columns


def _mapped(data: Data, uri: str, rows: Iterable[Row], labelled: bool) -> Iterator[Row]:
    """Rename source columns to the use case's names; the first row decides whether all are there."""
    names = {name: column.source if isinstance(column.source, str) else name for name, column in data.columns.items()}
    checked = False
    for number, values, reason, original in rows:
        if values is None:
            yield number, None, reason, original
            continue
        if not checked:
            _check_columns(data, names, uri, list(values), labelled)
            checked = True
        yield number, {name: values.get(source) for name, source in names.items()}, "", original


def _check_columns(data: Data, names: dict[str, str], uri: str, found: list[str], labelled: bool) -> None:
    """Labels and what is only known later may be absent from a day's records; all else must be there."""
    later = ("label", "leakage") if not labelled else ()
    missing = [
        source
        for name, source in names.items()
        if source not in found and data.columns[name].role not in (*later, "ignore")
    ]
    if missing:
        hints = "".join(did_you_mean(source, found) for source in missing)
        raise SourceError(
            f"'{uri}' lacks the columns {missing}; it has {found}.{hints} Name them in data.columns.<name>.source."
        )
