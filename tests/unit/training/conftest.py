"""A training set of a few rows, so that every step can be looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.contracts import ArtifactRef
from tests.support import datasets, tiny

ANSWERS = (" urgent", " less", " emergent", " non")
Training = dict[str, Any]


def small_dataset(
    rows: int = 24, held_out: int = 6, usecase: str = "tiny", answers: tuple[str, ...] = ANSWERS
) -> ArtifactRef:
    """Numbered notes, with answers that follow from the number."""
    return datasets.publish(
        [
            {
                "record_id": f"r{n}",
                "text": f"note number {n} " + "with pain " * (n % 5),
                "completion": answers[n * n % 4],
                "split": "train" if n < rows else "validation",
            }
            for n in range(rows + held_out)
        ],
        usecase,
    )


@pytest.fixture
def training(tmp_path: Path, tiny_model: Path, world: Any) -> Callable[..., Training]:
    """Arguments of `finetune`: 6 steps of 4 rows with dropout, a checkpoint after every second."""

    def make(**settings: Any) -> Training:
        plain = {"batch_size": 4, "checkpoint_every": 2, "dropout": 0.1, "max_length": 48}
        path = tiny.usecase(tmp_path / "usecases", tiny_model, "file:///none/*.csv", finetune=plain | settings)
        return {"usecase": str(path), "dataset": small_dataset(), "start": world.base}

    return make
