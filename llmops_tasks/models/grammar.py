"""JSON by schema: which tokens may come next, by llguidance.

Source: github.com/guidance-ai/llguidance. White space between JSON's tokens is not written.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llmops_tasks.errors import ConstraintError, ModelError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

_COMPACT = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}


class Matcher:
    """Where an answer stands in its schema."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher

    def allowed(self) -> torch.Tensor:
        """(vocabulary,), true for tokens that may come next.

        Raises:
            ConstraintError: if none may.
        """
        import torch

        bias = self._matcher.compute_logit_bias()
        if self._matcher.is_error():
            raise ConstraintError("No token fits the schema any more. Simplify task.decoding.json_schema.")
        return torch.frombuffer(bytearray(bias), dtype=torch.uint8) > 0

    def take(self, token: int) -> bool:
        """Go on by a token; whether the answer is complete."""
        self._matcher.consume_token(token)
        return bool(self._matcher.is_stopped())


def opener(tokenizer: PreTrainedTokenizerBase, schema: dict[str, Any], ends: list[int]) -> Callable[[], Matcher]:
    """What begins an answer within a schema.

    Args:
        tokenizer: of the model.
        schema: JSON Schema.
        ends: tokens that end an answer.

    Raises:
        ModelError: if llguidance is not installed, or cannot follow the schema or the tokenizer.
    """
    if importlib.util.find_spec("llguidance") is None:
        raise ModelError(
            "task.decoding.json_schema requires llguidance, which is not installed. Run 'pip install llguidance', or "
            "remove the schema."
        )
    from llguidance import LLMatcher
    from llguidance.hf import from_tokenizer

    try:
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides=_COMPACT)
        known = from_tokenizer(tokenizer, eos_token=ends)
    except ValueError as exc:
        raise ModelError(f"llguidance cannot use this schema or tokenizer: {exc}") from exc
    if problem := LLMatcher.validate_grammar(grammar, known):
        raise ModelError(f"task.decoding.json_schema cannot be followed: {problem:.300}. Allowed: JSON Schema.")
    return lambda: Matcher(LLMatcher(known, grammar, log_level=0))
