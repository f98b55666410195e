"""What a run will need is known before its first step, and what is too much is not begun."""

from __future__ import annotations

from collections.abc import Callable
from itertools import cycle
from types import SimpleNamespace
from typing import Any

import pytest

from llmops_tasks.config import Finetune
from llmops_tasks.config.training import Budget
from llmops_tasks.errors import BudgetError
from llmops_tasks.models import loading
from llmops_tasks.store import artifacts, objects
from llmops_tasks.training import checkpoints, loop, preflight, trainable
from llmops_tasks.training.examples import IGNORED, Example, batch_plan
from llmops_tasks.training.finetuning import finetune
from llmops_tasks.training.training_plan import TrainingPlan

Make = Callable[..., dict[str, Any]]
SETTINGS = Finetune(top_layers=1, batch_size=4, dropout=0.1)


@pytest.fixture
def state(tiny_model: Any) -> trainable.State:
    """The tiny model before its first step."""
    return trainable.prepare(loading.load_model(tiny_model)[0], SETTINGS, 40)


def _planned(records: int = 40) -> TrainingPlan:
    lengths = [5 + number % 30 for number in range(records)]
    examples = [Example([7] * length, [IGNORED] * (length - 1) + [3]) for length in lengths]
    return TrainingPlan(examples, batch_plan(lengths, 4, 7, 0), {"own": records})


def test_the_probe_leaves_no_trace(state: trainable.State) -> None:
    import torch

    before = {name: value.detach().clone() for name, value in state.trained.items()}
    preflight.estimate(state, SETTINGS, _planned(), "tiny")
    assert all(torch.equal(before[name], value) for name, value in state.trained.items())
    assert not state.optimizer.state and not state.losses
    assert all(value.grad is None for value in state.trained.values())


@pytest.mark.parametrize("every", [None, 5])
def test_a_checkpoint_is_counted_as_it_is_written_in_memory_and_on_disk(
    state: trainable.State, monkeypatch: pytest.MonkeyPatch, every: int | None
) -> None:
    settings, plan = SETTINGS.model_copy(update={"evaluate_every": every}), _planned()
    loop.step(state, settings, 0, 2, plan.examples[:2], None)
    best = {name: value.detach().clone() for name, value in state.trained.items()} if every else {}
    written = checkpoints.snapshot(state.trained, state.optimizer, best)
    size = sum(value.numel() * value.element_size() for value in written.values() if value.ndim)
    assert preflight._checkpoint(state, settings) == size
    found = preflight._copies(state, settings)
    monkeypatch.setattr(preflight.hardware, "device_type", lambda: "cuda")
    assert found - preflight._copies(state, settings) == size  # beside a GPU it lies in main memory
    assert preflight._disk(state, settings, 0) > 3 * size / preflight.MIB


def test_seconds_are_tokens_by_the_probed_speeds(state: trainable.State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "_probe", lambda *_: (1000.0, 100.0))  # tokens/s of the frozen layers and of a step
    one, two = (preflight.estimate(state, SETTINGS, _planned(records), "tiny") for records in (60, 120))
    assert (two.steps, two.tokens) == (2 * one.steps, 2 * one.tokens)
    assert one.seconds == pytest.approx(one.tokens / 1000 + one.tokens / 100, abs=0.01)
    assert two.seconds == pytest.approx(2 * one.seconds, abs=0.2)


def test_the_probe_measures_both_speeds_at_the_second_pass_of_a_batch(
    state: trainable.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a clock of the test's own: the frozen layers take 2 s and a step 5, a hundred more where kernels are made."""
    now, plan = [0.0], _planned()

    def lasting(seconds: float) -> Callable[..., None]:
        first = cycle([100.0, 0.0])
        return lambda *_: now.append(now[-1] + seconds + next(first))

    monkeypatch.setattr(preflight, "_hidden", lasting(2))
    monkeypatch.setattr(preflight.loop, "step", lasting(5))
    monkeypatch.setattr(preflight, "time", SimpleNamespace(perf_counter=lambda: now[-1]))
    tokens = sum(len(plan.examples[index].tokens) for batch in preflight._typical(plan) for index in batch)
    assert preflight._probe(state, SETTINGS, plan) == (tokens / (3 * 2), tokens / (3 * 5))


def test_batches_of_all_sizes_are_probed() -> None:
    plan = _planned(60)
    sizes = [sum(len(plan.examples[index].tokens) for index in batch) for batch in plan.batches]
    probed = [sum(len(plan.examples[index].tokens) for index in batch) for batch in preflight._typical(plan)]
    assert probed == sorted(probed)
    assert min(sizes) <= probed[0] < probed[2] <= max(sizes)
    assert sum(probed) / 3 == pytest.approx(sum(sizes) / len(sizes), rel=0.15)


def test_a_price_follows_from_time_and_devices(state: trainable.State) -> None:
    dear = SETTINGS.model_copy(update={"budget": Budget(price_per_hour=3600.0), "processes": 2})
    found = preflight.estimate(state, dear, _planned(), "tiny")
    assert found.price == pytest.approx(2 * found.seconds, rel=0.05, abs=0.2)


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ({"minutes": 1.0}, "minutes 3 of 1"),
        ({"memory_gib": 1.0}, "memory_gib 2 of 1"),
        ({"disk_gib": 2.0}, "disk_gib 3 of 2"),
        ({"price": 0.5}, "price 3 of 0.5"),
    ],
)
def test_what_is_over_the_budget_is_refused_with_the_numbers(budget: dict[str, float], words: str) -> None:
    found = preflight.Estimate(steps=1, tokens=1, seconds=60, memory_mib=2048, disk_mib=1024, price=1)
    preflight.check(found, Budget(**dict.fromkeys(budget, 9.0)), members=3)
    with pytest.raises(BudgetError, match=f"{words}.* Nothing was started"):
        preflight.check(found, Budget(**budget), members=3)


def test_the_frozen_layers_of_an_ensemble_is_paid_for_once() -> None:
    found = preflight.Estimate(1, 1, seconds=60, memory_mib=1, disk_mib=1, price=1.0, frozen_seconds=48)
    preflight.check(found, Budget(minutes=1.81, price=1.81), members=5)  # 48 + 5 * 12 seconds
    with pytest.raises(BudgetError, match=r"minutes 1\.8 of 1\.79, price 1\.8 of 1\.79"):
        preflight.check(found, Budget(minutes=1.79, price=1.79), members=5)


@pytest.mark.usefixtures("mlflow")
def test_an_ensemble_is_held_against_its_budget_once(training: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later members go on: what was trained for the first would be lost."""
    asked: list[tuple[int, bool]] = []
    monkeypatch.setattr(preflight, "check", lambda found, budget, members: asked.append((members, found.seconds > 0)))
    finetune(**training(members=3))
    assert asked == [(3, False), (3, True)]  # memory and disk before the probe, time after it


@pytest.mark.usefixtures("mlflow")
def test_a_run_over_its_budget_makes_no_step_and_leaves_nothing(
    training: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for what in (loop, "run"), (loop, "step"):  # not even one of the probe
        monkeypatch.setattr(*what, lambda *_: pytest.fail("a step was made"))
    with pytest.raises(BudgetError, match="memory_gib"):
        finetune(**training(budget={"memory_gib": 0.1}))
    assert objects.find(f"{objects.store_uri()}/tiny/adapter/*/*") == []


def test_a_gpu_that_is_too_small_is_seen_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = preflight.Estimate(
        steps=1, tokens=1, seconds=0, memory_mib=preflight.PROCESS_MIB + 3072, disk_mib=0, price=0
    )
    for free in (None, 2049.0):
        monkeypatch.setattr(preflight.hardware, "free_mib", lambda free=free: free)
        preflight.check_device(needed, 1024)
    monkeypatch.setattr(preflight.hardware, "free_mib", lambda: 2000.0)
    with pytest.raises(
        BudgetError, match=r"would need 2.0 GiB beside the weights, the GPU has 2.0 GiB free\. Nothing was"
    ):
        preflight.check_device(needed, 1024)


def test_what_a_run_took_is_reported_per_thousand_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """All processes' time; on GPUs that of every device, too."""
    monkeypatch.setattr(preflight.processes, "total", lambda value: 2 * value)
    monkeypatch.setattr(preflight.processes, "count", lambda: 2)
    found = preflight.cost(500, {"seconds": 30.0, "cpu_seconds": 45.0})
    assert found["actual.seconds"] == 30 and found["actual.memory_mib"] > 0
    assert found["cpu_seconds_per_1000_records"] == 180
    assert "gpu_seconds_per_1000_records" not in found
    monkeypatch.setattr(preflight.hardware, "device_type", lambda: "cuda")
    monkeypatch.setattr(preflight.hardware, "peak_mib", lambda: 1.0)
    assert preflight.cost(500, {"seconds": 30.0, "cpu_seconds": 45.0})["gpu_seconds_per_1000_records"] == 120


@pytest.mark.usefixtures("mlflow")
def test_estimate_and_actual_stand_side_by_side(training: Make) -> None:
    ref = finetune(**training())
    for name in ("seconds", "memory_mib"):
        assert ref["meta"][f"estimated.{name}"] > 0 and ref["meta"][f"actual.{name}"] > 0
    assert ref["meta"]["cpu_seconds_per_1000_records"] > 0
    cheaper = finetune(**training(budget={"minutes": 60}))
    assert cheaper == ref  # a budget changes nothing about the result
    assert artifacts.fetch(ref)
