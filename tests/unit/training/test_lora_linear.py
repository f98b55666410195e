"""LoRA in one step is peft's LoRA: results, gradients, and everything that peft does beside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import Linear as PeftLinear

from llmops_tasks.config import Finetune
from llmops_tasks.models import loading, onednn
from llmops_tasks.training import lora_linear, trainable


class Model(torch.nn.Module):
    """Two layers with something between them."""

    def __init__(self, bias: bool) -> None:
        super().__init__()
        self.up, self.down = torch.nn.Linear(96, 160, bias=bias), torch.nn.Linear(160, 96, bias=bias)

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """States (..., 96) stay that wide."""
        result: torch.Tensor = self.down(torch.nn.functional.silu(self.up(states)))
        return result


def _model(ours: bool, bias: bool = True, dropout: float = 0.0, adapters: int = 1) -> PeftModel:
    """Of the same weights every time; LoRA matrices are not zero, as after some training."""
    torch.manual_seed(0)
    model, settings = Model(bias), LoraConfig(r=4, lora_alpha=12, lora_dropout=dropout, target_modules=["up", "down"])
    if ours:
        onednn.use(model)
        settings._register_custom_module({onednn.Linear: lora_linear.Linear})
    made = get_peft_model(model, settings)
    for number in range(1, adapters):
        made.add_adapter(f"other{number}", settings)
    made.base_model.set_adapter([*made.peft_config])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in sorted(made.named_parameters()):
            if "lora" in name:
                value.copy_(torch.randn(value.shape, generator=generator) * 0.2)
    return made


def _states(shape: tuple[int, ...] = (3, 37)) -> torch.Tensor:
    return torch.randn(*shape, 96, generator=torch.Generator().manual_seed(2))


def _run(model: PeftModel, states: torch.Tensor) -> dict[str, Any]:
    own = states.clone().requires_grad_()
    torch.manual_seed(3)  # of dropout
    result = model(own)
    (result**2).sum().backward()
    found = {name: value.grad for name, value in model.named_parameters() if value.requires_grad}
    return {"result": result.detach(), "states": own.grad, **found}


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """An entry for every layer that took the one step."""
    found: list[int] = []
    real = lora_linear._Product.apply

    def noted(*given: Any) -> torch.Tensor:
        found.append(1)
        return real(*given)  # type: ignore[no-any-return]

    monkeypatch.setattr(lora_linear._Product, "apply", noted)
    return found


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(3, 37), (111,)])
def test_results_and_gradients_are_those_of_peft(shape: tuple[int, ...], bias: bool, steps: list[int]) -> None:
    expected, found = (_run(_model(ours, bias), _states(shape)) for ours in (False, True))
    assert len(steps) == 2 and set(expected) == set(found) and len(found) == 6
    for name, value in expected.items():
        assert (value - found[name]).abs().max() < 1e-4 * value.abs().max(), name


def test_states_that_need_no_gradient_get_none(steps: list[int]) -> None:
    model = _model(ours=True)
    model(_states()).sum().backward()
    assert len(steps) == 2 and all(v.grad is not None for n, v in model.named_parameters() if "lora" in n)


@pytest.mark.parametrize("case", ["dropout", "two adapters", "switched off", "merged", "small", "bf16"])
def test_whatever_is_more_than_adding_is_left_to_peft(case: str, steps: list[int]) -> None:
    results = []
    for ours in (False, True):
        model = _model(
            ours, dropout=0.5 if case == "dropout" else 0.0, adapters=2 if case == "two adapters" else 1
        ).train()
        if case == "merged":
            model.merge_adapter()
        if case == "switched off":
            model.base_model.disable_adapter_layers()
        with torch.autocast("cpu", torch.bfloat16, enabled=case == "bf16"):
            torch.manual_seed(3)
            results.append(model(_states((1, 2) if case == "small" else (3, 37))))
    assert steps == []
    assert (results[0] - results[1]).abs().max() < 1e-4 * results[0].abs().max()


def test_it_is_what_models_are_trained_with(tiny_model: Path) -> None:
    model = loading.load_model(tiny_model)[0]
    state = trainable.prepare(model, Finetune(top_layers=1), 32)
    below, above = state.base.model.layers
    assert type(below.mlp.up_proj) is onednn.Linear and type(above.mlp.up_proj) is lora_linear.Linear
    assert type(above.mlp.up_proj.lora_A["default"]) is torch.nn.Linear
    plain = [layer for layer in trainable.prepare(loading.load_model(tiny_model, four_bits=True)[0], Finetune(method="qlora", top_layers=1), 32).base.modules() if isinstance(layer, lora_linear.Linear)]  # fmt: skip
    assert plain == []


def test_an_adapter_goes_to_peft_and_back(tmp_path: Path) -> None:
    """Files know nothing of who trained them."""
    ours = _model(ours=True)
    ours.save_pretrained(tmp_path)
    torch.manual_seed(0)
    theirs = PeftModel.from_pretrained(Model(bias=True), tmp_path)
    assert type(theirs.base_model.model.up) is PeftLinear
    expected, found = theirs(_states()), ours(_states())
    assert (expected - found).abs().max() < 1e-4 * expected.abs().max()
    merged = ours.merge_and_unload(safe_merge=True)(_states())
    assert (expected - merged).abs().max() < 1e-4 * expected.abs().max()
