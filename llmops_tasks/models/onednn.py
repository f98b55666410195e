"""Products of fp32 matrices on CPUs by oneDNN.

torch brings two libraries and sends linear layers to MKL, which leaves AVX-512 unused on AMD's processors; oneDNN is
2.2 times as fast there (ADR 0009). Both multiply and add in fp32: results differ in their last digits only.
Whatever else there is (another device, another precision, a small product) goes torch's way.
"""

from __future__ import annotations

from typing import Any

import torch

SMALL = 1_000_000  # multiplications; with fewer, the call costs more than is won


def product(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """States (..., in) by a weight (out, in), plus a bias (out,): (..., out). Knows no gradients."""
    return torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")  # type: ignore[no-any-return]


def fits(states: torch.Tensor, weight: torch.Tensor) -> bool:
    """Is the product one for oneDNN? The answer follows from shapes and types alone, so a rerun goes the same way."""
    return (
        states.dtype == weight.dtype == torch.float32
        and states.device.type == weight.device.type == "cpu"
        and states.numel() * weight.shape[0] >= SMALL
        and not torch.is_autocast_enabled("cpu")
    )


class _Product(torch.autograd.Function):
    """`product` with its gradients."""

    @staticmethod
    def forward(ctx: Any, states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(states if ctx.needs_input_grad[1] else None, weight)  # a frozen weight needs no states
        return product(states, weight, bias)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        states, weight = ctx.saved_tensors
        rows = gradient.flatten(0, -2)
        to_states, to_weight, to_bias = ctx.needs_input_grad
        return (
            product(gradient, weight.t()) if to_states else None,
            product(rows.t(), states.flatten(0, -2).t()) if to_weight else None,
            rows.sum(0) if to_bias else None,
        )


class Linear(torch.nn.Linear):
    """A linear layer that multiplies by oneDNN where that fits."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """States (..., in) become (..., out)."""
        if not fits(states, self.weight):
            return super().forward(states)
        if not torch.is_grad_enabled():
            return product(states, self.weight, self.bias)
        return _Product.apply(states, self.weight, self.bias)  # type: ignore[no-any-return, no-untyped-call]


def use(model: torch.nn.Module) -> None:
    """Turn a model's plain linear layers into these. Weights stay what and where they are."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return  # a torch that was built without oneDNN
    for layer in model.modules():
        if type(layer) is torch.nn.Linear:  # not a kind of its own, such as one with 4-bit weights
            layer.__class__ = Linear
