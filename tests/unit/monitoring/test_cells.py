"""What is counted of a reference and a day: by patient, in cells whose edges the reference gives."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tasks.errors import DataError
from llmops_tasks.monitoring import cells

OLD = {
    "group": ["a", "a", "b", "c", "d", "e"],
    "age": [10, 20, 30, 40, 50, None],
    "text": ["fever cough"] * 3 + ["rash"] * 3,
}
NEW = {"group": ["a", "z", "z"], "age": [25, 90, None], "text": ["Fever!", "burn 12 x", ""]}


def _both(old: dict[str, Any] | None = None, new: dict[str, Any] | None = None) -> cells.Both:
    import pandas as pd

    first, second = (pd.DataFrame({**plain, **(given or {})}) for plain, given in ((OLD, old), (NEW, new)))
    return cells.together(first, second)


def test_a_patient_of_both_counts_as_one_in_each() -> None:
    both = _both()
    assert both.owners.tolist() == [0, 0, 1, 2, 3, 4, 5, 6, 6]
    assert both.days.tolist() == [False] * 5 + [True] * 2
    assert both.reference == 6


def test_numbers_fall_into_the_references_fifths_and_missing_ones_into_a_cell_of_their_own() -> None:
    counts = cells.numbers(_both(), "age").toarray()
    assert counts.shape == (7, cells.BINS + 1)
    assert counts[:5, : cells.BINS].sum(axis=0).tolist() == [1, 1, 1, 1, 1]
    assert counts[5].tolist() == [0, 1, 0, 0, 0, 0]  # 25: in the second fifth
    assert counts[6].tolist() == [0, 0, 0, 0, 1, 1]  # 90, beyond all edges, and one that is missing


def test_where_the_reference_knows_no_number_there_are_only_known_and_missing() -> None:
    counts = cells.numbers(_both({"age": [None] * 6}), "age").toarray()
    assert counts.sum(axis=0).tolist() == [2, 7]


def test_words_in_a_column_of_numbers_are_refused_without_telling_them() -> None:
    with pytest.raises(DataError, match="watched column 'age' holds values that are not numbers") as caught:
        cells.numbers(_both(new={"age": ["zebrafishitis", "90", None]}), "age")
    assert "zebra" not in str(caught.value)


def test_answers_that_the_release_does_not_know_share_a_cell() -> None:
    both = _both({"predicted": ["x", "x", "y", "y", "y", "x"]}, {"predicted": ["y", "w", "v"]})
    counts = cells.labels(both, ["x", "y"]).toarray()
    assert counts.sum(axis=0).tolist() == [3, 4, 2]
    assert counts[0].tolist() == [2, 0, 0] and counts[6].tolist() == [0, 0, 2]


def test_the_most_frequent_words_have_cells_and_the_others_share_one() -> None:
    counts = cells.words(_both(), most=3).toarray()  # fever 4, cough 3, rash 3
    assert counts.sum(axis=0).tolist() == [4, 3, 3, 1]
    assert counts[5].tolist() == [1, 0, 0, 0]  # whatever its case
    assert counts[6].tolist() == [0, 0, 0, 1]  # digits and single letters are no words
