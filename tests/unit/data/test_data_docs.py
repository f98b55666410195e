"""Data Docs are one page that asks nobody for anything and says what it was given."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from llmops_tasks.config import Column
from llmops_tasks.data import data_docs, gx_report

COLUMNS = {"visit": Column(role="id"), "sex": Column(role="input", values=["female", "male"])}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page about two rows, one of them bad."""
    import pandas as pd

    docs = tmp_path_factory.mktemp("docs") / "data_docs"
    frame = pd.DataFrame({"visit": ["V1", "V2"], "sex": ["male", "zebrafish"], gx_report.ROW: [0, 1]})
    result = gx_report.checked(frame, [rule for _, rule in gx_report.suite(COLUMNS, [])])
    gx_report.withhold(result, {}, list(frame))
    data_docs.write(result, "small: <2> rows", docs)
    return docs


def test_they_are_one_page_with_every_rule_that_asks_no_server_for_anything(folder: Path) -> None:
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    page = (folder / "index.html").read_text(encoding="utf-8")
    text = " ".join(re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())
    assert "values must be unique" in text and "values must belong to this set: female male" in text
    assert not re.findall(r"https?://|<script|<link|<img|@import|url\(", page)


def test_their_title_is_text_and_a_failing_value_is_not_shown(folder: Path) -> None:
    page = (folder / "index.html").read_text(encoding="utf-8")
    assert "small: &lt;2&gt; rows" in page and "zebrafish" not in page
