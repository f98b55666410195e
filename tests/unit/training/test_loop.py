"""Steps are the same however a batch is laid out and cut into parts; what goes wrong stops at once."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.config import Finetune
from llmops_tasks.errors import TrainingError
from llmops_tasks.models import loading
from llmops_tasks.training import loop, trainable
from llmops_tasks.training.examples import IGNORED, Example
from tests.support.examples import LENGTHS, numbered
from tests.support.tiny import VOCABULARY

PLAIN = Finetune(top_layers=1, batch_size=8, max_length=64, learning_rate=0.01, precision="fp32")
# Of very different lengths; answers of one, two and three tokens.
Run = tuple[float, dict[str, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def state(tiny_model: Path) -> trainable.State:
    """The tiny model with LoRA matrices that are not zero, as after some training."""
    import torch

    torch.manual_seed(0)
    made = trainable.prepare(loading.load_model(tiny_model)[0], PLAIN, 32)
    with torch.no_grad():
        for value in made.trained.values():
            value.add_(torch.randn_like(value) * 0.02)
    return made


def _step(state: trainable.State, settings: Finetune, hidden: list[Any] | None = None, cut: int = 0) -> Run:
    """Loss, gradients and weights of one step on a copy."""
    own = trainable.State(copy.deepcopy(state.model), {}, None, cut, settings.precision == "bf16", settings.accumulate)
    import torch

    own.trained = {name: value for name, value in own.model.named_parameters() if value.requires_grad}
    own.optimizer = torch.optim.AdamW(own.trained.values(), lr=settings.learning_rate, weight_decay=0.0)
    loss = loop.step(own, settings, 0, 10, numbered(), hidden)
    gradients = {name: value.grad.clone() for name, value in own.trained.items() if value.grad is not None}
    return loss, gradients, {name: value.detach().clone() for name, value in own.trained.items()}


def _largest(one: dict[str, Any], two: dict[str, Any]) -> float:
    assert set(one) == set(two) != set()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


def _hidden(state: trainable.State, cut: int) -> list[Any]:
    import torch

    from llmops_tasks.models import layers

    decoder = state.base.model
    with torch.inference_mode():
        rows = [decoder.embed_tokens(torch.tensor([example.tokens])) for example in numbered()]
        return [layers.run_layers(decoder, row, decoder.layers[:cut])[0].clone() for row in rows]


@pytest.mark.parametrize(
    "change",
    [{"packing": True}, {"packing": True, "max_length": 41}, {"accumulate": 3}, {"accumulate": 8}, {"recompute": True}],
)
@pytest.mark.parametrize("cut", [0, 1])
def test_layout_parts_and_recomputing_change_neither_loss_nor_gradient(
    state: trainable.State, change: dict[str, Any], cut: int
) -> None:
    hidden = _hidden(state, cut) if cut else None
    loss, gradients, _ = _step(state, PLAIN, hidden, cut)
    other, others, _ = _step(state, PLAIN.model_copy(update=change), hidden, cut)
    assert other == pytest.approx(loss, abs=1e-5)
    assert _largest(gradients, others) < 1e-4
    assert max(float(value.abs().max()) for value in gradients.values()) > 1e-3  # there is something to compare


def test_a_kept_frozen_layers_changes_neither_loss_nor_gradient(state: trainable.State) -> None:
    loss, gradients, _ = _step(state, PLAIN)
    other, others, _ = _step(state, PLAIN, _hidden(state, 1), 1)
    assert other == pytest.approx(loss, abs=1e-5)
    assert _largest(gradients, others) < 1e-4


def test_without_a_kept_frozen_layers_records_go_through_all_layers(state: trainable.State) -> None:
    """As the model itself computes them, also where some layers are not trained."""
    import torch

    assert state.cut == 1
    found = loop.record_losses(state, PLAIN.model_copy(update={"packing": True}), numbered())
    assert len(found) == len(LENGTHS)
    with torch.inference_mode():
        for loss, example in zip(found, numbered(), strict=True):
            logits = state.model(torch.tensor([example.tokens])).logits[0]
            own = torch.nn.functional.cross_entropy(logits, torch.tensor(example.labels), reduction="sum")
            assert loss == pytest.approx(float(own), abs=1e-4)
    answers = sum(label != IGNORED for example in numbered() for label in example.labels)
    assert loop.mean_loss(state, PLAIN, numbered(), None) == pytest.approx(sum(found) / answers, abs=1e-5)


@pytest.mark.parametrize("chunk", [1, 7 * VOCABULARY])
def test_logits_in_chunks_change_neither_loss_nor_gradient(
    state: trainable.State, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    """Never as many as there are answers are held at once."""
    import torch

    loss, gradients, _ = _step(state, PLAIN)
    monkeypatch.setattr(loop, "CHUNK", chunk)
    rows, whole = list[int](), torch.nn.functional.cross_entropy
    monkeypatch.setattr(torch.nn.functional, "cross_entropy", lambda logits, *a, **k: rows.append(len(logits)) or whole(logits, *a, **k))  # fmt: skip
    other, others, _ = _step(state, PLAIN)
    assert max(rows) == max(1, chunk // VOCABULARY) < sum(rows) / 2
    assert other == pytest.approx(loss, abs=1e-5)
    assert _largest(gradients, others) < 1e-4


def test_bf16_computes_nearly_the_same(state: trainable.State) -> None:
    loss, _, _ = _step(state, PLAIN)
    rounded, _, _ = _step(state, PLAIN.model_copy(update={"precision": "bf16"}))
    assert rounded != loss
    assert rounded == pytest.approx(loss, rel=0.02)


# ---------------------------------------------------------------- what goes wrong


def _weights(state: trainable.State) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in state.trained.items()}


@pytest.mark.parametrize("found", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_before_any_weight_changes(
    state: trainable.State, monkeypatch: pytest.MonkeyPatch, found: float
) -> None:
    before, whole = _weights(state), loop._loss
    monkeypatch.setattr(loop, "_loss", lambda *given: whole(*given) * found)
    with pytest.raises(TrainingError, match=r"Loss is (nan|inf) .* at step 4: training stopped, nothing is registered"):
        loop.step(state, PLAIN, 3, 10, numbered(), None)
    assert _largest(before, _weights(state)) == 0


def test_an_exploding_gradient_stops_before_any_weight_changes(state: trainable.State) -> None:
    before = _weights(state)
    tight = PLAIN.model_copy(update={"max_gradient": 1e-6})
    with pytest.raises(
        TrainingError, match=r"gradient's length .* at step 1, at most 1e-06 is allowed: training stopped"
    ):
        loop.step(state, tight, 0, 10, numbered(), None)
    assert _largest(before, _weights(state)) == 0


def test_a_batch_without_any_answer_stops(state: trainable.State) -> None:
    masked = [Example(example.tokens, [IGNORED] * len(example.labels)) for example in numbered()]
    with pytest.raises(TrainingError, match="No position carries loss at step 2"):
        loop.step(state, PLAIN, 1, 10, masked, None)


def _short_of_memory(monkeypatch: pytest.MonkeyPatch, most: int, kind: type[Exception], words: str) -> list[int]:
    """Memory is enough for so many records at once. Returns the sizes that were tried."""
    whole, tried = loop._loss, []

    def short(state: Any, settings: Any, examples: list[Example], hidden: Any) -> Any:
        tried.append(len(examples))
        if len(examples) > most:
            raise kind(words)
        return whole(state, settings, examples, hidden)

    monkeypatch.setattr(loop, "_loss", short)
    return tried


@pytest.mark.parametrize(
    ("kind", "words"), [(RuntimeError, "DefaultCPUAllocator: can't allocate memory: you tried ..."), (MemoryError, "")]
)
def test_when_memory_runs_out_batches_are_halved_once_and_it_is_said(
    state: trainable.State,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: type[Exception],
    words: str,
) -> None:
    loss, gradients, _ = _step(state, PLAIN)
    tried = _short_of_memory(monkeypatch, 4, kind, words)
    with caplog.at_level(logging.WARNING):
        other, others, _ = _step(state, PLAIN)
    assert tried == [8, 4, 4]
    assert "memory ran out at step 1: batches are computed in 2 parts from here on" in caplog.text
    assert other == pytest.approx(loss, abs=1e-5) and _largest(gradients, others) < 1e-4


def test_when_it_runs_out_again_the_error_says_what_to_do(
    state: trainable.State, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = _short_of_memory(monkeypatch, 3, MemoryError, "")
    with pytest.raises(TrainingError, match=r"Memory ran out at step 1, a batch of 8 in 2 parts\. Lower batch_size"):
        _step(state, PLAIN)
    assert tried == [8, 4]


def test_other_errors_are_not_taken_for_memory(state: trainable.State, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = _short_of_memory(monkeypatch, 0, RuntimeError, "shapes do not fit")
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        _step(state, PLAIN)
    assert tried == [8]
