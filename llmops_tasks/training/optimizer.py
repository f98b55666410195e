"""The optimizer, and the learning rate at every step."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from llmops_tasks.config import Finetune

if TYPE_CHECKING:
    import torch


def make(parameters: Iterable[torch.Tensor], settings: Finetune) -> Any:
    """AdamW, fused. Checkpoints keep its two moments and the number of its steps.

    Source: Loshchilov and Hutter 2019, "Decoupled Weight Decay Regularization".
    """
    import torch

    return torch.optim.AdamW(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True)


def schedule(number: int, total: int, settings: Finetune) -> float:
    """Factor on the learning rate at a step (counted from 0): a linear rise over the warm-up share, then as
    `settings.schedule` says. Source of the cosine: Loshchilov and Hutter 2017, "SGDR"."""
    rise = max(1, round(total * settings.warmup))
    left = (total - number) / max(1, total - rise)  # 1 at the end of the warm-up
    if settings.schedule == "cosine":
        left = (1 - math.cos(math.pi * min(1.0, left))) / 2
    return min((number + 1) / rise, 1.0 if settings.schedule == "constant" else left)
