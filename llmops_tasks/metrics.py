"""Metrics on an ordered scale, and ratios, with bootstrap intervals. The former follow from confusion counts.

Kappa: Cohen 1968, with quadratic weights. Intervals: percentile bootstrap over records (Efron 1979).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmops_tasks.contracts import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Counts = NDArray[np.float64]  # (resamples, truth, predicted)
    Codes = NDArray[np.int64]  # (records,) positions on the scale, 0 = most urgent
    Figures = NDArray[np.float64]  # (resamples,)

SEED = 20_260_101


def resampled_counts(truth: Codes, predicted: Codes, labels: int, resamples: int) -> Counts:
    """Confusion counts of the sample itself (row 0) and of `resamples` bootstrap samples.

    The same records are drawn for the same n, so that two models' figures are paired.
    """
    import numpy as np

    draws = _draws(len(truth), resamples)
    cells = (truth * labels + predicted)[draws] + (np.arange(resamples + 1) * labels * labels)[:, None]
    flat = np.bincount(cells.ravel(), minlength=(resamples + 1) * labels * labels)
    return flat.reshape(resamples + 1, labels, labels).astype(float)


def _draws(n: int, resamples: int) -> Codes:
    """Which records are in each sample, one sample a row: the sample itself, then the bootstrap's."""
    import numpy as np

    return np.vstack([np.arange(n), np.random.default_rng(SEED).integers(0, n, (resamples, n))])


def ratios(parts: list[float], wholes: list[float], resamples: int) -> Figures:
    """Sum of `parts` over sum of `wholes` (both one a record), for the sample itself and each bootstrap sample."""
    import numpy as np

    draws = _draws(len(parts), resamples)
    result: Figures = np.asarray(parts)[draws].sum(axis=1) / np.asarray(wholes)[draws].sum(axis=1)
    return result


def figures(counts: Counts, severe: list[int]) -> dict[str, Figures]:
    """Every metric for every resample.

    accuracy, macro_f1 (over labels that occur), quadratic_kappa; under_triage_rate: share predicted as less
    urgent than the truth; severe_under_triage_rate: the same among truly severe records; over_triage_rate.
    """
    import numpy as np

    labels = counts.shape[1]
    total = counts.sum(axis=(1, 2))
    row, column = np.indices((labels, labels))
    truth, predicted = counts.sum(axis=2), counts.sum(axis=1)
    hits = np.diagonal(counts, axis1=1, axis2=2)
    f1 = 2 * hits / np.maximum(truth + predicted, 1e-12)
    occurs = truth + predicted > 0
    result = {
        "accuracy": hits.sum(axis=1) / total,
        "macro_f1": np.where(occurs, f1, 0).sum(axis=1) / occurs.sum(axis=1),
        "quadratic_kappa": _kappa(counts, (row - column) ** 2),
        "under_triage_rate": counts[:, column > row].sum(axis=1) / total,
        "over_triage_rate": counts[:, column < row].sum(axis=1) / total,
    }
    if severe:
        part = counts[:, severe, :]
        below = (column > row)[severe, :]
        result["severe_under_triage_rate"] = part[:, below].sum(axis=1) / np.maximum(part.sum(axis=(1, 2)), 1)
    return result


def _kappa(counts: Counts, weights: NDArray[np.int64]) -> Figures:
    import numpy as np

    total = counts.sum(axis=(1, 2))
    expected = counts.sum(axis=2)[:, :, None] * counts.sum(axis=1)[:, None, :] / total[:, None, None]
    disagreement, chance = (weights * counts).sum(axis=(1, 2)), (weights * expected).sum(axis=(1, 2))
    result: Figures = np.where(chance > 0, 1 - disagreement / np.maximum(chance, 1e-12), 0.0)
    return result


def interval(values: Figures, confidence: float) -> Interval:
    """The figure (row 0) with the percentile interval of its resamples."""
    import numpy as np

    tail = (1 - confidence) / 2
    low, high = np.quantile(values[1:], [tail, 1 - tail])
    return {"value": round(float(values[0]), 6), "low": round(float(low), 6), "high": round(float(high), 6)}
