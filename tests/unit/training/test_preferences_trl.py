"""trl makes the steps that it is told to make, and is stopped where they are ill."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmops_tasks.config import Finetune
from llmops_tasks.errors import TrainingError
from llmops_tasks.store import objects
from llmops_tasks.training import preferences_trl
from llmops_tasks.training.examples import Pair
from llmops_tasks.training.preferences import tune_preferences
from llmops_tasks.training.preferences_trl import PairPlan, batch_size
from llmops_tasks.training.progress import Progress
from tests.support.corrections import collected

pytestmark = pytest.mark.usefixtures("mlflow")
Make = Callable[..., dict[str, Any]]
SETTINGS = {"learning_rate": 5e-3, "epochs": 3, "min_pairs": 10}


def _written(kind: str) -> list[str]:
    return objects.find(f"{objects.store_uri()}/tiny/{kind}/*/*")


def test_a_gradient_out_of_bounds_stops_at_once(training: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    given = training(start="champion", dropout=0.0, preferences=SETTINGS | {"beta": 1e12})
    monkeypatch.setattr(Progress, "after_step", lambda *_: pytest.fail("went on"))
    with pytest.raises(TrainingError, match=r"gradient's length .* at step 1, .* nothing is registered"):
        tune_preferences(usecase=given["usecase"], start=given["start"], pairs=collected(given["usecase"]))
    assert _written("adapter") == []


def test_a_step_takes_equal_parts_of_as_many_pairs_as_are_asked_for() -> None:
    sizes = [
        batch_size(Finetune(batch_size=size, accumulate=parts)) for size, parts in ((8, 1), (8, 4), (3, 2), (5, 4))
    ]
    assert sizes == [8, 8, 4, 8]


def test_both_answers_of_a_pair_cost_their_prompt() -> None:
    pairs = [Pair([1, 2, 3], [4], [5, 6]), Pair([1], [4, 5], [6])]
    pair_plan = PairPlan([pairs[:1], pairs], progress=None, probed=lambda _: None)  # type: ignore[arg-type]
    assert pair_plan.tokens() == [3 + 4, 3 + 4 + 2 + 1]


def test_when_memory_runs_out_the_error_says_what_to_do() -> None:
    class Trainer:
        def train(self) -> None:
            raise MemoryError

    with pytest.raises(TrainingError, match=r"with 8 pairs a step in 2 part\(s\)\. Lower batch_size"):
        preferences_trl._train(Trainer(), Finetune(batch_size=8, accumulate=2))
