"""From dataset rows to token sequences with the prompt masked: loss falls on the completion only."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmops_tasks.config.usecase import Task
from llmops_tasks.errors import ModelError, TrainingError
from llmops_tasks.models import tokens
from llmops_tasks.prompts.interface import Interface

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # torch's mask for positions without loss


@dataclass(frozen=True)
class Example:
    """One record as tokens; `labels[t]` is what position t must predict, or IGNORED."""

    tokens: list[int]
    labels: list[int]


def encode(interface: Interface, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]]) -> list[Example]:
    """Tokenise rows with the columns `text` and `completion`, as the model will be asked when it serves.

    Raises:
        TrainingError: if a completion is empty, so that it cannot be trained on.
    """
    prompts = [interface.render_prompt(row["text"]) for row in rows]
    answers = tokens.encode(tokenizer, [row["completion"] for row in rows])
    if not all(answers):
        raise TrainingError("A completion has no tokens and cannot be trained on. Check the labels' texts.")
    if interface.answers:
        asked = tokens.fit(tokenizer, prompts, interface.max_length, tokens.longest(tokenizer, interface.answers))
        return [example(prompt, answer) for prompt, answer in zip(asked, answers, strict=True)]
    whole = [[*answer, tokenizer.eos_token_id] for answer in answers]
    cut = [
        tokens.fit(tokenizer, [prompt], interface.max_length, len(answer))[0]
        for prompt, answer in zip(prompts, whole, strict=True)
    ]
    return [example(prompt, answer) for prompt, answer in zip(cut, whole, strict=True)]


def example(prompt: list[int], answer: list[int]) -> Example:
    """A prompt and an answer: loss falls on the answer. Its last token predicts nothing and is left out."""
    return Example([*prompt, *answer][:-1], [IGNORED] * (len(prompt) - 1) + answer)


@dataclass(frozen=True)
class Pair:
    """A prompt with the answer that is preferred and the one that is not, as tokens."""

    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    def examples(self) -> list[Example]:
        """Both answers after the prompt, the preferred one first."""
        return [example(self.prompt, answer) for answer in (self.chosen, self.rejected)]


def pair(tokenizer: PreTrainedTokenizerBase, row: dict[str, str], max_length: int) -> Pair:
    """Tokens of a row with the columns `prompt`, `chosen` and `rejected`; a long prompt loses its beginning."""
    chosen, rejected = tokens.encode(tokenizer, [row["chosen"], row["rejected"]])
    (prompt,) = tokens.fit(tokenizer, [row["prompt"]], max_length, max(len(chosen), len(rejected)))
    return Pair(prompt, chosen, rejected)


def blocks(tokenizer: PreTrainedTokenizerBase, texts: list[str], length: int) -> list[Example]:
    """Texts without answers, cut into blocks of at most `length` tokens: every position predicts the next token."""
    end = [tokenizer.eos_token_id]
    rows = tokens.encode_with_bos(tokenizer, texts)
    found = [(row + end)[at : at + length + 1] for row in rows for at in range(0, len(row), length)]
    return [Example(block[:-1], block[1:]) for block in found]


def label_tokens(task: Task, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The first token of every label's text, in the order of the scale; they are what is scored.

    Raises:
        ModelError: if two labels begin with the same token, so that one forward pass cannot distinguish them.
    """
    first = [found[0] for found in tokens.encode(tokenizer, [label.text for label in task.labels])]
    for index, token in enumerate(first):
        if token in first[:index]:
            names = [label.name for label, other in zip(task.labels, first, strict=True) if other == token]
            raise ModelError(
                f"The texts of the labels {names} begin with the same token. Give them different first words."
            )
    return first


def batch_plan(lengths: list[int], batch_size: int, seed: int, epoch: int) -> list[list[int]]:
    """Batches of records of like length, in random order: little padding, and the same for the same seed and epoch."""
    rng = random.Random(f"{seed}/{epoch}")  # noqa: S311  (reproducible, not secret)
    order = list(range(len(lengths)))
    rng.shuffle(order)
    pool = batch_size * 8
    pools = [sorted(order[at : at + pool], key=lengths.__getitem__) for at in range(0, len(order), pool)]
    batches = [part[at : at + batch_size] for part in pools for at in range(0, len(part), batch_size)]
    rng.shuffle(batches)
    return batches
