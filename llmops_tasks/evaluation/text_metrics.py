"""How near written texts are to reference texts: exact match, token F1, ROUGE-L, BLEU, chrF, and bits per character.

Each record adds a row of counts, and every figure follows from sums of such rows; so BLEU and chrF, which are figures of
a whole corpus, are resampled by groups like all others. One reference a record. Words are those of each figure's source,
which cut at spaces: texts in scripts without any (Chinese, Japanese) are judged by chrF and bits per character.

Sources: exact match and token F1: Rajpurkar et al. 2016 and 2018 (SQuAD; `evaluate-v2.0.py`: lower case, no punctuation,
no articles, and 0 or 1 where a text is empty). ROUGE-L: Lin 2004, as in rouge-score 0.1.2 (F1 of the longest common
subsequence, no stemming, mean over records). BLEU: Papineni et al. 2002, as in sacrebleu 2.6 (13a, exponential
smoothing). chrF: Popovic 2015, as in sacrebleu 2.6 (six letters, beta 2). BLEU and chrF go from 0 to 100, as there.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llmops_tasks import metrics
from llmops_tasks.contracts import Interval

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Sums = NDArray[np.float64]  # (samples, COLUMNS)
    Figures = NDArray[np.float64]  # (samples,)

ORDER, LETTERS, BETA = 4, 6, 2  # BLEU's longest n-gram in words, chrF's in letters, and its weight of recall
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_WORD = re.compile(r"[^a-z0-9]+")
_ENTITIES = {"&quot;": '"', "&amp;": "&", "&lt;": "<", "&gt;": ">"}
_13A = [  # of mteval-v13a: symbols; point and comma but between digits; a dash after a digit
    (re.compile(r"([\{-\~\[-\` -\&\(-\+\:-\@\/])"), r" \1 "),
    (re.compile(r"([^0-9])([\.,])"), r"\1 \2 "),
    (re.compile(r"([\.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
]
# A record's row: 1, exact match, token F1, ROUGE-L; BLEU's words written and given, matches and n-grams by order;
# chrF's letters written, given and matched by order.
_BLEU = slice(4, 6 + 2 * ORDER)
_CHRF = slice(_BLEU.stop, _BLEU.stop + 3 * LETTERS)


def measure(
    *, truth: list[str], written: list[str], groups: Sequence[Any], bits: list[float | None] | None, resamples: int,
    confidence: float,
) -> dict[str, Interval]:  # fmt: skip
    """Every figure that can be measured.

    Args:
        truth: (records,), the references.
        written: (records,), the texts to judge.
        groups: (records,), whose record it is.
        bits: (records,), -log2 of the reference's probability under the model, None of one that is too long for it; None: it has none.
        resamples: of the bootstrap.
        confidence: of the two-sided intervals.

    Returns:
        exact_match, token_f1 and rouge_l (0 to 1), bleu and chrf (0 to 100), bits_per_character (of the references).
    """
    rule: dict[str, Any] = {"groups": groups, "confidence": confidence}
    counted = _rows(truth, written)
    found: dict[str, Interval | None] = dict(
        metrics.of_sums(columns=counted, figures=figures, resamples=resamples, **rule)
    )
    found["exact_match"] = metrics.share(hits=counted[:, 1] > 0, **rule)  # exact, also at 0 and 1
    if bits is not None:
        found["bits_per_character"] = _bits_per_character(truth, bits, groups, resamples, confidence)
    return {name: figure for name, figure in sorted(found.items()) if figure is not None}


def _bits_per_character(
    truth: list[str], bits: list[float | None], groups: Sequence[Any], resamples: int, confidence: float
) -> Interval | None:
    """Over the references that the model could read whole."""
    read = [
        (found, float(len(text)), group)
        for found, text, group in zip(bits, truth, groups, strict=True)
        if found is not None
    ]
    if not read:
        return None
    parts, wholes, owners = zip(*read, strict=True)
    return metrics.ratio(
        parts=list(parts), wholes=list(wholes), groups=owners, resamples=resamples, confidence=confidence
    )


def difference(
    *, truth: list[str], ours: list[str], theirs: list[str], groups: Sequence[Any], metric: str, resamples: int,
    confidence: float,
) -> Interval | None:  # fmt: skip
    """`ours` minus `theirs` in a metric, on the same records: each resample draws the same groups for both."""
    import numpy as np

    both = np.concatenate([_rows(truth, ours), _rows(truth, theirs)], axis=1)
    width = _CHRF.stop

    def gap(sums: Sums) -> dict[str, Figures]:
        return {metric: figures(sums[:, :width])[metric] - figures(sums[:, width:])[metric]}

    rule: dict[str, Any] = {"groups": groups, "resamples": resamples, "confidence": confidence}
    return metrics.of_sums(columns=both, figures=gap, **rule).get(metric)


def figures(sums: Sums) -> dict[str, Figures]:
    """What sums of records' rows give: every figure for every sample."""
    means = sums[:, 1:4] / sums[:, :1]
    found = {name: means[:, at] for at, name in enumerate(("exact_match", "token_f1", "rouge_l"))}
    return {**found, "bleu": _bleu(sums[:, _BLEU]), "chrf": _chrf(sums[:, _CHRF])}


def _rows(truth: list[str], written: list[str]) -> Sums:
    import numpy as np

    rows = [
        [1.0, *_squad(given, text), rouge_l(given, text), *_bleu_counts(given, text), *_chrf_counts(given, text)]
        for given, text in zip(truth, written, strict=True)
    ]
    return np.array(rows, dtype=float).reshape(len(rows), _CHRF.stop)


# ---------------------------------------------------------------- by record


def _squad(given: str, written: str) -> tuple[float, float]:
    """Exact match and F1 of words."""
    one, other = (_normalised(text).split() for text in (given, written))
    if not one or not other:
        return float(one == other), float(one == other)
    common = sum((Counter(one) & Counter(other)).values())
    return float(one == other), 2 * common / (len(one) + len(other))


def _normalised(text: str) -> str:
    return _ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION))


def rouge_l(given: str, written: str) -> float:
    """F1 of the longest common subsequence of words."""
    one, other = ([word for word in _NO_WORD.split(text.lower()) if word] for text in (given, written))
    return 2 * _common(one, other) / (len(one) + len(other)) if one and other else 0.0


def _common(one: list[str], other: list[str]) -> int:
    """Length of the longest common subsequence; a row of the table is the bits of a number (Hyyro 2004)."""
    places: dict[str, int] = {}
    for at, word in enumerate(other):
        places[word] = places.get(word, 0) | 1 << at
    row = full = (1 << len(other)) - 1
    for word in one:
        met = row & places.get(word, 0)
        row = (row + met | row - met) & full
    return len(other) - row.bit_count()


def _grams(parts: Any, order: int) -> Counter[Any]:
    return Counter(tuple(parts[at : at + order]) for at in range(len(parts) - order + 1))


def _words(text: str) -> list[str]:
    """Words as mteval-v13a splits them."""
    line = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, letter in _ENTITIES.items():
        line = line.replace(entity, letter)
    line = f" {line} "
    for pattern, spaced in _13A:
        line = pattern.sub(spaced, line)
    return line.split()


def _bleu_counts(given: str, written: str) -> list[float]:
    words, others = _words(written), _words(given)
    orders = range(1, ORDER + 1)
    matches = [sum((_grams(words, order) & _grams(others, order)).values()) for order in orders]
    return [len(words), len(others), *matches, *(max(0, len(words) - order + 1) for order in orders)]


def _chrf_counts(given: str, written: str) -> list[float]:
    """For each order the n-grams written (none where the reference has none), given, and in both."""
    letters, others = ("".join(text.split()) for text in (written, given))
    counts: list[float] = []
    for order in range(1, LETTERS + 1):
        one, other = _grams(letters, order), _grams(others, order)
        counts += [one.total() if other else 0, other.total(), (one & other).total()]
    return counts


# ---------------------------------------------------------------- of a corpus


def _bleu(sums: Sums) -> Figures:
    """From written, given, matches by order, n-grams by order; an order without any match counts half of the last."""
    import numpy as np

    lengths, matches, wholes = sums[:, :2], sums[:, 2 : 2 + ORDER], sums[:, 2 + ORDER :]
    smoothed = np.where(matches > 0, matches, 0.5 ** np.cumsum(matches == 0, axis=1))
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.exp(np.log(smoothed / wholes).mean(axis=1))
        score = 100 * np.exp(np.minimum(0, 1 - lengths[:, 1] / lengths[:, 0])) * precision
    defined = (matches.sum(axis=1) > 0) & (wholes > 0).all(axis=1)
    return np.where(defined, score, 0.0)


def _chrf(sums: Sums) -> Figures:
    """F of the mean precision and the mean recall over the orders that both texts have."""
    import numpy as np

    written, given, both = (sums[:, at::3] for at in range(3))
    there = (written > 0) & (given > 0)
    orders = np.maximum(there.sum(axis=1), 1)
    precision, recall = (
        np.where(there, both / np.maximum(whole, 1), 0).sum(axis=1) / orders for whole in (written, given)
    )
    weighed = BETA**2 * precision + recall
    return np.where(weighed > 0, 100 * (1 + BETA**2) * precision * recall / np.maximum(weighed, 1e-300), 0.0)
