"""One protocol for whatever answers prompts: a local transformers model, or a double for tests.

`scores` weighs a closed set of answers, the prompt read once; `generate` writes freely; `bits` measures how well a
text was predicted.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Protocol

from llmops_tasks.config.decoding import Decoding
from llmops_tasks.errors import InputError, did_you_mean
from llmops_tasks.models import frozen_layers
from llmops_tasks.models.chat import Prompt
from llmops_tasks.models.decoding import Answer
from llmops_tasks.models.label_tree import BRANCHING, Scoring


class Generator(Protocol):
    """Answers prompts."""

    cut: int  # prompts so far that were longer than allowed and lost their beginning

    def scores(
        self,
        prompts: Sequence[Prompt],
        answers: list[str],
        batch_size: int,
        max_length: int | None = None,
        rule: Scoring = BRANCHING,
    ) -> list[list[float]]:
        """The probability of each answer among the answers: (prompts, answers), rows sum to 1.

        Args:
            prompts: to answer, each a text or a chat.
            answers: to choose from.
            batch_size: prompts at once.
            max_length: tokens of prompt and answer; longer prompts lose their beginning, as in training, and are
                counted in `cut`. None cuts nothing.
            rule: what an answer's probability is made of.

        Raises:
            ModelError: if a prompt is longer than the model's context, or two answers are the same to the model.
        """

    def generate(
        self, prompts: Sequence[Prompt], settings: Decoding, batch_size: int, max_length: int | None = None
    ) -> list[Answer]:
        """An answer to each prompt.

        Args:
            prompts: to answer.
            settings: of the answers.
            batch_size: prompts at once.
            max_length: tokens of prompt and answer; as for `scores`, with space for `max_new_tokens`.

        Raises:
            ModelError: if the model's output is not a number, or the schema cannot be followed.
        """

    def bits(self, start: Prompt | list[Prompt], texts: list[str], max_length: int | None = None) -> list[float]:
        """How unexpected each text is after `start`, one for all or one for each: -log2 of its probability.

        With `max_length`, longer beginnings are cut as in training, and a text that is longer than the context has NaN.
        """


MEMBERS = "members"  # the folder of an ensemble's models
# Names of the kinds, and where they are; loaded on first use.
KINDS = {"transformers": "llmops_tasks.models.local:LocalModel", "stub": "llmops_tasks.models.generator:Stub"}


def open_generator(
    kind: str, folder: Path, shared: frozen_layers.Shared | None = None, number_format: str = "fp32"
) -> Generator:
    """Open the generator of this kind over a verified model folder.

    Args:
        kind: one of `KINDS`.
        folder: of the model.
        shared: keep what its lower layers make of the prompts to be scored, for it and all models with the same
            lower layers; what is kept already is not computed again.
        number_format: that it computes in: fp32, bf16, fp16, or int8 where the folder has quantised files.
    """
    if kind not in KINDS:
        raise InputError(f"No generator '{kind}'.{did_you_mean(kind, KINDS)} Known: {sorted(KINDS)}.")
    module, _, name = KINDS[kind].partition(":")
    factory: Callable[[Path, frozen_layers.Shared | None, str], Generator] = getattr(import_module(module), name)
    if members := sorted((folder / MEMBERS).glob("*")):
        return Ensemble([partial(factory, member, shared, number_format) for member in members])
    return factory(folder, shared, number_format)


class Ensemble:
    """Several models asked one after the other, so that only one is in memory; their scores are averaged.

    Source: Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles".
    """

    def __init__(self, members: list[Callable[[], Generator]]) -> None:
        self._members, self.cut = members, 0

    def scores(
        self,
        prompts: Sequence[Prompt],
        answers: list[str],
        batch_size: int,
        max_length: int | None = None,
        rule: Scoring = BRANCHING,
    ) -> list[list[float]]:
        """See Generator."""
        found = []
        for make in self._members:
            member = make()
            found.append(member.scores(prompts, answers, batch_size, max_length, rule))
            cut = member.cut
        self.cut += cut  # the members have one tokenizer
        return [[sum(scores) / len(found) for scores in zip(*rows, strict=True)] for rows in zip(*found, strict=True)]

    def bits(self, start: Prompt | list[Prompt], texts: list[str], max_length: int | None = None) -> list[float]:
        """See Generator; of the averaged probability."""
        found = [member().bits(start, texts, max_length) for member in self._members]
        return [
            min(row) - math.log2(sum(2 ** (min(row) - bits) for bits in row) / len(row))
            for row in zip(*found, strict=True)
        ]

    def generate(
        self, prompts: Sequence[Prompt], settings: Decoding, batch_size: int, max_length: int | None = None
    ) -> list[Answer]:
        """Texts have no average."""
        raise InputError("An ensemble weighs labels; it cannot write. Set finetune.members to 1 to generate.")


class Stub:
    """A double for tests: answers follow from the prompt's digest, no model is read."""

    def __init__(self, folder: Path, shared: frozen_layers.Shared | None = None, number_format: str = "fp32") -> None:
        self.folder, self.cut = folder, 0

    def scores(
        self,
        prompts: Sequence[Prompt],
        answers: list[str],
        batch_size: int,
        max_length: int | None = None,
        rule: Scoring = BRANCHING,
    ) -> list[list[float]]:
        """See Generator."""
        result = []
        for prompt in prompts:
            weights = [1 + hashlib.sha256(f"{prompt}|{answer}".encode()).digest()[0] for answer in answers]
            result.append([weight / sum(weights) for weight in weights])
        return result

    def generate(
        self, prompts: Sequence[Prompt], settings: Decoding, batch_size: int, max_length: int | None = None
    ) -> list[Answer]:
        """See Generator; a letter is a token."""
        most = settings.max_new_tokens
        texts = [hashlib.sha256(str(prompt).encode()).hexdigest()[:most] for prompt in prompts]
        return [Answer(text, len(text), "length", 4.0 * len(text)) for text in texts]

    def bits(self, start: Prompt | list[Prompt], texts: list[str], max_length: int | None = None) -> list[float]:
        """See Generator."""
        return [8.0 * len(text.encode()) for text in texts]
