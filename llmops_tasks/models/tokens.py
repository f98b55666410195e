"""From texts to tokens, begun as the model's own tokenizer begins every text.

Some models (Gemma, Llama 3) were never shown a text without a beginning-of-text token, and are lost without it.
Others (SmolLM2) have none. What this does not do: add special tokens anywhere else.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def encode(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """The texts' tokens and no others."""
    return [list(found) for found in tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else []


def bos(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What the tokenizer puts before every text: its beginning-of-text token, or nothing."""
    first = tokenizer("a")["input_ids"][0]
    return [first] if first == tokenizer.bos_token_id else []


def encode_with_bos(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """The texts' tokens after the opening, which a template may have written already."""
    start = bos(tokenizer)
    return [found if found[: len(start)] == start else [*start, *found] for found in encode(tokenizer, texts)]


def fit(tokenizer: PreTrainedTokenizerBase, prompts: list[str], max_length: int, reserve: int) -> list[list[int]]:
    """Prompts as tokens, begun with the opening; one that leaves no space for the answer is truncated from the left.

    The only way from a prompt to tokens: training and answering cut alike, as the question stands at the end.

    Args:
        tokenizer: of the model.
        prompts: whole.
        max_length: tokens of prompt and answer together.
        reserve: tokens kept for the answer.
    """
    start = bos(tokenizer)
    return [truncate_left(found, max_length - reserve, start) for found in encode_with_bos(tokenizer, prompts)]


def longest(tokenizer: PreTrainedTokenizerBase, answers: list[str]) -> int:
    """Tokens of the longest of some answers."""
    return max(map(len, encode(tokenizer, answers)))


def truncate_left(tokens: list[int], space: int, start: list[int]) -> list[int]:
    """At most `space` tokens: the opening `start`, which these tokens begin with, and their end; one of it at least."""
    space = max(space, len(start) + 1)
    return tokens if len(tokens) <= space else [*start, *tokens[len(tokens) - space + len(start) :]]
