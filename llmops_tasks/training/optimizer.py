"""The optimizer, and the learning rate at every step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llmops_tasks.config import Finetune

if TYPE_CHECKING:
    import torch


def make(parameters: Iterable[torch.Tensor], settings: Finetune) -> Any:
    """AdamW without weight decay, fused. Checkpoints keep its two moments and the number of its steps.

    Source: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization".
    """
    import torch

    return torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=0.0, fused=True)


def schedule(number: int, total: int, warmup: float) -> float:
    """Factor on the learning rate: a linear rise over the warm-up share, then a linear fall to 0."""
    rise = max(1, round(total * warmup))
    return min((number + 1) / rise, (total - number) / max(1, total - rise))
