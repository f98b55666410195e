"""The best weights are kept, and training stops when the held-out loss no longer falls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmops_tasks.config import Finetune
from llmops_tasks.store import artifacts, objects
from llmops_tasks.training import prepared
from llmops_tasks.training.early_stopping import HeldOut
from llmops_tasks.training.finetuning import finetune
from llmops_tasks.training.progress import Progress

Make = Callable[..., dict[str, Any]]


def _run(losses: list[float], settings: Finetune) -> tuple[HeldOut, list[int], dict[str, Any]]:
    """Evaluations of weights that are the number of their step; where it would stop; the weights in the end."""
    import torch

    found, stops, trained = HeldOut(), list[int](), {"a": torch.zeros(1)}
    given = iter(losses)
    for made in range(1, 2 * len(losses) + 1):
        trained["a"].fill_(made)
        if found.evaluate(settings, made, trained, lambda: next(given)):
            stops.append(made)
    found.restore(trained)
    return found, stops, trained


def test_the_weights_of_the_smallest_loss_are_kept_the_first_of_equal_ones() -> None:
    found, stops, trained = _run([3.0, 2.0, 2.0, 2.5], Finetune(evaluate_every=2))
    assert found.losses == [(2, 3.0), (4, 2.0), (6, 2.0), (8, 2.5)] and found.best() == (4, 2.0)
    assert stops == [] and float(trained["a"]) == 4


def test_it_stops_after_so_many_evaluations_without_a_smaller_loss() -> None:
    _, stops, _ = _run([3.0, 2.0, 2.5, 1.9, 2.0, 2.0, 2.0], Finetune(evaluate_every=2, patience=2))
    assert stops == [12, 14]


def test_a_loss_that_is_no_number_is_never_the_best() -> None:
    found, _, trained = _run([float("nan"), 1.0, 0.5], Finetune(evaluate_every=2))
    assert found.best() == (6, 0.5) and float(trained["a"]) == 6


def test_without_evaluations_the_last_weights_stay() -> None:
    found, stops, trained = _run([1.0, 1.0], Finetune())
    assert (found.losses, stops, float(trained["a"])) == ([], [], 4.0)


@pytest.mark.usefixtures("mlflow")
def test_a_run_that_stops_early_is_that_of_its_best_step_also_after_a_kill(
    training: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The third of these losses is the smallest; two later ones end the run, wherever it was interrupted."""
    losses = {1: 3.0, 2: 2.0, 3: 1.0, 4: 1.5, 5: 1.2, 6: 0.1}
    from safetensors.torch import load_file

    third: dict[str, Any] = {}

    def measure(self: prepared.Prepared) -> float:
        if len(self.state.losses) == 3 and not third:
            third.update({name: value.detach().clone() for name, value in self.state.trained.items()})
        return losses[len(self.state.losses)]

    monkeypatch.setattr(prepared.Prepared, "held_out_loss", measure)
    arguments = training(evaluate_every=1, patience=2, checkpoint_every=4)
    whole = _elsewhere(arguments)
    assert (whole["meta"]["steps"], whole["meta"]["best_step"]) == (5, 3)
    assert len(objects.read_json(f"{whole['uri']}/training.json")["losses"]) == 5
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Progress, "after_step", _cut_after(4))
        with pytest.raises(KeyboardInterrupt):
            finetune(**arguments)
    again = finetune(**arguments)
    assert again["meta"]["resumed_after"] == 4
    assert again["sha256"] == whole["sha256"]
    kept = load_file(artifacts.fetch(whole) / "adapter_model.safetensors")
    assert sorted(float(value.norm()) for value in kept.values()) == sorted(float(v.norm()) for v in third.values())


def _elsewhere(arguments: dict[str, Any]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMOPS_STORE", f"{objects.store_uri()}-undisturbed")
        return finetune(**arguments)


def _cut_after(step: int) -> Callable[..., None]:
    whole = Progress.after_step

    def after(self: Progress, state: Any, made: int, speed: float, left: float) -> None:
        whole(self, state, made, speed, left)
        if made == step:
            state.writer.finish()
            raise KeyboardInterrupt

    return after
