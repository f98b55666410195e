"""Probabilities calibrated by one temperature, and how far they are from what happens.

Probabilities become p^(1/T), normalised: softmax of the log-probabilities divided by T, which moves no label from its
rank. T minimises the negative log-likelihood of given records; it is a point estimate, so it needs no groups.
Sources: Guo et al. 2017, "On Calibration of Modern Neural Networks" (temperature; expected calibration error after
Naeini et al. 2015). What this does not do: intervals, or a temperature for each label.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Codes = NDArray[np.int64]  # (records,): place of the true label

MIN_RECORDS = 30  # fewer say nothing about a temperature
BOUNDS = (0.05, 20.0)
BINS = 15  # of equal width, as in Guo et al.
_TINY = 1e-12  # what a probability of 0 counts as in a logarithm
Scores = list[list[float]]  # (records, labels), rows sum to 1


def scaled(scores: Scores, temperature: float) -> Scores:
    """The same rows at a temperature; at 1 they are not touched."""
    if temperature == 1 or not scores:
        return scores
    import numpy as np
    from scipy.special import softmax

    logs = np.log(np.maximum(np.asarray(scores), np.finfo(float).tiny))
    rows: Scores = softmax(logs / temperature, axis=1).tolist()
    return rows


def fit(scores: Scores, truth: Codes) -> tuple[float, str]:
    """The temperature of least negative log-likelihood, and why it stays 1 where nothing can be said.

    Args:
        scores: (records, labels), not calibrated.
        truth: (records,).

    Returns:
        The temperature and an empty text; or 1 and the reason.
    """
    from scipy.optimize import minimize_scalar

    if len(scores) < MIN_RECORDS:
        return 1.0, f"{len(scores)} records to calibrate on, {MIN_RECORDS} are needed"
    if len(set(map(int, truth))) < 2:
        return 1.0, "the records to calibrate on have one label"
    lowest, highest = map(math.log, BOUNDS)
    found = minimize_scalar(
        lambda log: nll(scaled(scores, math.exp(log)), truth), bounds=(lowest, highest), method="bounded"
    )
    if found.x < lowest + 0.01:
        return 1.0, "the lower the temperature the better, as where every answer is right"
    return round(math.exp(found.x), 4), ""


def nll(scores: Scores, truth: Codes) -> float:
    """Mean negative log-likelihood of the true labels (nats)."""
    return float(-_of_truth(scores, truth).mean())


def _of_truth(scores: Scores, truth: Codes) -> Any:
    import numpy as np

    return np.log(np.maximum(np.asarray(scores)[np.arange(len(truth)), truth], _TINY))


def ece(scores: Scores, truth: Codes) -> float:
    """Expected calibration error: the gap between the share of right answers and their mean score, in bins of the score,
    weighed by their records."""
    import numpy as np

    rows = np.asarray(scores)
    score, right = rows.max(axis=1), rows.argmax(axis=1) == truth
    bins = np.minimum((score * BINS).astype(int), BINS - 1)
    gaps = np.bincount(bins, weights=right - score, minlength=BINS)
    return float(np.abs(gaps).sum() / len(truth))


def figures(scores: Scores, truth: Codes, temperature: float) -> dict[str, float]:
    """Calibration error and negative log-likelihood before and after."""
    found = {"temperature": temperature}
    for name, rows in (("uncalibrated", scores), ("calibrated", scaled(scores, temperature))):
        found |= {f"ece_{name}": round(ece(rows, truth), 6), f"nll_{name}": round(nll(rows, truth), 6)}
    return found
