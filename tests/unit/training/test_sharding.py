"""Weights that are split over processes learn what whole ones do, and are written, kept and read whole."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmops_tasks.errors import ConfigError, LLMOpsError
from llmops_tasks.store import artifacts, objects
from llmops_tasks.training import finetuning
from llmops_tasks.training.finetuning import finetune
from tests.support.waiting import ends_after_four_steps

pytestmark = pytest.mark.usefixtures("mlflow")
Make = Callable[..., dict[str, Any]]
FILES = {"lora": "adapter_model.safetensors", "full": "model.safetensors"}


def _losses(ref: Any) -> list[float]:
    found: list[float] = objects.read_json(f"{ref['uri']}/training.json")["losses"]
    return found


def _shapes(ref: Any, name: str) -> dict[str, tuple[int, ...]]:
    from safetensors.torch import load_file

    return {name: tuple(value.shape) for name, value in load_file(artifacts.fetch(ref) / name).items()}


@pytest.mark.parametrize("method", FILES)
def test_two_processes_with_half_the_weights_do_what_one_does(training: Make, method: str) -> None:
    """Records are of different lengths, and of the five of a batch one process has three, the other two."""
    given = {"method": method, "batch_size": 5, "accumulate": 2, "dropout": 0.0, "learning_rate": 0.001}
    one = finetune(**training(**given))
    two = finetune(**training(**given, processes=2, sharded=True))
    assert _losses(two)[0] == pytest.approx(_losses(one)[0], abs=1e-5)
    assert _losses(two) == pytest.approx(
        _losses(one), abs=2e-3
    )  # additions in another order, and AdamW divides by small numbers
    assert two["meta"]["held_out_loss"] == pytest.approx(one["meta"]["held_out_loss"], abs=2e-3)
    assert _shapes(two, FILES[method]) == _shapes(one, FILES[method])


def test_a_checkpoint_of_split_weights_is_gone_on_from(training: Make) -> None:
    given = {"dropout": 0.0, "processes": 2, "sharded": True}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMOPS_STORE", f"{objects.store_uri()}-undisturbed")
        whole = finetune(**training(**given))
    with pytest.raises(LLMOpsError, match="training processes was lost"):
        _cut(training(**given))
    again = finetune(**training(**given))
    assert again["meta"]["resumed_after"] == 4
    assert _losses(again) == pytest.approx(_losses(whole), abs=1e-6)


def _cut(arguments: dict[str, Any]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetuning, "_train_member", ends_after_four_steps)
        finetuning.finetune(**arguments)


@pytest.mark.parametrize(
    "wrong", [{"processes": 1}, {"processes": 2, "method": "qlora"}, {"processes": 2, "packing": True}]
)
def test_what_cannot_be_split_is_refused(training: Make, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="sharded splits"):
        finetune(**training(sharded=True, **wrong))
