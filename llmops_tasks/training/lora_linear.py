"""A linear layer with LoRA as one step: what LoRA adds goes into the product, not over its output once more.

peft multiplies by the scale and adds in passes of their own, forward and backward; at the widths of small models
they take a seventh of a training step (docs/log.md). Same formula, same weights, same files.
Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models".
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora.layer import Linear as PeftLinear

from llmops_tasks.models import onednn


class _Product(torch.autograd.Function):
    """states @ weight.T + bias + scale * (states @ down.T) @ up.T, over a frozen weight."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,  # (..., in)
        weight: torch.Tensor,  # (out, in)
        bias: torch.Tensor | None,  # (out,)
        down: torch.Tensor,  # (rank, in)
        up: torch.Tensor,  # (out, rank)
        scale: float,
    ) -> torch.Tensor:
        rows = states.flatten(0, -2)
        narrow = rows @ down.t()
        ctx.save_for_backward(rows, weight, down, up, narrow)
        ctx.scale = scale
        result = onednn.product(rows, weight, bias).addmm_(narrow, up.t(), alpha=scale)
        return result.view(*states.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        rows, weight, down, up, narrow = ctx.saved_tensors
        given = gradient.flatten(0, -2)
        to_narrow = (given @ up).mul_(ctx.scale)
        to_states = None
        if ctx.needs_input_grad[0]:
            to_states = onednn.product(given, weight.t()).addmm_(to_narrow, down).view(*gradient.shape[:-1], -1)
        return to_states, None, None, to_narrow.t() @ rows, (given.t() @ narrow).mul_(ctx.scale), None


class Linear(PeftLinear):  # type: ignore[misc]
    """peft's layer; where it does nothing but add LoRA to one of oneDNN's products, in one step."""

    def forward(self, x: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        """States (..., in) become (..., out)."""
        base = self.base_layer
        if args or kwargs or not self._only_adds() or not onednn.fits(x, base.weight):
            return super().forward(x, *args, **kwargs)  # type: ignore[no-any-return]
        (name,) = self.active_adapters
        down, up = self.lora_A[name].weight, self.lora_B[name].weight
        return _Product.apply(x, base.weight, base.bias, down, up, self.scaling[name])  # type: ignore[no-any-return, no-untyped-call]

    def _only_adds(self) -> bool:
        """One adapter, switched on, not merged, without dropout, of the plain kind, over a frozen weight?"""
        names = self.active_adapters
        return (
            len(names) == 1
            and names[0] in self.lora_A
            and not (self.disable_adapters or self.merged or self.base_layer.weight.requires_grad)
            and isinstance(self.lora_dropout[names[0]], torch.nn.Identity)
            and self.lora_bias[names[0]] is False
            and names[0] not in self.lora_variant
        )
