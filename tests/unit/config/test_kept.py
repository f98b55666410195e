"""Forms are kept once each, in the order in which they were valid."""

from __future__ import annotations

import pytest

from llmops_tasks.config import kept
from llmops_tasks.store import journal, objects


def test_a_form_is_written_once_and_the_order_has_every_change() -> None:
    one, two = ({"usecase": {"n": number}, "policy": None} for number in (1, 2))
    first = kept.add("ward", one)
    assert kept.add("ward", one) == first and kept.newest("ward") == first
    second = kept.add("ward", two)
    assert (kept.add("ward", one), kept.newest("ward")) == (first, first) != (second, second)
    assert kept.read("ward", second) == two
    root = f"{objects.store_uri()}/_configurations/ward"
    assert (len(objects.find(f"{root}/forms/*")), journal.last(f"{root}/order")) == (2, 3)


@pytest.mark.parametrize("retired", [False, True])
def test_of_a_retired_use_case_no_form_is_in_charge_and_its_name_is_known(retired: bool) -> None:
    kept.add("ward", {"usecase": {}, "policy": None})
    if retired:
        kept.retire("ward")
    assert (kept.newest("ward") is None) == retired
    assert kept.names() == ["ward"] and kept.newest("another") is None
