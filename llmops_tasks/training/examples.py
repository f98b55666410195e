"""From dataset rows to token sequences with the prompt masked: loss falls on the completion only."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmops_tasks.errors import TrainingError
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
    answers = completions(interface, tokenizer, [row["completion"] for row in rows])
    if not all(answers):
        raise TrainingError("A completion has no tokens and cannot be trained on. Check the labels' texts.")
    if interface.answers:
        longest = max(map(len, tokens.closed_set(tokenizer, interface.answers)))
        asked = tokens.fit(tokenizer, prompts, interface.max_length, longest)
        return [example(prompt, answer) for prompt, answer in zip(asked, answers, strict=True)]
    whole = [[*answer, tokenizer.eos_token_id] for answer in answers]
    cut = [
        tokens.fit(tokenizer, [prompt], interface.max_length, len(answer))[0]
        for prompt, answer in zip(prompts, whole, strict=True)
    ]
    return [example(prompt, answer) for prompt, answer in zip(cut, whole, strict=True)]


def completions(interface: Interface, tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Tokens of what is to be written: of a label, those that it is scored by."""
    labels = dict(zip(interface.answers, tokens.closed_set(tokenizer, interface.answers), strict=True))
    return [labels.get(text, ids) for text, ids in zip(texts, tokens.encode(tokenizer, texts), strict=True)]


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


def pairs(interface: Interface, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, str]]) -> list[Pair]:
    """Tokens of rows with the columns `prompt`, `chosen` and `rejected`; a long prompt loses its beginning."""
    chosen, rejected = (
        completions(interface, tokenizer, [row[name] for row in rows]) for name in ("chosen", "rejected")
    )
    longest = [max(len(one), len(other)) for one, other in zip(chosen, rejected, strict=True)]
    prompts = [
        tokens.fit(tokenizer, [row["prompt"]], interface.max_length, length)[0]
        for row, length in zip(rows, longest, strict=True)
    ]
    return [Pair(*found) for found in zip(prompts, chosen, rejected, strict=True)]


def blocks(tokenizer: PreTrainedTokenizerBase, texts: list[str], length: int) -> list[Example]:
    """Texts without answers, cut into blocks of at most `length` tokens: every position predicts the next token."""
    end = [tokenizer.eos_token_id]
    rows = tokens.encode_with_bos(tokenizer, texts)
    found = [(row + end)[at : at + length + 1] for row in rows for at in range(0, len(row), length)]
    return [Example(block[:-1], block[1:]) for block in found]


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
