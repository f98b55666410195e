"""Scored partitions, one per day: parts that together are one table, each written once.

`<store>/<usecase>/predictions/date=YYYY-MM-DD/part-NNNN/`
"""

from __future__ import annotations

import re

from llmops_tasks.contracts import ArtifactRef, Partition
from llmops_tasks.store import artifacts, digests, objects

_DATE = re.compile(r"/date=(\d{4}-\d{2}-\d{2})/")


def folder(usecase: str, date: str) -> str:
    """Where the parts of a day are."""
    return f"{_root(usecase)}/date={date}"


def _root(usecase: str) -> str:
    return f"{objects.store_uri()}/{usecase}/predictions"


def parts(usecase: str, date: str) -> list[ArtifactRef]:
    """All finished parts of a day, in order."""
    return _parts(f"{folder(usecase, date)}/part-*/{artifacts.MANIFEST}")


def _parts(pattern: str) -> list[ArtifactRef]:
    found = (artifacts.at(uri.rsplit("/", 1)[0]) for uri in objects.find(pattern))
    return [ref for ref in found if ref is not None]


def dates(usecase: str) -> list[str]:
    """All days with a scored partition, in order."""
    found = objects.find(f"{_root(usecase)}/date=*/part-*/{artifacts.MANIFEST}")
    return sorted({match[1] for uri in found if (match := _DATE.search(uri))})


def together(date: str, found: list[ArtifactRef], *, added: int = 0, changed: int = 0) -> Partition:
    """A day's parts as one partition.

    Args:
        date: YYYY-MM-DD.
        found: its parts, at least one.
        added: records that this run scored.
        changed: records scored before that arrived again with another text.
    """
    return {
        "date": date,
        "sha256": digests.digest([date, [part["sha256"] for part in found]]),
        "rows": sum(part["rows"] for part in found),
        "added": added,
        "changed": changed,
        "release_version": found[-1]["meta"]["release_version"],
        "parts": found,
    }
