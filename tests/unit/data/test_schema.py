"""A source that changes its columns stops before anything is trained, and says what changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops_tasks import config
from llmops_tasks.data import schema
from llmops_tasks.errors import DataError
from tests.support import small

BEFORE = ["visit", "patient", "heart_rate", "note"]


def _data(folder: Path, **columns: dict[str, str]) -> config.Data:
    return config.load(small.usecase(folder, {"uri": f"file://{folder}/x.csv"}, columns)).data


def test_the_first_reading_is_agreed_to_and_the_same_again_passes(tmp_path: Path) -> None:
    for _ in range(2):
        schema.check(usecase="small", data=_data(tmp_path), found=BEFORE[::-1], labelled=True)


def test_renamed_added_and_lost_columns_are_named(tmp_path: Path) -> None:
    schema.check(usecase="small", data=_data(tmp_path), found=BEFORE, labelled=True)
    with pytest.raises(DataError) as caught:
        schema.check(usecase="small", data=_data(tmp_path), found=["visit", "heartrate", "note", "ward"], labelled=True)
    lines = str(caught.value).splitlines()
    assert lines[1:4] == ["~ 'heart_rate' is now 'heartrate'?", "- 'patient' was removed", "+ 'ward' is new"]
    assert "role: ignore" in lines[4]


def test_naming_the_new_column_agrees_to_it(tmp_path: Path) -> None:
    schema.check(usecase="small", data=_data(tmp_path), found=BEFORE, labelled=True)
    agreed = _data(tmp_path, ward={"role": "ignore"})
    schema.check(usecase="small", data=agreed, found=[*BEFORE, "ward"], labelled=True)


def test_a_days_records_have_their_own_agreement(tmp_path: Path) -> None:
    schema.check(usecase="small", data=_data(tmp_path), found=BEFORE, labelled=True)
    schema.check(usecase="small", data=_data(tmp_path), found=BEFORE[:3], labelled=False)
