"""From dataset rows to token sequences with the prompt masked: loss falls on the completion only."""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmops_tasks.errors import ContextError, TrainingError
from llmops_tasks.models import chat, tokens
from llmops_tasks.models.chat import Chat, Prompt
from llmops_tasks.prompts.interface import Interface

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)
CONVERSATION = '[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":"c"}]'
IGNORED = -100  # torch's mask for positions without loss


@dataclass(frozen=True)
class Example:
    """One record as tokens; `labels[t]` is what position t must predict, or IGNORED."""

    tokens: list[int]
    labels: list[int]


def encode(
    interface: Interface, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], turns: str = "last"
) -> list[Example]:
    """Tokenise rows with the columns `text` and `completion`, as the model will be asked when it serves.

    Args:
        interface: how it is asked.
        tokenizer: of the model.
        rows: records.
        turns: of conversations, the assistant's turns that loss falls on: last, or all. All make one example of a record
            where the template renders its beginning as the whole; else each turn is an example of its own.

    Raises:
        TrainingError: if a completion is empty, so that it cannot be trained on.
        ContextError: if every record is a chat that is too long without its text; single ones are left out.
        ModelError: if the tokenizer's chat template is needed, and missing or failing.
    """
    prompts = [interface.render_prompt(row["text"]) for row in rows]
    if interface.answers:
        answers = completions(interface, tokenizer, [row["completion"] for row in rows])
        longest = max(map(len, tokens.closed_set(tokenizer, interface.answers)))
        asked = tokens.fit_each(tokenizer, prompts, interface.max_length, longest)
        return _those_that_fit([_made(prompt, _some(answer)) for prompt, answer in zip(asked, answers, strict=True)])
    texts = [interface.render_answer(row["completion"]) for row in rows]
    wanted = interface.prompt.format == "conversation" and turns == "all"
    pairs = zip(prompts, texts, strict=True)
    return _those_that_fit(
        [made for prompt, text in pairs for made in _written(interface, tokenizer, prompt, text, wanted)]
    )


def _made(prompt: list[int] | ContextError, answer: list[int]) -> Example | ContextError:
    return prompt if isinstance(prompt, ContextError) else example(prompt, answer)


def _those_that_fit(made: list[Example | ContextError]) -> list[Example]:
    """One conversation that is too long costs itself, not the training."""
    found = [one for one in made if isinstance(one, Example)]
    errors = [one for one in made if isinstance(one, ContextError)]
    if errors and not found:
        raise errors[0]
    if errors:
        log.warning("%d of %d records are left out, as they are too long: %s", len(errors), len(made), errors[0])
    return found


def _written(
    interface: Interface, tokenizer: PreTrainedTokenizerBase, prompt: Prompt, text: str, every_turn: bool
) -> list[Example | ContextError]:
    """A record whose answer is written freely, and ends."""
    parts = _spoken(prompt) if every_turn and isinstance(prompt, Chat) else []
    answered = [(asked, _answer(tokenizer, asked, said)) for asked, said in [*parts, (prompt, text)]]
    whole = _in_one(tokenizer, answered, interface.max_length) if len(answered) > 1 else None
    return [whole] if whole else [
        _made(tokens.fit_each(tokenizer, [asked], interface.max_length, len(answer))[0], answer)
        for asked, answer in answered
    ]  # fmt: skip


def _spoken(chat: Chat) -> list[tuple[Prompt, str]]:
    """What the assistant has said within a conversation, each with what stands before it."""
    found: list[tuple[Prompt, str]] = []
    for place, message in enumerate(chat.messages):
        if message["role"] == "assistant":
            before = chat.messages[:place]
            span = (0, len(before[-1]["content"]))
            found.append((chat._replace(messages=before, text=span), message["content"]))
    return found


def _in_one(
    tokenizer: PreTrainedTokenizerBase, answered: list[tuple[Prompt, list[int]]], max_length: int
) -> Example | None:
    """All answers in the tokens of the whole conversation; None if it is too long, or a beginning is rendered otherwise."""
    asked = tokens.encode_with_bos(tokenizer, [prompt for prompt, _ in answered])
    answers = [answer for _, answer in answered]
    whole = [*asked[-1], *answers[-1]]
    labels = [IGNORED] * len(whole)
    for prompt, answer in zip(asked, answers, strict=True):
        end = len(prompt) + len(answer)
        if whole[:end] != [*prompt, *answer]:
            return None
        labels[len(prompt) : end] = answer
    return Example(whole[:-1], labels[1:]) if len(whole) <= max_length else None


def _answer(tokenizer: PreTrainedTokenizerBase, prompt: Prompt, text: str) -> list[int]:
    """An answer's tokens, and its end."""
    if isinstance(prompt, Chat):
        return _some(chat.written(tokenizer, prompt, text) if text.strip() else [])
    return [*_some(tokens.encode(tokenizer, [text])[0]), tokenizer.eos_token_id]


def _some(answer: list[int]) -> list[int]:
    if not answer:
        raise TrainingError("A completion has no tokens and cannot be trained on. Check the labels' texts.")
    return answer


def check_prompt(interface: Interface, tokenizer: PreTrainedTokenizerBase) -> None:
    """Refuse a model that cannot be asked in this form, before any cost arises.

    Raises:
        ModelError: if it has no chat template, its template refuses these turns, or they leave no space for a text.
    """
    labels = tokens.closed_set(tokenizer, interface.answers)
    reserve = max(map(len, labels)) if labels else interface.task.decoding.max_new_tokens
    text = CONVERSATION if interface.prompt.format == "conversation" else "a"
    tokens.fit(tokenizer, [interface.render_prompt(text)], interface.max_length, reserve)


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
    """Tokens of rows with the columns `prompt`, `chosen` and `rejected`; a long prompt loses its beginning.

    A prompt is a text or, where the use case asks in chats, a chat as JSON.
    """
    plain = interface.prompt.format == "plain"
    chosen, rejected = (
        completions(interface, tokenizer, [row[name] for row in rows]) for name in ("chosen", "rejected")
    )
    longest = [max(len(one), len(other)) for one, other in zip(chosen, rejected, strict=True)]
    prompts = [
        tokens.fit(tokenizer, [row["prompt"] if plain else chat.loaded(row["prompt"])], interface.max_length, length)[0]
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
