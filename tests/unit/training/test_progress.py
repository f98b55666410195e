"""What a run has made, how it was made and what it took come back with its newest checkpoint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from llmops_tasks.config import Finetune
from llmops_tasks.models import loading
from llmops_tasks.training import trainable
from llmops_tasks.training.progress import Progress

PROGRESS = Progress(
    usecase="tiny", run="r" * 64, mlflow_run="", total=9, checkpoint_every=2, fits="these steps", code="old", began="k"
)


def _state(folder: Path) -> trainable.State:
    return trainable.prepare(loading.load_model(folder)[0], Finetune(top_layers=1), 32)


def test_a_run_goes_on_in_as_many_parts_as_it_was_halved_into(tiny_model: Path) -> None:
    """Else sums would be taken in another order, and dropout would draw other masks."""
    old, new = _state(tiny_model), _state(tiny_model)
    _stepped(old)
    old.losses, old.parts = [3.0, 2.0], 4
    old.meter.go_on_from({"seconds": 100.0, "cpu_seconds": 150.0})
    PROGRESS.after_step(old, 2, speed=1.0, left=1.0)
    old.writer.finish()
    assert PROGRESS.resume(new) == 2
    assert (new.losses, new.parts, trainable.code_changes(new)) == ([3.0, 2.0], 4, [])
    assert 100 <= new.meter.spent()["seconds"] < 200 and 150 <= new.meter.spent()["cpu_seconds"] < 250


def test_newer_code_continues_and_earlier_steps_stay_recorded(
    tiny_model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    old, new, newer = (_state(tiny_model) for _ in range(3))
    _stepped(old)
    assert PROGRESS.resume(old) == 0
    PROGRESS.after_step(old, 2, speed=1.0, left=1.0)
    old.writer.finish()
    deployed = replace(PROGRESS, code="new")
    assert deployed.resume(new) == 2
    assert "the code has changed since step 2" in caplog.text
    deployed.after_step(new, 4, speed=1.0, left=1.0)
    new.writer.finish()
    assert deployed.resume(newer) == 4
    assert trainable.code_changes(newer) == [2]


def test_checkpoints_of_other_steps_are_not_gone_on_from(tiny_model: Path) -> None:
    """Nor do they stand where the new ones belong."""
    old, new, again = (_state(tiny_model) for _ in range(3))
    _stepped(old)
    PROGRESS.after_step(old, 2, speed=1.0, left=1.0)
    old.writer.finish()
    others = replace(PROGRESS, fits="other steps")
    assert others.resume(new) == 0 and trainable.code_changes(new) == []
    _stepped(new, 7.0)
    others.after_step(new, 2, speed=1.0, left=1.0)
    new.writer.finish()
    assert others.resume(again) == 2
    for name, value in again.trained.items():
        assert (value == new.trained[name]).all()


def _stepped(state: trainable.State, more: float = 1.0) -> None:
    for value in state.trained.values():
        value.grad = value.detach() + more
    state.optimizer.step()


def test_a_checkpoint_is_due_by_steps_or_by_minutes(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved: list[int] = []
    monkeypatch.setattr(Progress, "_save", lambda self, state, made: saved.append(made))
    state, by_time = _state(tiny_model), replace(PROGRESS, checkpoint_every=4, checkpoint_minutes=0.5)
    state.written, state.losses = 0.0, [1.0]
    for made, now in ((1, 10.0), (2, 31.0), (3, 40.0), (4, 45.0), (5, 60.0), (6, 76.0), (9, 500.0)):
        monkeypatch.setattr("llmops_tasks.training.progress.time.monotonic", lambda now=now: now)
        by_time.after_step(state, made, speed=1.0, left=1.0)
    assert saved == [2, 4, 6]  # none after the last step


def test_what_was_found_on_held_out_records_comes_back(tiny_model: Path) -> None:
    old, new = _state(tiny_model), _state(tiny_model)
    _stepped(old)
    old.held_out.losses = [(1, 2.0), (2, 1.5)]
    old.held_out.weights = {name: value.detach() + 1 for name, value in old.trained.items()}
    PROGRESS.after_step(old, 2, speed=1.0, left=1.0)
    old.writer.finish()
    PROGRESS.resume(new)
    assert new.held_out.losses == [(1, 2.0), (2, 1.5)]
    assert all((new.held_out.weights[name] == value).all() for name, value in old.held_out.weights.items())


def test_a_run_that_was_not_begun_begins_as_it_was_prepared(tiny_model: Path) -> None:
    state = _state(tiny_model)
    assert PROGRESS.resume(state) == 0
    assert (state.losses, state.parts) == ([], 1)
