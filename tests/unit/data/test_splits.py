"""New groups get the shares asked for, and within a cohort nobody is tested who came before one who trains."""

from __future__ import annotations

import random

import pytest

from llmops_tasks.config import Split
from llmops_tasks.data.splits import SPLITS, assign, place_by_digest, quotas

RULE = Split(train=0.6, validation=0.1, test=0.3, cohort=20)


def _counts(given: list[tuple[str, str]]) -> list[int]:
    return [sum(part == name for _, part in given) for name in SPLITS]


def test_in_each_cohort_the_earliest_train_and_the_latest_test() -> None:
    given = list(assign((f"P{n}" for n in range(500)), [0, 0, 0], RULE))
    assert [group for group, _ in given] == [f"P{n}" for n in range(500)]
    for start in range(0, 500, RULE.cohort):
        parts = [SPLITS.index(part) for _, part in given[start : start + RULE.cohort]]
        assert parts == sorted(parts)


def test_every_cohort_begins_with_training_again_and_the_last_is_what_is_left() -> None:
    rule = Split(train=0.5, validation=0.25, test=0.25, cohort=4)
    given = list(assign("abcdefghi", [0, 0, 0], rule))
    cohort = ["train", "train", "validation", "test"]
    assert given == list(zip("abcdefghi", [*cohort, *cohort, "train"], strict=True))


def test_who_was_assigned_before_counts_in_every_cohort() -> None:
    """Forty who test already: nobody more tests until training has caught up."""
    rule = Split(train=0.5, validation=0.25, test=0.25, cohort=20)
    given = list(assign((f"P{n}" for n in range(60)), [0, 0, 40], rule))
    assert [_counts(given[start : start + 20])[2] for start in (0, 20, 40)] == [0, 0, 0]
    assert _counts(given) == [40, 20, 0]


def test_counts_of_another_number_of_splits_are_refused() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        quotas([5, 5], 10, RULE)


def test_the_shares_are_those_asked_for() -> None:
    assert _counts(list(assign((f"P{n}" for n in range(200)), [0, 0, 0], RULE))) == [120, 20, 60]


@pytest.mark.parametrize("seed", range(5))
def test_groups_that_come_a_few_at_a_time_get_the_same_shares(seed: int) -> None:
    rng, counts = random.Random(seed), [0, 0, 0]
    while sum(counts) < 400:
        given = list(assign((f"P{n}" for n in range(rng.choice([1, 1, 2, 7, 33]))), counts, RULE))
        counts = [have + new for have, new in zip(counts, _counts(given), strict=True)]
        assert all(abs(have - share * sum(counts)) <= 1.5 for have, share in zip(counts, (0.6, 0.1, 0.3), strict=True))


@pytest.mark.parametrize(
    ("counts", "new", "expected"),
    [
        ([0, 0, 0], 1, [1, 0, 0]),
        ([0, 0, 0], 2, [1, 0, 1]),
        ([0, 0, 0], 10, [6, 1, 3]),
        ([100, 0, 0], 10, [0, 3, 7]),  # too many train already
    ],
)
def test_places_go_where_they_are_missing(counts: list[int], new: int, expected: list[int]) -> None:
    assert quotas(counts, new, RULE) == expected


def test_by_digest_a_group_has_its_split_whoever_else_is_there() -> None:
    parts = [place_by_digest(f"P{n}", RULE) for n in range(5000)]
    assert [round(parts.count(name) / 5000, 1) for name in SPLITS] == [0.6, 0.1, 0.3]
    assert place_by_digest("P7", RULE) == parts[7]


@pytest.mark.parametrize(
    ("group", "part"), [("P0", "train"), ("P1", "test"), ("P2", "validation"), ("P3", "validation")]
)
def test_by_digest_nobody_ever_moves(group: str, part: str) -> None:
    """Written down here: a release was trained on whoever trained then."""
    assert place_by_digest(group, RULE) == part
