"""A card tells figures that it was given, and roles; it has no record to show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops_tasks import config
from llmops_tasks.data.dataset_card import dataset_card
from tests.support import small

META: dict[str, Any] = {
    "splits": {"train": 5, "validation": 2, "test": 3},
    "labels": {"train": {"urgent": 4, "calm": 1}, "validation": {"calm": 2}, "test": {"urgent": 3}},
    "words": {"min": 1, "median": 2.5},
    "span": ["2026-01-01", "2026-02-01"],
    "evaluation": {"rows": 3, "sha256": "abcdef0123456789"},
    "dropped": {"too short": 0, "data.text fails: KeyError": 2},
    "conflicting_texts": 1,
    "augmented": 0,
}


def _card(folder: Path, **data: Any) -> str:
    case = config.load(small.usecase(folder, {"uri": "file:///x"}, **data))
    return dataset_card("small", case, 10, META | ({"languages": {"en": 9, "other": 1}} if data else {}))


def test_it_counts_rows_labels_and_what_was_dropped_and_why(tmp_path: Path) -> None:
    text = _card(tmp_path)
    assert "- 10 records, 2026-01-01 to 2026-02-01" in text
    assert "| train | 5 | 4 | 1 |\n| validation | 2 | 0 | 2 |\n| test | 3 | 3 | 0 |" in text
    assert "- dropped: 2 data.text fails: KeyError; texts with more than one label: 1" in text
    assert "too short" not in text and "- test set: 3 records, abcdef012345" in text


def test_it_names_what_each_column_is_for(tmp_path: Path) -> None:
    text = _card(tmp_path)
    assert "read by the model: age, note" in text and "masked and dropped: phone" in text
    assert "not allowed as input: nurse" in text and "languages" not in text


def test_it_counts_languages_where_some_are_expected(tmp_path: Path) -> None:
    assert "- languages: en 9, other 1" in _card(tmp_path, curate={"languages": ["en"]})
