"""Whatever answers prompts keeps one protocol, and is found by its kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops_tasks.config.decoding import Decoding
from llmops_tasks.errors import InputError
from llmops_tasks.models.generator import open_generator

PROMPTS = ["Note: pain\nPriority:", "Note:\nPriority:", "Note: a refill\nPriority:"]
ANSWERS = [" urgent", " less", " emergent"]


def test_the_double_keeps_the_same_protocol(tmp_path: Path) -> None:
    stub = open_generator("stub", tmp_path)
    scores = stub.scores(PROMPTS, ANSWERS, 4)
    assert scores == stub.scores(PROMPTS, ANSWERS, 1)
    assert all(sum(row) == pytest.approx(1) for row in scores)
    answers = stub.generate(PROMPTS, Decoding(max_new_tokens=5), 2)
    assert [(len(answer.text), answer.tokens, answer.finish_reason) for answer in answers] == [(5, 5, "length")] * 3
    assert stub.bits("", ["abc", ""]) == [24.0, 0.0]


def test_an_unknown_kind_is_refused_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No generator 'transformer'. Did you mean 'transformers'\?"):
        open_generator("transformer", tmp_path)
