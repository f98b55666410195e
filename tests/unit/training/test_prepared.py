"""A run is made ready, or refused, before anything is spent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmops_tasks.errors import DataError, InputError, ModelError
from llmops_tasks.store import objects
from llmops_tasks.training import examples
from llmops_tasks.training.finetuning import finetune
from tests.unit.training.conftest import small_dataset

pytestmark = pytest.mark.usefixtures("mlflow")
Make = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("settings", [{"learning_rate": 2}, {"rang": 8}, {"method": "magic"}])
def test_settings_of_a_search_are_checked(training: Make, settings: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=f"settings are wrong at \\['{next(iter(settings))}'\\]"):
        finetune(**training(), settings=settings)


def test_settings_of_a_search_take_the_place_of_the_use_cases(training: Make) -> None:
    plain, other = finetune(**training()), finetune(**training(), settings={"rank": 4})
    same = finetune(**training(rank=4))
    assert other["sha256"] == same["sha256"] != plain["sha256"]


def test_labels_that_cannot_be_distinguished_stop_it_before_anything_is_spent(
    training: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(tokenizer: Any, answers: list[str]) -> None:
        raise ModelError(f"The label texts {answers[:2]} are the same tokens")

    monkeypatch.setattr(examples.tokens, "closed_set", refuse)
    with pytest.raises(ModelError, match="are the same tokens"):
        finetune(**training())
    assert objects.find(f"{objects.store_uri()}/tiny/activations/*/*") == []


def test_without_a_record_held_out_nothing_is_begun(training: Make) -> None:
    """Every trial of a search would be as good as every other."""
    with pytest.raises(DataError, match="No record is held out"):
        finetune(**training() | {"dataset": small_dataset(24, 0)})


@pytest.mark.parametrize("arguments", [{"control": "shuffled"}, {"max_steps": 0}, {"max_steps": -1}])
def test_arguments_that_make_no_sense_are_refused(training: Make, arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="Allowed"):
        finetune(**training(), **arguments)
