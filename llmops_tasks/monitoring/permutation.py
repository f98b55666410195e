"""Is an effect larger than chance? Patients change sides at random, and the effect is looked at again.

Sequential: as soon as ENOUGH random sides showed as much, the effect is known to be nothing special; else as many are
drawn as the asked-for probability takes. Sources: Besag & Clifford 1991, "Sequential Monte Carlo p-values"; Phipson &
Smyth 2010 (no p-value is zero); Lin 1991 (Jensen-Shannon divergence).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SEED = 4242
ENOUGH = 20
CHUNK = 1 << 22  # numbers held at once


def test(counts: Any, days: NDArray[np.bool_], effect: Callable[..., Any], alpha: float) -> tuple[float, float]:
    """The effect between the two sides, and the probability of one as large by chance.

    Args:
        counts: (groups, cells), sparse.
        days: (groups,): those of the day; the others are the reference.
        effect: of two tables of counts, each (samples, cells): one number a sample.
        alpha: what the probability will be held against: ten times as many samples are drawn at most.
    """
    import numpy as np

    rng, total = np.random.default_rng(SEED), np.asarray(counts.sum(axis=0)).ravel()[None, :]
    new = np.asarray(days.astype(np.float32) @ counts)[None, :]
    value = float(effect(total - new, new)[0])
    most, size = math.ceil(10 / alpha), max(1, min(500, CHUNK // len(days)))
    drawn = larger = 0
    while drawn < most and larger < ENOUGH:
        sides = _sides(rng, len(days), int(days.sum()), min(size, most - drawn))
        sampled = np.asarray(sides @ counts)
        larger += int((effect(total - sampled, sampled) >= value - 1e-12).sum())
        drawn += len(sides)
    return value, (larger + 1) / (drawn + 1)


def _sides(rng: Any, groups: int, chosen: int, samples: int) -> Any:
    """Random sides (samples, groups): 1 for the `chosen` that are the day."""
    import numpy as np

    keys = rng.random((samples, groups), dtype=np.float32)
    sides = np.zeros((samples, groups), dtype=np.float32)
    places = np.argpartition(keys, chosen - 1, axis=1)[:, :chosen]
    np.put_along_axis(sides, places, 1.0, axis=1)
    return sides


def psi(old: Any, new: Any) -> Any:
    """Population stability index, one a row of counts: sum of (q - p) ln(q / p), smoothed by half a row."""
    import numpy as np

    p, q = ((counts + 0.5) / (counts.sum(axis=1, keepdims=True) + 0.5 * counts.shape[1]) for counts in (old, new))
    return np.sum((q - p) * np.log(q / p), axis=1)


def js(old: Any, new: Any) -> Any:
    """Jensen-Shannon divergence, one a row of counts, in bits: 0 alike, 1 nothing in common."""
    import numpy as np

    p, q = (counts / np.maximum(counts.sum(axis=1, keepdims=True), 1) for counts in (old, new))
    middle = np.maximum((p + q) / 2, 1e-30)
    parts = (side * np.log2(np.maximum(side, 1e-30) / middle) for side in (p, q))
    return sum(np.sum(part, axis=1) / 2 for part in parts)
