"""Which rows made a dataset, which datasets hold a record, what changed: asked of the store alone."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import lineage
from llmops_tasks.data.anonymization import anonymize
from llmops_tasks.data.dataset import build_dataset
from llmops_tasks.data.ingestion import ingest
from llmops_tasks.data.validation import validate
from llmops_tasks.errors import InputError
from llmops_tasks.store import artifacts
from tests.support import small


@pytest.fixture
def versions(tmp_path: Path) -> tuple[str, ArtifactRef, ArtifactRef]:
    """Ten rows, of which one is bad; then one of them says something else, and twelve follow in a second file."""
    made = []
    lines = [small.row(n, age="old" if n == 4 else "40") for n in range(10)]
    more = [small.row(n, level="2") for n in range(10, 22)]
    for first, second in ((lines, []), ([small.row(0, note="something else"), *lines[1:]], more)):
        small.csv(tmp_path, first, "rows-1.csv")
        if second:
            small.csv(tmp_path, second, "rows-2.csv")
        usecase = small.usecase(tmp_path, {"uri": f"file://{tmp_path}/rows-*.csv"})
        records = anonymize(usecase=usecase, records=validate(usecase=usecase, records=ingest(usecase=usecase)))
        made.append(build_dataset(usecase=usecase, records=records))
    return usecase, made[0], made[1]


def test_a_dataset_leads_back_to_every_source_row(
    versions: tuple[str, ArtifactRef, ArtifactRef], tmp_path: Path
) -> None:
    usecase, _, newer = versions
    found = lineage.trace_dataset(usecase=usecase, version=newer["sha256"][:12])
    assert [step["kind"] for step in found["steps"]] == ["dataset", "anonymized", "validated", "records"]
    assert found["sources"] == {f"file://{tmp_path}/rows-1.csv": 9, f"file://{tmp_path}/rows-2.csv": 12}
    rows = pd.read_parquet(artifacts.fetch(found["rows_of"]) / "origins.parquet").set_index("record_id")
    assert tuple(rows.loc["V12"]) == (f"file://{tmp_path}/rows-2.csv", 3)
    assert "V4" not in rows.index


def test_a_record_leads_forward_to_every_dataset(versions: tuple[str, ArtifactRef, ArtifactRef]) -> None:
    usecase, older, newer = versions
    assert {item["dataset"] for item in lineage.find_record(usecase=usecase, record="V1")} == {
        older["sha256"],
        newer["sha256"],
    }
    assert [item["dataset"] for item in lineage.find_record(usecase=usecase, record="V12")] == [newer["sha256"]]
    assert lineage.find_record(usecase=usecase, record="V4") == []  # in quarantine
    assert lineage.find_record(usecase=usecase, record="' or 1=1 --") == []


def test_the_difference_is_reported_in_words(versions: tuple[str, ArtifactRef, ArtifactRef]) -> None:
    usecase, older, newer = versions
    found = lineage.compare_datasets(usecase=usecase, before=older["sha256"][:10], after=newer["sha256"][:10])
    assert found["counts"] | {"moved to another split": 0} == {
        "added": 12, "removed": 0, "with a changed text": 1, "with a changed label": 0, "moved to another split": 0,
    }  # fmt: skip
    assert "12 records added" in found["words"] and "1 records with a changed text" in found["words"]
    assert any(line.startswith("'calm' changed from 0.0% to") for line in found["words"])
    assert "the test set is a different one: metrics of the two versions are not comparable" in found["words"]


def test_nothing_changes_between_a_version_and_itself(versions: tuple[str, ArtifactRef, ArtifactRef]) -> None:
    usecase, older, _ = versions
    same = lineage.compare_datasets(usecase=usecase, before=older["sha256"], after=older["sha256"])
    assert same["words"] == ["the test set is the same"]


@pytest.mark.parametrize("prefix", ["0000000000", ""])
def test_a_version_that_is_not_there_or_not_one_is_refused(
    versions: tuple[str, ArtifactRef, ArtifactRef], prefix: str
) -> None:
    with pytest.raises(InputError, match=r"dataset versions begin with .* Allowed: one of"):
        lineage.trace_dataset(usecase=versions[0], version=prefix)
