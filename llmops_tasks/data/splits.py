"""Who trains, who validates, who tests: leak-safe, and stable when rows are added.

Groups (patients) are ordered by their first time and taken in cohorts; in every cohort the earliest train, the next
validate, the latest test. So nobody is in two splits, tests lie after the training data of their cohort, and rows
that come later change nothing about full cohorts. Without a time the group's SHA-256 decides.
"""

from __future__ import annotations

import hashlib

from llmops_tasks.config import Split

SPLITS = ("train", "validation", "test")


def place(rank: int, groups: int, rule: Split) -> str:
    """The split of a group.

    Args:
        rank: its place among all groups, ordered by their first row.
        groups: how many there are.
        rule: shares and cohort size. A last cohort that is not full is split by the same shares.
    """
    start = rank // rule.cohort * rule.cohort
    return _by_share((rank - start + 0.5) / min(rule.cohort, groups - start), rule)


def place_by_digest(group: str, rule: Split) -> str:
    """The split of a group of which no time is known; it never changes, whoever comes later."""
    return _by_share(int.from_bytes(hashlib.sha256(group.encode()).digest()[:8]) / 2**64, rule)


def _by_share(share: float, rule: Split) -> str:
    return SPLITS[(share >= rule.train) + (share >= rule.train + rule.validation)]


def split(groups: list[str], rule: Split) -> list[str]:
    """The split of every row, of which the groups are given in order of time."""
    ranks = {group: rank for rank, group in enumerate(dict.fromkeys(groups))}
    return [place(ranks[group], len(ranks), rule) for group in groups]
