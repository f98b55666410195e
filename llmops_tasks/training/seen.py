"""The records of its use case that a model was trained on: digests of text and label, carried into the release.

By content, not by id: a record whose label was corrected is new to a model trained on the old one, and one that is
corrected back is new again, as the latest label of a text counts. A release has those of the weights that it
started from, too, so tuning on preferences forgets none and adds none.
"""

from __future__ import annotations

from pathlib import Path

from llmops_tasks.contracts import TRAINING_RECORDS, ArtifactRef
from llmops_tasks.errors import DataError
from llmops_tasks.store import artifacts, digests

_HALF = 32  # hexadecimal digits
_TRAINED = "select distinct text, completion from read_parquet($path) where split = 'train'"


def digest_of(text: str, completion: str) -> str:
    """How a record is named in a release: half of it is the text's, half the answer's."""
    return digests.digest(text.encode())[:_HALF] + digests.digest(completion.encode())[:_HALF]


def write(out: Path, start: ArtifactRef, datasets: list[ArtifactRef]) -> None:
    """Write the digests of all training records.

    Args:
        out: the folder of what was trained.
        start: the weights that training started from.
        datasets: whose train splits were used.

    Raises:
        DataError: if the release that training started from does not list its training records.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    learnt = of_release(start) if start["kind"] == "release" else set()
    for dataset in datasets:
        newer = _of_dataset(dataset)
        texts = {record[:_HALF] for record in newer}
        learnt = {record for record in learnt if record[:_HALF] not in texts} | newer
    pq.write_table(pa.table({"digest": pa.array(sorted(learnt), pa.string())}), out / TRAINING_RECORDS)


def check(start: ArtifactRef) -> None:
    """Refuse, before any cost arises, a release that does not list its training records.

    Raises:
        DataError: if so.
    """
    if start["kind"] == "release":
        _file(start)


def of_release(release: ArtifactRef) -> set[str]:
    """The digests of all records that a release was trained on.

    Raises:
        DataError: if it does not say.
    """
    import pyarrow.parquet as pq

    return set(pq.read_table(_file(release)).column("digest").to_pylist())


def _file(release: ArtifactRef) -> Path:
    path = artifacts.fetch(release) / TRAINING_RECORDS
    if not path.is_file():
        raise DataError(
            "The release that training starts from does not record which records it was trained on, so new records cannot "
            "be identified. Set finetune.start to 'base' until a newer release is promoted."
        )
    return path


def _of_dataset(dataset: ArtifactRef) -> set[str]:
    import duckdb

    path = str(artifacts.fetch(dataset) / "data.parquet")
    with duckdb.connect() as db:
        found = db.execute(_TRAINED, {"path": path})
        return {digest_of(*row) for rows in iter(lambda: found.fetchmany(10_000), []) for row in rows}
