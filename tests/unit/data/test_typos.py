"""Slips of the pen, by hand, at both ends of a text too."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from llmops_tasks.data import typos


@pytest.mark.parametrize(
    ("slip", "at", "left"),
    [
        (typos.swapped, 0, "apin"), (typos.swapped, 2, "pani"),
        (typos.dropped, 0, "ain"), (typos.dropped, 3, "pai"),
        (typos.doubled, 0, "ppain"), (typos.doubled, 3, "painn"),
        (typos.lost, 0, "??ain"), (typos.lost, 3, "pai??"),
    ],
)  # fmt: skip
def test_one_slip_changes_one_place(slip: Callable[[str, int], str], at: int, left: str) -> None:
    assert slip("pain", at) == left
