"""The groups that a model was trained on, as digests, carried from training into the release.

A release has those of the weights that it started from, too. Evaluation counts how many of them it meets again, and
the gate passes no candidate that was trained on groups of its test set.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops_tasks.contracts import TRAINING_GROUPS, ArtifactRef
from llmops_tasks.errors import DataError
from llmops_tasks.store import artifacts

_TRAINED = "select distinct \"group\" from read_parquet($path) where split = 'train'"
_PAIRED = 'select distinct "group" from read_parquet($path)'


def write(out: Path, start: ArtifactRef, datasets: list[ArtifactRef], pairs: ArtifactRef | None = None) -> int:
    """Write the digests of all training groups; returns their number.

    Args:
        out: the folder of what was trained.
        start: the weights that training started from.
        datasets: whose train splits were used.
        pairs: of preferences.

    Raises:
        DataError: if the release that training started from does not list the groups it was trained on.
    """
    import duckdb

    with duckdb.connect() as db:
        db.execute("create table training_groups (digest varchar)")
        for ref in datasets:
            _add(db, _TRAINED, artifacts.fetch(ref) / "data.parquet")
        if pairs:
            _add(db, _PAIRED, artifacts.fetch(pairs) / "pairs.parquet")
        if start["kind"] == "release":
            db.execute("insert into training_groups from read_parquet($path)", {"path": str(_of_release(start))})
        distinct = db.sql("select distinct digest from training_groups order by digest")
        distinct.write_parquet(str(out / TRAINING_GROUPS))
        return len(distinct)


def check(start: ArtifactRef) -> None:
    """Refuse, before any cost arises, a release that does not list the groups it was trained on.

    Raises:
        DataError: if so.
    """
    if start["kind"] == "release":
        _of_release(start)


def _add(db: Any, query: str, path: Path) -> None:
    db.execute(f'insert into training_groups select sha256("group")[:32] from ({query})', {"path": str(path)})  # noqa: S608


def _of_release(release: ArtifactRef) -> Path:
    path = artifacts.fetch(release) / TRAINING_GROUPS
    if not path.is_file():
        raise DataError(
            "The release that training starts from does not record which groups it was trained on, so an overlap "
            "with the test set could not be detected. Set finetune.start to 'base', or promote a newer release first."
        )
    return path
