"""The learning rate of every step."""

from __future__ import annotations

import pytest

from llmops_tasks.training import optimizer


def test_the_learning_rate_rises_then_falls_to_nothing() -> None:
    factors = [optimizer.schedule(step, 100, 0.1) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == 1.0 == factors[9]
    assert factors[:10] == sorted(factors[:10])
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert 0 < factors[-1] < 0.02
