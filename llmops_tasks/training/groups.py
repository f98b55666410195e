"""Whom a model has learnt from: digests of the groups (patients), carried from training into the release.

A release has those of the weights that it started from, too. Evaluation counts how many of them it meets again, and
the gate lets nothing pass that was measured on patients it has learnt from.
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
    """Write the digests of all groups learnt from; returns how many there are.

    Args:
        out: the folder of what was trained.
        start: the weights that training started from.
        datasets: whose train splits were learnt from.
        pairs: of preferences.

    Raises:
        DataError: if the release that was started from does not say whom it has learnt from.
    """
    import duckdb

    with duckdb.connect() as db:
        db.execute("create table learnt (digest varchar)")
        for ref in datasets:
            _add(db, _TRAINED, artifacts.fetch(ref) / "data.parquet")
        if pairs:
            _add(db, _PAIRED, artifacts.fetch(pairs) / "pairs.parquet")
        if start["kind"] == "release":
            db.execute("insert into learnt from read_parquet($path)", {"path": str(_of_release(start))})
        distinct = db.sql("select distinct digest from learnt order by digest")
        distinct.write_parquet(str(out / TRAINING_GROUPS))
        return len(distinct)


def check(start: ArtifactRef) -> None:
    """Refuse, before anything is spent, a release that does not say whom it has learnt from.

    Raises:
        DataError: if so.
    """
    if start["kind"] == "release":
        _of_release(start)


def _add(db: Any, query: str, path: Path) -> None:
    db.execute(f'insert into learnt select sha256("group")[:32] from ({query})', {"path": str(path)})  # noqa: S608


def _of_release(release: ArtifactRef) -> Path:
    path = artifacts.fetch(release) / TRAINING_GROUPS
    if not path.is_file():
        raise DataError(
            "The release that training starts from does not say which patients it has learnt from, so nobody could tell "
            "whether it is tested on them. Set finetune.start to 'base', or promote a newer release first."
        )
    return path
