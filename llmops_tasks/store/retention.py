"""Retention of reproducible artifacts: dropped some time after their last use, which marks record.

For working state only (the activation cache); evidence is never dropped. Dropping costs only the time to compute
it again.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.store import objects
from llmops_tasks.store.attempts import MANIFEST
from llmops_tasks.store.objects import store_uri

DAY = 86_400  # seconds


def drop_unused(*, usecase: str, kind: str, days: float, needed: Iterable[str] = ()) -> None:
    """Remove what can be made again and was last used so many days ago.

    Args:
        usecase: whose artifacts.
        kind: which of them.
        days: since the last `mark_used`, or since it was made.
        needed: addresses that the work at hand is about to use: marked first, so that they are not dropped.
    """
    for uri in needed:
        _mark(uri)
    used = objects.written(f"{_marks(usecase, kind)}/*")
    for manifest, made in objects.written(f"{store_uri()}/{usecase}/{kind}/*/{MANIFEST}").items():
        uri = manifest.rsplit("/", 1)[0]
        if time.time() - max(made, used.get(_mark_of(uri), 0.0)) > days * DAY:
            objects.remove_folder(uri)
    for mark, marked in used.items():
        if time.time() - marked > days * DAY:
            objects.remove(mark)


def mark_used(ref: ArtifactRef) -> None:
    """Keep it for another while. One that is just being dropped stays so: to read it is an error then."""
    _mark(ref["uri"])


def _marks(usecase: str, kind: str) -> str:
    return f"{store_uri()}/{usecase}/{kind}_used"


def _mark_of(uri: str) -> str:
    folder, key = uri.rsplit("/", 1)
    return f"{folder}_used/{key}"


def _mark(uri: str) -> None:
    """Write the mark of an address, at most once a day."""
    mark = _mark_of(uri)
    if time.time() - objects.written(mark).get(mark, 0.0) > DAY:
        objects.replace(mark, b"")
