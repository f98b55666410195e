"""The learning rate of every step."""

from __future__ import annotations

import itertools

import pytest

from llmops_tasks.config import Finetune
from llmops_tasks.training import optimizer


def _factors(schedule: str) -> list[float]:
    settings = Finetune.model_validate({"warmup": 0.1, "schedule": schedule})
    return [optimizer.schedule(step, 100, settings) for step in range(100)]


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    factors = _factors("linear")
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == 1.0 == factors[9]
    assert factors[:10] == sorted(factors[:10])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert 0 < factors[-1] < 0.02


def test_a_cosine_falls_slowly_fast_and_slowly_again() -> None:
    factors = _factors("cosine")
    assert factors[:10] == _factors("linear")[:10]
    assert factors[55] == pytest.approx(0.5) and factors[10:] == sorted(factors[10:], reverse=True)
    falls = [one - other for one, other in itertools.pairwise(factors[10:])]
    assert falls[0] < falls[45] > falls[-1] and 0 < factors[-1] < 0.001


def test_a_constant_rate_stays() -> None:
    assert _factors("constant")[10:] == [1.0] * 90


def test_weights_decay_as_asked_for() -> None:
    import torch

    made = optimizer.make([torch.ones(2, requires_grad=True)], Finetune(weight_decay=0.1))
    assert made.param_groups[0]["weight_decay"] == 0.1
