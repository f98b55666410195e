"""What a run has taken is the sum over its attempts."""

from __future__ import annotations

import pytest

from llmops_tasks.training.stopwatch import Stopwatch


def test_a_meter_counts_from_when_it_was_made(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmops_tasks.training import stopwatch

    now = [50.0, 7.0]
    monkeypatch.setattr(stopwatch.time, "monotonic", lambda: now[0])
    found = Stopwatch(_clock=50.0, _processor=7.0)
    monkeypatch.setattr(stopwatch, "_processor_seconds", lambda: now[1])
    now[:] = [53.0, 11.0]
    assert found.spent() == {"seconds": 3.0, "cpu_seconds": 4.0}
    found.go_on_from({"seconds": 10.0, "cpu_seconds": 20.0})
    assert found.spent() == {"seconds": 13.0, "cpu_seconds": 24.0}
