"""The same answers and gradients on a GPU as on the CPU. Run by `make gpu` where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.config import Finetune
from llmops_tasks.config.decoding import Decoding
from llmops_tasks.models import hardware, loading, varlen
from llmops_tasks.models.local import LocalModel
from llmops_tasks.training import loop, trainable
from tests.support.examples import numbered

pytestmark = pytest.mark.gpu
PROMPTS = ["Note: pain\nPriority:", "Note: crushing chest pain, sweating\nPriority:", "Note: refill\nPriority:"]
ANSWERS = [" resuscitation", " emergent", " urgent", " less urgent", " less"]


@pytest.fixture
def cpu() -> Iterator[pytest.MonkeyPatch]:
    """As if there was no GPU."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(hardware, "device_type", lambda: "cpu")
        yield patch


def test_there_is_a_gpu() -> None:
    assert hardware.device_type() in ("cuda", "mps"), "these tests need a GPU: run them on a machine that has one"


@pytest.mark.parametrize(("number_format", "near"), [("fp32", 1e-3), ("bf16", 0.05), ("fp16", 0.02)])
def test_scores_are_those_of_the_cpu(
    tiny_model: Path, cpu: pytest.MonkeyPatch, number_format: str, near: float
) -> None:
    whole = LocalModel(tiny_model).scores(PROMPTS, ANSWERS, 2)
    cpu.undo()
    model = LocalModel(tiny_model, number_format=number_format)
    assert model._model.device.type == hardware.device_type()
    for row, other in zip(model.scores(PROMPTS, ANSWERS, 2), whole, strict=True):
        assert row == pytest.approx(other, abs=near)


def test_texts_are_those_of_the_cpu(tiny_model: Path, cpu: pytest.MonkeyPatch) -> None:
    wanted = Decoding(max_new_tokens=12)
    whole = [answer.text for answer in LocalModel(tiny_model).generate(PROMPTS, wanted, 2)]
    cpu.undo()
    assert [answer.text for answer in LocalModel(tiny_model).generate(PROMPTS, wanted, 2)] == whole


def _gradients(folder: Path, **settings: Any) -> tuple[float, Any, bool]:
    import torch

    asked = Finetune.model_validate({"top_layers": 2, "batch_size": 8, "max_length": 64, **settings})
    torch.manual_seed(0)
    state = trainable.prepare(trainable.load(folder, asked)[0], asked, 64)
    with torch.no_grad():
        for name, value in sorted(state.trained.items()):
            value.copy_(torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name))) * 0.02)
    loss = loop._gradients(state, asked, 0, numbered(), None)
    return loss, torch.cat([state.trained[name].grad.flatten().cpu() for name in sorted(state.trained)]), state.varlen


@pytest.mark.parametrize("kind", [{}, {"packing": True}, {"recompute": True}, {"method": "qlora"}], ids=str)
def test_gradients_in_bf16_are_near_those_of_the_cpu_in_fp32(
    tiny_model: Path, cpu: pytest.MonkeyPatch, kind: dict[str, Any]
) -> None:
    loss, gradients, _ = _gradients(tiny_model, precision="fp32", **kind)
    cpu.undo()
    other, others, by_bounds = _gradients(tiny_model, precision="bf16", **kind)
    assert by_bounds == ("packing" in kind and hardware.device_type() == "cuda")
    assert other == pytest.approx(loss, rel=0.03)
    assert (gradients - others).norm() < 0.1 * gradients.norm()


def test_variable_length_attention_is_that_by_the_mask(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss, gradients, used = _gradients(tiny_model, precision="bf16", packing=True)
    monkeypatch.setattr(varlen, "usable", lambda model: False)
    other, others, _ = _gradients(tiny_model, precision="bf16", packing=True)
    assert used and other == pytest.approx(loss, rel=0.01)
    assert (gradients - others).norm() < 0.05 * gradients.norm()


def test_a_batch_that_does_not_fit_is_halved(tiny_model: Path) -> None:
    import torch

    settings = Finetune(batch_size=64, top_layers=1, precision="bf16", max_length=64)
    state = trainable.prepare(trainable.load(tiny_model, settings)[0], settings, 64)
    torch.cuda.set_per_process_memory_fraction(
        (torch.cuda.memory_allocated() + 8 * 2**20) / torch.cuda.get_device_properties(0).total_memory
    )
    try:
        loop.step(state, settings, 0, 2, [example for example in numbered() * 8][:64], None)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert state.parts > 1


def test_weights_go_straight_to_the_device(tiny_model: Path) -> None:
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model, _ = loading.load_model(tiny_model, "bf16")
    assert {value.device.type for value in model.parameters()} == {hardware.device_type()}
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024
