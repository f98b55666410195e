"""Products by oneDNN are those of torch, to fp32's last digits, and the same bits every time."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from llmops_tasks.models import onednn

ROWS, IN, OUT = (3, 37), 192, 160  # 3.4 million multiplications


def _layers(bias: bool = True) -> tuple[torch.nn.Linear, torch.nn.Linear]:
    """One of torch, and the same by oneDNN."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(IN, OUT, bias=bias))
    ours = copy.deepcopy(model)
    onednn.use(ours)
    return model[0], ours[0]  # type: ignore[return-value]


def _run(layer: torch.nn.Linear, states: torch.Tensor, weights: torch.Tensor) -> dict[str, Any]:
    """The result, and all gradients of a weighted sum over it."""
    layer.zero_grad()
    own = states.clone().requires_grad_()
    result = layer(own)
    (result * weights).sum().backward()
    return {"result": result, "states": own.grad, **{name: value.grad for name, value in layer.named_parameters()}}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of what oneDNN was asked to multiply."""
    found: list[tuple[int, ...]] = []
    real = onednn.product

    def noted(states: torch.Tensor, *rest: Any) -> torch.Tensor:
        found.append(tuple(states.shape))
        return real(states, *rest)

    monkeypatch.setattr(onednn, "product", noted)
    return found


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [ROWS, (111,), (3, 1, 37)])
def test_results_and_gradients_are_those_of_torch(
    bias: bool, shape: tuple[int, ...], calls: list[tuple[int, ...]]
) -> None:
    torchs, ours = _layers(bias)
    states, weights = torch.randn(*shape, IN), torch.randn(*shape, OUT)
    expected, found = _run(torchs, states, weights), _run(ours, states, weights)
    assert len(calls) == 3 and set(expected) == set(found)  # forward, to the states, to the weight
    for name, value in expected.items():
        assert value.shape == found[name].shape
        assert (value - found[name]).abs().max() < 1e-4 * value.abs().max(), name


def test_it_multiplies_in_fp32_and_not_in_less() -> None:
    states, weight = torch.randn(200, 512), torch.randn(300, 512)
    exact = states.double() @ weight.double().t()
    wrong = lambda result: float((result - exact).abs().max() / exact.abs().max())  # noqa: E731
    assert wrong(onednn.product(states, weight)) < 5e-6
    assert wrong(states.bfloat16() @ weight.bfloat16().t()) > 1e-3  # what bf16 would look like


def test_gradients_of_any_layout_are_taken() -> None:
    """Transposed and expanded ones, as a sum and an attention hand them back."""
    torchs, ours = _layers()
    states = torch.randn(*ROWS, IN)
    for last in (lambda result: result.sum(), lambda result: (result.transpose(0, 1).contiguous() ** 2).sum()):
        gradients = []
        for layer in (torchs, ours):
            own = states.clone().requires_grad_()
            last(layer(own)).backward()
            gradients.append(own.grad)
        assert (gradients[0] - gradients[1]).abs().max() < 1e-4 * gradients[0].abs().max()


def test_the_same_product_has_the_same_bits_wherever_it_lies_in_memory() -> None:
    """What an exact resume rests on."""
    states, weight = torch.randn(111, IN), torch.randn(OUT, IN)
    first = onednn.product(states, weight)
    for offset in range(1, 40):
        moved = torch.empty(states.numel() + offset)[offset:].view_as(states).copy_(states)
        assert torch.equal(onednn.product(moved, weight), first)


def test_a_weight_that_is_trained_is_read_anew_every_time() -> None:
    _, layer = _layers(bias=False)
    states = torch.randn(*ROWS, IN)
    before = layer(states)
    with torch.no_grad():
        layer.weight.mul_(2)
    assert torch.equal(layer(states), before * 2)


def test_what_is_not_for_onednn_goes_the_way_of_torch(calls: list[tuple[int, ...]]) -> None:
    torchs, ours = _layers()
    few, many = torch.randn(1, IN), torch.randn(*ROWS, IN)
    assert torch.equal(ours(few), torchs(few))
    assert torch.equal(ours.double()(many.double()), torchs.double()(many.double()))
    ours.float(), torchs.float()
    with torch.autocast("cpu", torch.bfloat16):
        assert ours(many).dtype == torch.bfloat16
        assert torch.equal(ours(many), torchs(many))
    assert calls == []
    ours(many)
    assert calls == [(*ROWS, IN)]


def test_only_plain_layers_are_turned_and_their_weights_stay() -> None:
    class Own(torch.nn.Linear):
        """Of a kind that multiplies in its own way."""

    model = torch.nn.Sequential(torch.nn.Linear(4, 4), Own(4, 4), torch.nn.LayerNorm(4))
    before = dict(model.named_parameters())
    onednn.use(model)
    assert [type(layer) for layer in model] == [onednn.Linear, Own, torch.nn.LayerNorm]
    assert {name: id(value) for name, value in model.named_parameters()} == {n: id(v) for n, v in before.items()}


def test_states_are_kept_only_for_a_weight_that_is_trained() -> None:
    _, layer = _layers(bias=False)
    states = torch.randn(*ROWS, IN, requires_grad=True)
    assert layer(states).grad_fn.saved_tensors[0] is not None
    layer.weight.requires_grad_(False)
    assert layer(states).grad_fn.saved_tensors[0] is None
