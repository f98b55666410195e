"""The schema of how a model writes its answer: `task.decoding` of a generation use case."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator

from llmops_tasks.config.data import Section


class Decoding(Section):
    """How an answer is written, token by token."""

    max_new_tokens: int = Field(
        default=64, ge=1, description="Most tokens of an answer; a longer one is cut (finish_reason length)."
    )
    stop: list[str] = Field(
        default=[], max_length=16, description="Texts at which an answer ends; they are not part of it."
    )
    temperature: float = Field(
        default=0.0, ge=0, le=10, description="0: always the most probable token. Above 0: tokens are drawn."
    )
    top_p: float = Field(
        default=1.0, gt=0, le=1, description="Draw among the most probable tokens of this total probability."
    )
    seed: int = Field(
        default=0, ge=0, description="Of what is drawn; the same prompt gets the same answer whatever else is asked."
    )
    json_schema: dict[str, Any] | None = Field(
        default=None,
        description="JSON Schema that answers follow token by token; one cut by max_new_tokens is incomplete.",
    )

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, stop: list[str]) -> list[str]:
        if not all(stop):
            raise ValueError("a stop text is empty, so every answer would be; remove it")
        return stop
