"""The files present when a source was last read: a digest of their names and fingerprints, in order.

<store>/<usecase>/landed/...   {files}, the last one last
"""

from __future__ import annotations

from llmops_tasks.store import digests, journal, objects


def remember(usecase: str, marks: dict[str, str]) -> None:
    """Record the files present at a read.

    Args:
        usecase: whose source it is.
        marks: of the files, as `objects.fingerprints` gives them.
    """
    seen = digests.digest(marks)
    if last(usecase) != seen:
        journal.push(_folder(usecase), digests.canonical({"files": seen}))


def last(usecase: str) -> str | None:
    """The digest of the files that were read last; None before the first."""
    number = journal.last(folder := _folder(usecase))
    data = objects.read_if_there(uri := journal.address(folder, number)) if number else None
    return None if data is None else objects.parsed(uri, data)["files"]


def _folder(usecase: str) -> str:
    return f"{objects.store_uri()}/{usecase}/landed"
