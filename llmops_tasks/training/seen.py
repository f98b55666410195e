"""Which records a model has learnt from: digests of text and answer, carried from training into the release.

By content, not by id: a record whose label was corrected is new to a model that has learnt the old one. A release has
those of the weights that it started from, too, so tuning on preferences forgets none and adds none.
"""

from __future__ import annotations

from pathlib import Path

from llmops_tasks.contracts import TRAINING_RECORDS, ArtifactRef
from llmops_tasks.errors import DataError
from llmops_tasks.store import artifacts, digests

_TRAINED = "select distinct text, completion from read_parquet($path) where split = 'train'"


def digest_of(text: str, completion: str) -> str:
    """How a record is named in a release."""
    return digests.digest([text, completion])[:32]


def write(out: Path, start: ArtifactRef, datasets: list[ArtifactRef]) -> None:
    """Write the digests of all records learnt from.

    Args:
        out: the folder of what was trained.
        start: the weights that training started from.
        datasets: whose train splits were learnt from.

    Raises:
        DataError: if the release that was started from does not say what it has learnt from.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    learnt = of_release(start) if start["kind"] == "release" else set()
    for dataset in datasets:
        learnt |= _of_dataset(dataset)
    pq.write_table(pa.table({"digest": pa.array(sorted(learnt), pa.string())}), out / TRAINING_RECORDS)


def of_release(release: ArtifactRef) -> set[str]:
    """The digests of all records that a release has learnt from.

    Raises:
        DataError: if it does not say.
    """
    import pyarrow.parquet as pq

    path = artifacts.fetch(release) / TRAINING_RECORDS
    if not path.is_file():
        raise DataError(
            "The release that training starts from does not say which records it has learnt from, so nobody can tell what "
            "is new to it. Set finetune.start to 'base', and remove continual, until a newer release is promoted."
        )
    return set(pq.read_table(path).column("digest").to_pylist())


def _of_dataset(dataset: ArtifactRef) -> set[str]:
    import duckdb

    path = str(artifacts.fetch(dataset) / "data.parquet")
    with duckdb.connect() as db:
        found = db.execute(_TRAINED, {"path": path})
        return {digest_of(*row) for rows in iter(lambda: found.fetchmany(10_000), []) for row in rows}
