"""From texts to tokens, begun as the model's own tokenizer begins every text.

Some models (Gemma, Llama 3) were never shown a text without a beginning-of-text token, and are lost without it.
Others (SmolLM2) have none. What this does not do: add special tokens anywhere else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmops_tasks.errors import ContextError, ModelError
from llmops_tasks.models import chat
from llmops_tasks.models.chat import Prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """The texts' tokens and no others."""
    return [list(found) for found in tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else []


def bos(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer puts before every text: its beginning-of-text token, or nothing."""
    first = tokenizer("a")["input_ids"][0]
    return [first] if first == tokenizer.bos_token_id else []


def encode_with_bos(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt]) -> list[list[int]]:
    """The prompts' tokens after the opening, which a template may have written already."""
    start = bos(tokenizer)
    texts = iter(encode(tokenizer, [prompt for prompt in prompts if isinstance(prompt, str)]))
    found = [next(texts) if isinstance(prompt, str) else chat.encode(tokenizer, prompt) for prompt in prompts]
    return [ids if ids[: len(start)] == start else [*start, *ids] for ids in found]


def fit(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], max_length: int, reserve: int
) -> list[list[int]]:
    """Prompts as tokens, begun with the opening; one that leaves no space for the answer is truncated from the left.

    A chat stays well-formed: see `chat.fit`.

    The only way from a prompt to tokens: training and answering cut alike, as the question stands at the end.

    Args:
        tokenizer: of the model.
        prompts: whole.
        max_length: tokens of prompt and answer together.
        reserve: tokens kept for the answer.

    Raises:
        ContextError: if a chat is too long without its text.
    """
    return [_or_raised(found) for found in fit_each(tokenizer, prompts, max_length, reserve)]


def fit_each(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], max_length: int, reserve: int
) -> list[list[int] | ContextError]:
    """As `fit`, with the error of a chat that is too long in its place, so that it costs itself alone."""
    start, space = bos(tokenizer), max_length - reserve
    return [
        truncate_left(found, space, start)
        if isinstance(prompt, str)
        else _fit_chat(tokenizer, prompt, found, space, start)
        for prompt, found in zip(prompts, encode_with_bos(tokenizer, prompts), strict=True)
    ]


def _fit_chat(
    tokenizer: PreTrainedTokenizerBase, prompt: chat.Chat, found: list[int], space: int, start: list[int]
) -> list[int] | ContextError:
    if len(found) <= space:
        return found
    try:
        fitted = chat.fit(tokenizer, prompt, space - len(start))
    except ContextError as exc:
        return exc
    return fitted if fitted[: len(start)] == start else [*start, *fitted]


def _or_raised(found: list[int] | ContextError) -> list[int]:
    if isinstance(found, ContextError):
        raise found
    return found


def closed_set(tokenizer: PreTrainedTokenizerBase, answers: list[str]) -> list[list[int]]:
    """The tokens of answers that are a closed set, as they are trained on and scored: none begins another.

    An answer whose tokens begin another one's is followed by the end of the text, so that the two part there.

    Raises:
        ModelError: if an answer has no tokens, two have the same, or there is no token for the end where one is needed.
    """
    found = encode(tokenizer, answers)
    if not all(found):
        raise ModelError("A label's text has no tokens for this model. Give it a text of at least one word.")
    if alike := [text for text, ids in zip(answers, found, strict=True) if found.count(ids) > 1]:
        raise ModelError(f"The label texts {alike} are the same tokens for this model. Give each label its own text.")
    begun = [any(ids == other[: len(ids)] for other in found if len(other) > len(ids)) for ids in found]
    end = tokenizer.eos_token_id
    if any(begun) and end is None:
        texts = [text for text, more in zip(answers, begun, strict=True) if more]
        raise ModelError(
            f"The label texts {texts} begin other labels' texts, and this model has no token for the end of a text. "
            "Give the labels texts that do not begin each other."
        )
    return [[*ids, end] if more else ids for ids, more in zip(found, begun, strict=True)]


def common(texts: Sequence[tuple[int, ...]] | Sequence[list[int]]) -> list[int]:
    """The tokens that all texts begin with."""
    whole = [list(text) for text in texts]
    first, last = min(whole), max(whole)  # whatever lies between them begins alike
    at = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    return first[:at]


def truncate_left(tokens: list[int], space: int, start: list[int]) -> list[int]:
    """At most `space` tokens: the opening `start`, which these tokens begin with, and their end; one of it at least."""
    space = max(space, len(start) + 1)
    return tokens if len(tokens) <= space else [*start, *tokens[len(tokens) - space + len(start) :]]
