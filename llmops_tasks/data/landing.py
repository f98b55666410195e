"""State of an incremental source: files read, and the rows of each.

Every file's rows are an artifact of their own (a part); the records are all parts, in the order of the files'
addresses. A journal, `<store>/<usecase>/ingested/<number>.json`, lists the parts. Each entry is the whole
list, written once under the next number; the last one counts, and of two runs that write the same number one
is refused and begins again. So what was read stays in the dataset even when its file is gone.

objects     A file is known by its address and content. One that was read before is not read again. A file
            with new content takes the place of what it was. Other source settings, columns or code read all
            files that are still there anew.
watermark   Of a file that is new or has changed, the rows that were not read before, from whichever file, are
            added; nothing is ever replaced or read twice. Each file has a watermark of its own, the latest time read
            of it: a row that is earlier than that by more than the allowed lateness is late. `arrivals` judges rows.

To start over (another landing area, other times), remove the folder `ingested` by hand.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypedDict

from llmops_tasks.config import Data
from llmops_tasks.config.data import Landing
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data.arrivals import Before
from llmops_tasks.errors import ConflictError
from llmops_tasks.store import digests, objects

log = logging.getLogger(__name__)
_ATTEMPTS = 5


class Entry(TypedDict):
    """One part: of which file, as it was seen; under which settings; and what came of it."""

    uri: str
    mark: str
    sha256: str
    settings: str
    part: ArtifactRef


Part = Callable[[str, str, Before | None], ArtifactRef]


def collected(usecase: str, data: Data, marks: dict[str, str], settings: str, part: Part) -> list[Entry]:
    """All parts, those of files that are new included, in the order of the files' addresses.

    Args:
        marks: the files that are there now, and a cheap mark of their content.
        settings: digest of everything but the file that a part follows from.
        part: makes the part of a file (address, SHA-256, what was read before) or finds it finished.

    Raises:
        ConflictError: if other runs keep writing the journal.
    """
    for _ in range(_ATTEMPTS):
        number, journal = _last(usecase)
        entries = _grown(data.source, journal, marks, settings, part)
        if entries == journal:
            return entries
        try:
            objects.create(_address(usecase, number + 1), digests.canonical({"parts": entries}))
            return entries
        except ConflictError:
            log.info("another run wrote the journal of %s first: reading it again", usecase)
    raise ConflictError(f"Other runs keep writing the journal of '{usecase}'. Let one run at a time ingest.")


def _address(usecase: str, number: int) -> str:
    return f"{objects.store_uri()}/{usecase}/ingested/{number:08d}.json"


def _last(usecase: str) -> tuple[int, list[Entry]]:
    """The number and parts of the journal's last entry."""
    found = objects.find(f"{objects.store_uri()}/{usecase}/ingested/*.json")
    if not found:
        return 0, []
    return int(found[-1].rsplit("/", 1)[1].removesuffix(".json")), objects.read_json(found[-1])["parts"]


def _grown(source: Landing, journal: list[Entry], marks: dict[str, str], settings: str, part: Part) -> list[Entry]:
    """The journal's parts and those of new files."""
    entries, watermark = list(journal), source.incremental == "watermark"
    for uri, mark in marks.items():
        before = [entry for entry in entries if entry["uri"] == uri]
        known = next((entry["sha256"] for entry in before if entry.get("mark") == mark), None)
        sha256 = known or objects.stream_digest(uri)
        if any(entry["sha256"] == sha256 and (watermark or entry["settings"] == settings) for entry in before):
            continue
        read = Before(_watermark(before), [entry["part"] for entry in entries]) if watermark else None
        entry = Entry(uri=uri, mark=mark, sha256=sha256, settings=settings, part=part(uri, sha256, read))
        entries = [*(old for old in entries if watermark or old["uri"] != uri), entry]
    return sorted(entries, key=lambda entry: entry["uri"])


def _watermark(entries: list[Entry]) -> str | None:
    """The latest time that was read of a file."""
    return max(filter(None, (entry["part"]["meta"].get("latest") for entry in entries)), default=None)
