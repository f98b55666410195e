"""Texts through one release: what batch writes of a day and what MLflow's model answers come from here, and agree.

A release is asked as its own `release.json` says, and is opened from a verified copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.models.generator import Generator, open_generator
from llmops_tasks.prompts import interface, writing
from llmops_tasks.prompts.interface import Interface
from llmops_tasks.store import artifacts

if TYPE_CHECKING:
    import pandas as pd

BATCH_SIZE = 16  # prompts at once, by default


def asked_as(release: ArtifactRef) -> Interface:
    """How a release is to be asked.

    Raises:
        IntegrityError: if its `release.json` is damaged.
    """
    return interface.of_release(release)


def open_release(release: ArtifactRef) -> Generator:
    """A release's model, or its ensemble; every byte is checked first.

    Raises:
        IntegrityError: if it is damaged, or another one than is referred to.
    """
    return open_generator("transformers", artifacts.fetch(release))


def columns(asked: Interface) -> list[str]:
    """What an answer consists of: the label, its probability, and that of every label; or a text and what is known of it."""
    if asked.task.type == "generation":
        return list(writing.COLUMNS)
    return ["label", "score", *(f"p_{name}" for name in asked.labels)]


def answer(asked: Interface, generator: Generator, texts: list[str], batch_size: int = BATCH_SIZE) -> pd.DataFrame:
    """One row for each rendered text, with `columns`.

    The batch size, and the texts that share a batch, move a probability in its last digits only.
    """
    import pandas as pd

    if asked.task.type == "generation":
        return writing.answer(asked, generator, texts, batch_size)
    prompts = [asked.render_prompt(text) for text in texts]
    scores = generator.scores(prompts, asked.answers, batch_size, asked.max_length)
    best = [max(range(len(row)), key=row.__getitem__) for row in scores]
    rows = [[asked.labels[code], max(row), *row] for code, row in zip(best, scores, strict=True)]
    table = pd.DataFrame(rows, columns=columns(asked))
    return table.astype({name: "string" if name == "label" else "float64" for name in table})  # also without rows
