"""How answers are written: by default greedily; what no answer could come of is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from llmops_tasks.config.decoding import Decoding


def test_the_default_is_greedy_and_ends_by_itself() -> None:
    plain = Decoding()
    assert (plain.temperature, plain.top_p, plain.stop, plain.json_schema) == (0.0, 1.0, [], None)


@pytest.mark.parametrize(
    "given",
    [{"max_new_tokens": 0}, {"temperature": -0.1}, {"temperature": float("nan")}, {"top_p": 0}, {"top_p": 1.1},
     {"seed": -1}, {"stop": ["x"] * 17}, {"json_schema": "object"}, {"beams": 2}],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Decoding(**given)


def test_an_empty_stop_text_is_refused_with_the_reason() -> None:
    with pytest.raises(ValidationError, match="a stop text is empty, so every answer would be; remove it"):
        Decoding(stop=["\n", ""])
