"""Work on many items in shards of consecutive ones, each kept by what it follows from.

A retry, another evaluation or another day that asks the same finds a shard, and a process that is killed loses one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.store import artifacts, digests

log = logging.getLogger(__name__)
SIZE = 128  # items that are computed and kept together


def kept(
    *,
    usecase: str,
    kind: str,
    items: Sequence[Any],
    inputs: dict[str, Any],
    build: Callable[[Sequence[Any], Path], dict[str, Any]],
) -> Iterator[ArtifactRef]:
    """The shards of all items, in order; one that is missing is built.

    Args:
        usecase: in whose part of the store they are kept.
        kind: of the artifacts.
        items: JSON-able; results follow from them, one by one.
        inputs: what all results follow from beside their items, the code included.
        build: writes the result of some items into a folder, and returns its meta.
    """
    started = time.monotonic()
    for start in range(0, len(items), SIZE):
        shard = items[start : start + SIZE]
        about = {**inputs, "items": digests.digest(list(shard))}
        yield artifacts.publish(usecase=usecase, kind=kind, inputs=about, build=partial(build, shard))
        done, seconds = start + len(shard), max(time.monotonic() - started, 1e-9)
        left = (len(items) - done) * seconds / done
        log.info("%s: %d of %d records, %.1f records/s, %.0f s left", kind, done, len(items), done / seconds, left)
