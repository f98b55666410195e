"""Overlap between the groups a subject was trained on and those it is evaluated on. Any overlap invalidates the evidence."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from llmops_tasks.contracts import TRAINING_GROUPS, ArtifactRef
from llmops_tasks.store import artifacts

if TYPE_CHECKING:
    import pandas as pd


def overlap(model: ArtifactRef | None, tested: pd.Series, trained: pd.Series) -> int | None:
    """Groups that the subject meets again.

    Args:
        model: a release, which lists the groups it was trained on; a base model, which was trained on none of them;
            None for a baseline that learns from `trained`.
        tested: groups of the records measured on.
        trained: groups of the train split.

    Returns:
        None if the release does not list the groups it was trained on.
    """
    groups = set(tested)
    if model is None:
        return len(groups & set(trained))
    if model["kind"] != "release":
        return 0
    learnt = artifacts.fetch(model) / TRAINING_GROUPS
    if not learnt.is_file():
        return None
    return _met_again({digest_of(group) for group in groups}, str(learnt))


def digest_of(group: str) -> str:
    """How a group is named in a release: as in `training.groups`."""
    return hashlib.sha256(group.encode()).hexdigest()[:32]


def _met_again(tested: set[str], path: str) -> int:
    import pyarrow.parquet as pq

    batches = pq.ParquetFile(path).iter_batches(columns=["digest"])
    return sum(len(tested.intersection(batch.column(0).to_pylist())) for batch in batches)
