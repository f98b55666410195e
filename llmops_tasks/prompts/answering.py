"""Texts through one release: what batch writes of a day and what MLflow's model answers come from here, and agree.

A release is asked as its own `release.json` says, and is opened from a verified copy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmops_tasks.config.server import Server
from llmops_tasks.contracts import ABSTAINED, ArtifactRef
from llmops_tasks.models import calibration
from llmops_tasks.models.chat import Prompt
from llmops_tasks.models.generator import Generator
from llmops_tasks.prompts import interface, opening, writing
from llmops_tasks.prompts.interface import Interface

if TYPE_CHECKING:
    import pandas as pd

BATCH_SIZE = 16  # prompts at once, by default


def asked_as(release: ArtifactRef) -> Interface:
    """How a release is to be asked.

    Raises:
        IntegrityError: if its `release.json` is damaged.
    """
    return interface.of_release(release)


def open_release(release: ArtifactRef, server: Server | None = None) -> Generator:
    """A release's model, or its ensemble; every byte is checked first.

    Args:
        release: as referred to.
        server: that has loaded it; None: it is loaded here.

    Raises:
        IntegrityError: if it is damaged, or another one than is referred to.
    """
    return opening.open_model(release, interface.of_release(release).number_format, server)


def columns(asked: Interface) -> list[str]:
    """What an answer consists of: the label (or `abstained`), the highest probability, and that of every label; or a
    text and what is known of it."""
    if asked.task.type == "generation":
        return list(writing.COLUMNS)
    return ["label", "score", *(f"p_{name}" for name in asked.labels)]


def scores(
    asked: Interface, generator: Generator, prompts: list[Prompt], batch_size: int = BATCH_SIZE
) -> list[list[float]]:
    """Probabilities of the labels, (prompts, labels), as the model gives them: not calibrated."""
    return generator.scores(prompts, asked.answers, batch_size, asked.max_length, asked.rule)


def decide(asked: Interface, scores: list[list[float]]) -> tuple[list[str], list[list[float]]]:
    """What a release answers, and its calibrated probabilities.

    Args:
        asked: of the release: its temperature, and below which probability it abstains.
        scores: (prompts, labels), from `scores`.

    Returns:
        (prompts,): the most likely label, or `abstained`; (prompts, labels).
    """
    rows = calibration.scaled(scores, asked.temperature)
    best = [max(range(len(row)), key=row.__getitem__) for row in scores]
    least = asked.task.abstain_below or 0.0
    names = [asked.labels[code] if row[code] >= least else ABSTAINED for code, row in zip(best, rows, strict=True)]
    return names, rows


def answer(asked: Interface, generator: Generator, texts: list[str], batch_size: int = BATCH_SIZE) -> pd.DataFrame:
    """One row for each rendered text, with `columns`.

    The batch size, and the texts that share a batch, move a probability in its last digits only.
    """

    if asked.task.type == "generation":
        return writing.answer(asked, generator, texts, batch_size)
    prompts = [asked.render_prompt(text) for text in texts]
    return labelled(asked, scores(asked, generator, prompts, batch_size))


def labelled(asked: Interface, scores: list[list[float]]) -> pd.DataFrame:
    """One row for each prompt's scores, with `columns`."""
    import pandas as pd

    names, found = decide(asked, scores)
    rows = [[name, max(row), *row] for name, row in zip(names, found, strict=True)]
    table = pd.DataFrame(rows, columns=columns(asked))
    return table.astype({name: "string" if name == "label" else "float64" for name in table})  # also without rows
