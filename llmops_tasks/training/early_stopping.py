"""The held-out loss during training: the best weights are kept, and training stops when nothing improves any more.

The validation split is evaluated; the test split is never seen here. What was found goes into every checkpoint, so a
resumed run decides as an undisturbed one. Source: Prechelt 1998, "Early Stopping - But When?".
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmops_tasks.config import Finetune

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


@dataclass
class HeldOut:
    """Evaluations so far."""

    losses: list[tuple[int, float]] = field(default_factory=list)  # (steps made, nats per answer token)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)  # name -> parameter, at the smallest loss

    def best(self) -> tuple[int, float]:
        """(Steps made, loss) of the smallest loss; the earliest of equal ones."""
        return min(self.losses, key=lambda found: math.inf if math.isnan(found[1]) else found[1])

    def evaluate(self, settings: Finetune, made: int, trained: dict[str, torch.Tensor], measure: Callable[[], float]) -> bool:  # fmt: skip
        """Evaluate if it is time to.

        Args:
            settings: `evaluate_every` and `patience`.
            made: steps so far.
            trained: name -> parameter.
            measure: the held-out loss of these.

        Returns:
            Whether training is to stop.
        """
        if settings.evaluate_every is None or made % settings.evaluate_every:
            return False
        self.losses.append((made, measure()))
        best, loss = self.best()
        log.info("step %d: held-out loss %.4f, the smallest is %.4f after step %d", made, self.losses[-1][1], loss, best)  # fmt: skip
        if best == made:
            self.weights = {name: value.detach().clone() for name, value in trained.items()}
        return self.is_over(settings)

    def is_over(self, settings: Finetune) -> bool:
        """Whether nothing has improved for too long."""
        best, _ = self.best()
        return settings.patience is not None and sum(step > best for step, _ in self.losses) >= settings.patience

    def restore(self, trained: dict[str, torch.Tensor]) -> None:
        """Put the best weights back; without an evaluation the last ones stay."""
        import torch

        with torch.no_grad():
            for name, value in self.weights.items():
                trained[name].copy_(value)
