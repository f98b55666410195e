"""Common parts of the synthetic data generators: where they write, what they plant, and the truth beside it."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from llmops_tasks.data import synthetic_files as files
from llmops_tasks.errors import InputError


@pytest.mark.parametrize(
    ("out", "counts"), [("s3://bucket/x", (1,)), ("/some/folder", (1,)), ("file:///x", (3, 0)), ("file:///x", (-1,))]
)
def test_only_a_local_folder_and_something_to_write_are_allowed(out: str, counts: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="Allowed: a file:// folder, and counts of at least 1"):
        files.folder(out, *counts)


def test_a_folder_is_the_path_behind_its_address(tmp_path: Path) -> None:
    assert files.folder(tmp_path.as_uri(), 1, 5) == tmp_path


def test_spans_say_where_the_planted_values_stand() -> None:
    text, spans = files.planted("<name> called <phone>, then <name>.", {"name": "Ada", "phone": "555"})
    assert text == "Ada called 555, then Ada."
    assert [(text[span["start"] : span["end"]], span["kind"]) for span in spans] == [
        ("Ada", "name"), ("555", "phone"), ("Ada", "name"),
    ]  # fmt: skip


def test_a_template_without_places_is_its_text() -> None:
    assert files.planted("nothing here", {}) == ("nothing here", [])


def test_rows_are_read_back_as_they_were_written(tmp_path: Path) -> None:
    rows = [["a,b", 'say "x"'], ["two\nlines", ""]]
    files.write_csv(tmp_path / "deep" / "x.csv", ["one", "two"], rows)
    with (tmp_path / "deep" / "x.csv").open(newline="", encoding="utf-8") as stream:
        assert list(csv.reader(stream)) == [["one", "two"], *rows]


def test_truth_lies_beside_the_rows_one_line_each_and_holds_no_more_than_spans(tmp_path: Path) -> None:
    cases = [{"id": n, "text": "Ada", "spans": [{"start": 0, "end": 3, "kind": "name"}]} for n in range(2)]
    files.write_spans(tmp_path, "landing/a.csv", cases, key="id", column="note")
    lines = (tmp_path / "truth" / "landing_a.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"id": n, "column": "note", "spans": cases[n]["spans"]} for n in range(2)
    ]
