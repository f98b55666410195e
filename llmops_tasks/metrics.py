"""Metrics on an ordered scale, and ratios, with confidence intervals that account for several records per group.

Records of one group (for example a patient) are not independent, so groups are resampled, not records. Rates have Korn-Graubard intervals:
exact (Clopper-Pearson) on the effective number of records, also where nothing was missed. All other figures and paired
differences have expanded percentile bootstrap intervals. A figure whose denominator is empty is not measured: it is
left out, and never 0.

A record may be answered with no label: an abstention. It counts as wrong in accuracy, as a miss of its true label in
macro F1, and as far from every label as the scale is long in kappa; rates of under- and over-triage are of the answered
records alone, so that abstaining dilutes none. So no figure is improved by abstaining at random.

Sources: kappa: Cohen 1968, quadratic weights. Korn & Graubard 1998, "Confidence intervals for proportions with small
expected number of positive counts". Field & Welsh 2007, "Bootstrapping clustered data". Hesterberg 2015, "What Teachers
Should Know About the Bootstrap" (expanded intervals). El-Yaniv & Wiener 2010, "On the Foundations of Noise-free Selective
Classification" (coverage, and the risk among what is answered).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from llmops_tasks.contracts import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Codes = NDArray[np.int64]  # (records,) positions on the scale, 0 = most urgent; or numbers of groups
    Counts = NDArray[np.float64]  # (samples, truth, predicted); of `predicted` one more column than labels: abstained
    Figures = NDArray[np.float64]  # (samples,): the sample itself, then its resamples; NaN where not defined

SEED = 20_260_101
CHUNK = 1 << 22  # numbers held at once while counting and drawing
_DEFINED = 0.95  # share of resamples in which a figure must be defined


def measure(
    *, truth: Codes, predicted: Codes, groups: Sequence[Any], labels: list[str], severe: list[str], resamples: int,
    confidence: float, selective: bool = False,
) -> dict[str, Interval]:  # fmt: skip
    """Every figure that can be measured.

    Args:
        truth: (records,), positions in `labels`.
        predicted: (records,), likewise; the number of labels stands for an abstention.
        groups: (records,), whose record it is.
        labels: most urgent first.
        severe: those whose under-estimation is reported apart.
        resamples: of the bootstrap.
        confidence: of the two-sided intervals.
        selective: also how many are answered, and how many of these rightly.

    Returns:
        accuracy, macro_f1 (over labels that occur), quadratic_kappa; under_triage_rate: share predicted as less urgent
        than the truth; over_triage_rate; severe_under_triage_rate: the first among truly severe records, and
        under_triage_rate.<label> for each severe label. `coverage`: share that is answered; `selective_accuracy`: of these. `n` counts a figure's own denominator.
    """
    patterns, times = _patterns(truth, [predicted], groups, len(labels))
    found = figures(next(_resampled(patterns, times, 1, len(labels), resamples)))
    total = {"n": len(truth), "groups": int(times.sum())}
    result = {name: _interval(values, confidence, **total) for name, values in found.items()}
    result |= _rates(
        patterns, times, labels, severe, confidence, selective
    )  # a bootstrap is certain of what it never saw
    return {name: figure for name, figure in sorted(result.items()) if figure is not None}


def difference(
    *, truth: Codes, ours: Codes, theirs: Codes, groups: Sequence[Any], labels: list[str], metric: str, resamples: int,
    confidence: float,
) -> Interval | None:  # fmt: skip
    """`ours` minus `theirs` in a metric, on the same records: each resample draws the same groups for both."""
    patterns, times = _patterns(truth, [ours, theirs], groups, len(labels))
    one, other = (figures(counts)[metric] for counts in _resampled(patterns, times, 2, len(labels), resamples))
    return _interval(one - other, confidence, n=len(truth), groups=int(times.sum()))


def ratio(
    *, parts: list[float], wholes: list[float], groups: Sequence[Any], resamples: int, confidence: float
) -> Interval | None:
    """Sum of `parts` over sum of `wholes`, both one a record."""
    import numpy as np

    columns = np.stack([np.asarray(parts, dtype=float), np.asarray(wholes, dtype=float)], axis=1)
    found = of_sums(
        columns=columns,
        groups=groups,
        figures=lambda sums: {"ratio": sums[:, 0] / sums[:, 1]},
        resamples=resamples,
        confidence=confidence,
    )
    return found.get("ratio")


def of_sums(
    *, columns: Any, groups: Sequence[Any], figures: Callable[[Any], dict[str, Figures]], resamples: int,
    confidence: float,
) -> dict[str, Interval]:  # fmt: skip
    """Figures that follow from sums over records, with intervals; those that cannot be measured are left out.

    Args:
        columns: (records, columns), what each record adds to the sums.
        groups: (records,), whose record it is.
        figures: from sums (samples, columns) to each figure (samples,), NaN where it is not defined.
        resamples: of the bootstrap; all figures share its draws.
        confidence: of the two-sided intervals.
    """
    import numpy as np

    index = _numbered(groups)
    sums = np.stack([np.bincount(index, weights=column) for column in np.asarray(columns, dtype=float).T], axis=1)
    total = {"n": len(index), "groups": len(sums)}
    drawn = _sums(sums, np.ones(len(sums), dtype=np.int64), resamples)
    found = {name: _interval(values, confidence, **total) for name, values in figures(drawn).items()}
    return {name: figure for name, figure in found.items() if figure is not None}


def share(*, hits: Any, groups: Sequence[Any], confidence: float) -> Interval | None:
    """The share of records (records,) that are hits, with its Korn-Graubard interval."""
    import numpy as np

    index = _numbered(groups)
    counted = np.bincount(index, weights=np.asarray(hits, dtype=float))
    return rate(counted, np.bincount(index).astype(float), np.ones(len(counted)), confidence)


def figures(counts: Counts) -> dict[str, Figures]:
    """What confusion counts give: every figure for every sample."""
    import numpy as np

    labels = counts.shape[1]
    total, answered = counts.sum(axis=(1, 2)), np.maximum(counts[:, :, :labels].sum(axis=(1, 2)), 1e-12)
    row, column = np.indices(counts.shape[1:])
    under, over = (column > row) & (column < labels), column < row
    truth, predicted = counts.sum(axis=2), counts[:, :, :labels].sum(axis=1)
    hits = np.diagonal(counts, axis1=1, axis2=2)
    f1 = 2 * hits / np.maximum(truth + predicted, 1e-12)
    occurs = truth + predicted > 0
    return {
        "accuracy": hits.sum(axis=1) / total,
        "macro_f1": np.where(occurs, f1, 0).sum(axis=1) / occurs.sum(axis=1),
        "quadratic_kappa": _kappa(counts, np.where(column < labels, (row - column) ** 2, (labels - 1) ** 2)),
        "under_triage_rate": counts[:, under].sum(axis=1) / answered,
        "over_triage_rate": counts[:, over].sum(axis=1) / answered,
    }


def _kappa(counts: Counts, weights: NDArray[np.int64]) -> Figures:
    import numpy as np

    total = counts.sum(axis=(1, 2))
    expected = counts.sum(axis=2)[:, :, None] * counts.sum(axis=1)[:, None, :] / total[:, None, None]
    disagreement, chance = (weights * counts).sum(axis=(1, 2)), (weights * expected).sum(axis=(1, 2))
    result: Figures = np.where(chance > 0, 1 - disagreement / np.maximum(chance, 1e-12), np.nan)
    return result


# ---------------------------------------------------------------- groups


def _numbered(groups: Sequence[Any]) -> Codes:
    import pandas as pd

    numbers: Codes = pd.factorize(pd.Series(groups))[0]
    return numbers


def _patterns(truth: Codes, predicted: list[Codes], groups: Sequence[Any], labels: int) -> tuple[Any, Any]:
    """Groups that are alike, once: their confusion counts (patterns, predictions x labels x (labels + 1)), and how many.

    A group is all that a resample draws, so those with the same counts are interchangeable: of groups with one
    visit each, however many, there are as many patterns as cells.
    """
    import numpy as np

    index = _numbered(groups)
    order = np.argsort(index, kind="stable")
    cells, width = labels * (labels + 1), labels * (labels + 1) * len(predicted)
    codes = np.stack([(truth * (labels + 1) + one)[order] + at * cells for at, one in enumerate(predicted)])
    ends = np.cumsum(np.bincount(index))
    found: Counter[bytes] = Counter()
    for first, last in _chunks(len(ends), width):
        start, end = (ends[first - 1] if first else 0), ends[last - 1]
        local = (index[order][start:end] - first) * width
        flat = np.bincount((local + codes[:, start:end]).ravel(), minlength=(last - first) * width)
        rows, times = np.unique(flat.reshape(last - first, width), axis=0, return_counts=True)
        for row, count in zip(rows, times, strict=True):
            found[row.tobytes()] += int(count)
    patterns = np.frombuffer(b"".join(sorted(found)), dtype=flat.dtype).reshape(len(found), width)
    return patterns.astype(float), np.array([found[row] for row in sorted(found)])


def _chunks(count: int, width: int) -> Iterator[tuple[int, int]]:
    size = max(1, CHUNK // width)
    yield from ((at, min(at + size, count)) for at in range(0, count, size))


def _sums(patterns: Any, times: Any, resamples: int) -> Any:
    """Sums over the sample itself (row 0) and over bootstrap samples of as many groups."""
    import numpy as np

    rng, groups = np.random.default_rng(SEED), int(times.sum())
    drawn = [times[None, :] @ patterns]
    for first, last in _chunks(resamples, len(times)):
        drawn.append(rng.multinomial(groups, times / groups, size=last - first) @ patterns)
    return np.vstack(drawn)


def _resampled(patterns: Any, times: Any, predictions: int, labels: int, resamples: int) -> Iterator[Counts]:
    """Confusion counts of the sample and its resamples, for each prediction."""
    drawn = _sums(patterns, times, resamples).reshape(resamples + 1, predictions, labels, labels + 1)
    yield from (drawn[:, at] for at in range(predictions))


def _interval(values: Figures, confidence: float, n: int, groups: int) -> Interval | None:
    """The figure (row 0) with the percentile interval of its resamples, expanded for few groups; None if undefined."""
    import numpy as np
    from scipy.stats import norm, t

    defined = values[1:][~np.isnan(values[1:])]
    if np.isnan(values[0]) or groups < 2 or len(defined) < _DEFINED * (len(values) - 1):
        return None
    reach = t.ppf((1 + confidence) / 2, groups - 1) * math.sqrt(groups / (groups - 1))
    low, high = np.quantile(defined, [norm.cdf(-reach), norm.cdf(reach)])
    return _rounded(values[0], low, high, n, groups)


def _rounded(value: float, low: float, high: float, n: int, groups: int) -> Interval:
    ends = (round(float(end), 6) for end in (value, low, high))
    return {**dict(zip(("value", "low", "high"), ends, strict=True)), "n": n, "groups": groups}  # type: ignore[typeddict-item]


# ---------------------------------------------------------------- rates


def _rates(
    patterns: Any, times: Any, labels: list[str], severe: list[str], confidence: float, selective: bool
) -> dict[str, Interval | None]:
    """Rates of confusion cells among others, each with a denominator of its own."""
    import numpy as np

    row, column = np.indices((len(labels), len(labels) + 1))
    every, answered, under = row >= 0, column < len(labels), column > row
    wanted = {
        "accuracy": (row == column, every),
        "under_triage_rate": (under, answered),
        "over_triage_rate": (column < row, answered),
    }
    if selective:
        wanted |= {"coverage": (answered, every), "selective_accuracy": (row == column, answered)}
    if severe:
        wanted["severe_under_triage_rate"] = (under, answered & np.isin(row, [labels.index(name) for name in severe]))
    wanted |= {f"under_triage_rate.{name}": (under, answered & (row == labels.index(name))) for name in severe}
    return {
        name: rate(patterns @ (hit & among).ravel(), patterns @ among.ravel(), times, confidence)
        for name, (hit, among) in wanted.items()
    }


def rate(hits: Any, among: Any, times: Any, confidence: float) -> Interval | None:
    """A share with its Korn-Graubard interval; None if nothing was measured.

    Args:
        hits: (patterns,), records of a group that count.
        among: (patterns,), records of a group that could.
        times: (patterns,), groups that are alike.
        confidence: of the two-sided interval.
    """
    there = among > 0
    hits, among, times = hits[there], among[there], times[there]
    n, groups = int(among @ times), int(times.sum())
    if n == 0:
        return None
    share = float(hits @ times) / n
    low, high = _clopper_pearson(share, _effective(hits, among, times, share, confidence), confidence)
    return _rounded(share, low, high, n, groups)


def _effective(hits: Any, among: Any, times: Any, share: float, confidence: float) -> float:
    """The effective number of independent records: n over the design effect, less for few groups; never more than n."""
    from scipy.stats import t

    n, groups = float(among @ times), float(times.sum())
    if groups < 2 or share in (0.0, 1.0):  # no spread to see: a group counts once
        return groups
    spread = groups / (groups - 1) * float(times @ (hits - share * among) ** 2) / n**2
    effect = max(1.0, spread / (share * (1 - share) / n))
    few = t.ppf((1 + confidence) / 2, n - 1) / t.ppf((1 + confidence) / 2, groups - 1)
    return float(n / effect * min(1.0, few) ** 2)


def _clopper_pearson(share: float, n: float, confidence: float) -> tuple[float, float]:
    from scipy.stats import beta

    tail, hits = (1 - confidence) / 2, share * n
    low = float(beta.ppf(tail, hits, n - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return low, high
