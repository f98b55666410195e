"""What an incremental source remembers: which files were read, and what they gave.

Every file's rows are an artifact of their own (a part); the records are all parts, in the order of the files'
addresses. A journal, `<store>/<usecase>/ingested/<number>.json`, lists the parts. Each entry is the whole
list, written once under the next number; the last one counts, and of two runs that write the same number one
is refused and begins again. So what was read stays in the dataset even when its file is gone.

objects     A file is known by its address and content. One that was read before is not read again. A file
            with new content takes the place of what it was. Other source settings, columns or code read all
            files that are still there anew.
watermark   Of a file that is new or has changed, the rows later than the latest time of all rows read by
            earlier runs are added; nothing is ever replaced or read twice. A row as late as that latest one
            counts as read. Rows whose time cannot be read are kept, for validation to judge: such a row
            comes again with every change of its file. Times without a zone are UTC.

To begin anew (another landing place, other times), remove the folder `ingested` by hand.
"""

from __future__ import annotations

import datetime
import logging
from collections.abc import Callable
from typing import Any, TypedDict

from llmops_tasks.config import Data
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import columns
from llmops_tasks.errors import ConflictError
from llmops_tasks.store import digests, objects

log = logging.getLogger(__name__)
_ATTEMPTS = 5


class Entry(TypedDict):
    """One part: of which file, as it was seen; under which settings; and what came of it."""

    uri: str
    stamp: str
    sha256: str
    settings: str
    part: ArtifactRef


class Newer:
    """Keeps the rows of a batch that are later than a time, and notes the latest one of all."""

    def __init__(self, data: Data, after: str | None) -> None:
        self.after, self.latest = after, after
        self._column = columns.names(data).index(data.one("time"))

    def keep(self, batch: columns.Batch) -> columns.Batch:
        """The batch without what was read before."""
        times = [_time(cell) for cell in batch[self._column]]
        self.latest = max(filter(None, [self.latest, *times]), default=None)
        kept = [time is None or self.after is None or time > self.after for time in times]
        return [[cell for cell, keep in zip(cells, kept, strict=True) if keep] for cells in batch]


def _time(cell: str | None) -> str | None:
    """In UTC and one form, so that earlier times are smaller strings."""
    try:
        time = datetime.datetime.fromisoformat((cell or "").strip())
        return time.replace(tzinfo=time.tzinfo or datetime.UTC).astimezone(datetime.UTC).isoformat()
    except (ValueError, OverflowError):
        return None


Part = Callable[[str, str, Newer | None], ArtifactRef]


def collected(usecase: str, data: Data, stamps: dict[str, str], settings: str, part: Part) -> list[Entry]:
    """All parts, those of files that are new included, in the order of the files' addresses.

    Args:
        stamps: the files that are there now, and a cheap mark of their content.
        settings: digest of everything but the file that a part follows from.
        part: makes the part of a file (address, SHA-256, which rows) or finds it finished.

    Raises:
        ConflictError: if other runs keep writing the journal.
    """
    for _ in range(_ATTEMPTS):
        number, journal = _last(usecase)
        entries, latest = _grown(data, journal, stamps, settings, part)
        new = {"parts": entries, "latest": latest}
        if new == journal:
            return entries
        try:
            objects.create(_address(usecase, number + 1), digests.canonical(new))
            return entries
        except ConflictError:
            log.info("another run wrote the journal of %s first: reading it again", usecase)
    raise ConflictError(f"Other runs keep writing the journal of '{usecase}'. Let one run at a time ingest.")


def _address(usecase: str, number: int) -> str:
    return f"{objects.store_uri()}/{usecase}/ingested/{number:08d}.json"


def _last(usecase: str) -> tuple[int, dict[str, Any]]:
    """The number and content of the journal's last entry."""
    found = objects.find(f"{objects.store_uri()}/{usecase}/ingested/*.json")
    if not found:
        return 0, {"parts": [], "latest": None}
    return int(found[-1].rsplit("/", 1)[1].removesuffix(".json")), objects.read_json(found[-1])


def _grown(
    data: Data, journal: dict[str, Any], stamps: dict[str, str], settings: str, part: Part
) -> tuple[list[Entry], str | None]:
    """The journal's parts and those of new files; and the latest time of all."""
    entries: list[Entry] = list(journal["parts"])
    watermark, latest = data.source.incremental == "watermark", journal["latest"]
    for uri, stamp in stamps.items():
        before = [entry for entry in entries if entry["uri"] == uri]
        known = next((entry["sha256"] for entry in before if entry["stamp"] == stamp), None)
        sha256 = known or objects.stream_digest(uri)
        if any(entry["sha256"] == sha256 and (watermark or entry["settings"] == settings) for entry in before):
            continue
        newer = Newer(data, journal["latest"]) if watermark else None
        made = part(uri, sha256, newer)
        latest = max(filter(None, [latest, made["meta"].get("latest")]), default=None)
        entry = Entry(uri=uri, stamp=stamp, sha256=sha256, settings=settings, part=made)
        entries = [*(old for old in entries if watermark or old["uri"] != uri), entry]
    return sorted(entries, key=lambda entry: entry["uri"]), latest
