"""Which split a new group goes to. Pure; earlier assignments are kept by `assignments`.

New groups are ordered by their first record and taken in cohorts. A cohort's places are shared out so that all groups
ever assigned come as near as possible to the shares asked for; in every cohort the earliest train, the next validate,
the latest test. So within a cohort no test group was first seen before a training group. What this does
not promise: a training group may have later records; they stay in training.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from itertools import islice

from llmops_tasks.config import Split

SPLITS = ("train", "validation", "test")


def assign(groups: Iterable[str], counts: Iterable[int], rule: Split) -> Iterator[tuple[str, str]]:
    """Groups with the split of each.

    Args:
        groups: new ones, in order of their first record.
        counts: of the groups assigned before, by split.
        rule: shares and cohort size.
    """
    held = list(counts)
    waiting = iter(groups)
    while cohort := list(islice(waiting, rule.cohort)):
        places = quotas(held, len(cohort), rule)
        held = [have + new for have, new in zip(held, places, strict=True)]
        parts = (name for name, count in zip(SPLITS, places, strict=True) for _ in range(count))
        yield from zip(cohort, parts, strict=True)


def quotas(counts: list[int], new: int, rule: Split) -> list[int]:
    """How many of `new` groups each split gets (largest remainder), given how many it has."""
    total = sum(counts) + new
    shares = (rule.train, rule.validation, rule.test)
    wanted = [max(0.0, share * total - have) for share, have in zip(shares, counts, strict=True)]
    exact = [part * new / sum(wanted) for part in wanted]  # a split that has too many already gets none
    places = [int(part + 1e-9) for part in exact]
    behind = sorted(range(len(SPLITS)), key=lambda split: places[split] - exact[split])
    for split in behind[: new - sum(places)]:
        places[split] += 1
    return places


def place_by_digest(group: str, rule: Split) -> str:
    """The split of a group where the order is `digest`: it follows from the group alone, so it needs no memory."""
    share = int.from_bytes(hashlib.sha256(group.encode()).digest()[:8]) / 2**64
    return SPLITS[(share >= rule.train) + (share >= rule.train + rule.validation)]
