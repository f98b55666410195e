"""The text of a dataset's records as a given release reads it.

A dataset holds the text that the template of its time made. A release with another template is measured on the same
records, with the text that it will read when it serves: made anew from the anonymized records behind the dataset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import DataError
from llmops_tasks.prompts.interface import Interface
from llmops_tasks.store import artifacts

if TYPE_CHECKING:
    import pandas as pd


def as_read_by(asked: Interface, dataset: ArtifactRef, rows: pd.DataFrame) -> list[str]:
    """The rows' texts.

    Args:
        asked: of the release.
        dataset: that the rows are of.
        rows: with record_id and text.

    Raises:
        DataError: if the records behind the dataset are gone, or lack what the template reads.
    """
    if dataset["meta"]["text_sha256"] == asked.text_digest():
        return list(rows["text"])
    records = _records(dataset, asked, set(rows["record_id"]))
    return [asked.render_text(records[name]) for name in rows["record_id"]]


def _records(dataset: ArtifactRef, asked: Interface, wanted: set[str]) -> dict[str, dict[str, object]]:
    """Inputs by record id."""
    import pyarrow.parquet as pq

    above = next((ref for ref in dataset["meta"]["parents"] if ref["kind"] == "anonymized"), None)
    source = artifacts.at(above["uri"]) if above else None
    if source is None:
        raise DataError(
            "The release uses another text template than the dataset, and the records behind the dataset are gone. Run "
            "prepare_data again, and measure on the new version."
        )
    file = pq.ParquetFile(artifacts.fetch(source) / "records.parquet")
    identity = dataset["meta"]["id_column"]
    asked.check_columns(file.schema_arrow.names)
    found: dict[str, dict[str, object]] = {}
    for batch in file.iter_batches(columns=[identity, *(name for name in asked.columns if name != identity)]):
        found |= {row[identity]: row for row in batch.to_pylist() if row[identity] in wanted}
    return found
