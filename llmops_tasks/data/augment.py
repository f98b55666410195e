"""Synthetic variants of training records: typos, synonyms, more of the rare labels. Each is marked.

What is made of a record follows from the seed and the record's id, never from other records. Only training
records are accepted: a synthetic record in validation or test would measure the augmentation. What this does
not do: look at what a word means. A variant keeps its record's label, so the words in `paraphrase` must mean the
same, and of ten values ("HR 130") that noise meets, it loses one, whatever hung on it.
"""

from __future__ import annotations

import hashlib
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import cycle, pairwise
from typing import Any

from llmops_tasks.config.data import Augment
from llmops_tasks.data.typos import doubled, dropped, lost, swapped
from llmops_tasks.errors import DataError

Row = dict[str, Any]
LOST_VALUES = 0.1  # of the values in a noised text
LETTERS_A_SLIP = 40  # a noised text has one slip in so many letters, and at least one
_VALUE = re.compile(r"(?<!\S)[A-Z][A-Z0-9]{0,4} \d{1,4}(?:\.\d{1,2})?(?!\S) ?")
_MASK = re.compile(r"\[\w+\]")
_SLIPS = (swapped, swapped, dropped, dropped, doubled, doubled, lost)


def augmented(rows: list[Row], rule: Augment) -> list[Row]:
    """The records, then their variants.

    Args:
        rows: of the train split, with record_id, text, label and split at least.
        rule: how many of which kind.

    Returns:
        The rows in their order, with `augmented` = "", then synthetic ones with `augmented` = "noise", "paraphrase"
        or "minority" and `record_id` = "<record>~<kind><number>"; all else is as in the record.

    Raises:
        DataError: if a row is not of the train split.
    """
    others = Counter(str(row["split"]) for row in rows if row["split"] != "train")
    if others:
        raise DataError(f"Given rows of the splits {dict(others)}. Allowed: train. Measure on what was really written.")
    words = _replacer(rule.paraphrase)
    made = [*_noised(rows, rule), *_paraphrased(rows, rule, words)]
    labels = Counter(row["label"] for row in [*rows, *made])
    made += _filled(rows, labels, rule, words)
    return [{**row, "augmented": ""} for row in rows] + made


def _noised(rows: list[Row], rule: Augment) -> Iterator[Row]:
    """`rule.noise` copies of every row on average."""
    for row in rows:
        share = _rng(rule, "copies", row, 0).random() < rule.noise % 1
        for number in range(1, int(rule.noise) + share + 1):
            yield from _variant(row, "noise", number, noisy(row["text"], _rng(rule, "noise", row, number)))


def _paraphrased(rows: list[Row], rule: Augment, words: Callable[[str, random.Random], str]) -> Iterator[Row]:
    """One copy of every row that has one of the words."""
    for row in rows:
        yield from _variant(row, "paraphrase", 1, words(row["text"], _rng(rule, "paraphrase", row, 1)))


def _filled(
    rows: list[Row], counts: Counter[Any], rule: Augment, words: Callable[[str, random.Random], str]
) -> Iterator[Row]:
    """Reworded, noised copies of the rarer labels' rows in turn, until they have their share of the commonest one's."""
    wanted = int((rule.minority or 0) * max(counts.values(), default=0))
    for label, count in counts.items():
        own = [row for row in rows if row["label"] == label and _places(row["text"])]
        own.sort(key=lambda row: hashlib.sha256(f"{rule.seed}/{row['record_id']}".encode()).digest())
        turns = cycle(own)
        for place in range(max(0, wanted - count) if own else 0):
            row, number = next(turns), place // len(own) + 1
            rng = _rng(rule, "minority", row, number)
            yield from _variant(row, "minority", number, noisy(words(row["text"], rng), rng))


def _variant(row: Row, kind: str, number: int, text: str) -> Iterator[Row]:
    """The row with another text; nothing where the text is the same."""
    if text != row["text"]:
        yield {**row, "record_id": f"{row['record_id']}~{kind}{number}", "text": text, "augmented": kind}


def _rng(rule: Augment, kind: str, row: Row, number: int) -> random.Random:
    return random.Random(f"{rule.seed}/{kind}/{row['record_id']}/{number}")  # noqa: S311  (reproducible, not secret)


def noisy(text: str, rng: random.Random) -> str:
    """The text with slips of the pen and lost values. Digits and masks like `[name]` are left alone.

    Another text whenever there is a place for a slip.
    """
    result = _VALUE.sub(lambda found: "" if rng.random() < LOST_VALUES else found[0], text).strip() or text
    for _ in range(max(1, round(len(_places(result)) / LETTERS_A_SLIP))):
        if places := _places(result):
            result = rng.choice(_SLIPS)(result, rng.choice(places))
    if result == text and (places := _places(text)):  # the second slip took back the first
        result = doubled(text, places[0])
    return result


def _places(text: str) -> list[int]:
    """Where a slip changes the text: letters before another, different letter, outside of masks."""
    masked = {at for found in _MASK.finditer(text) for at in range(*found.span())}
    pairs = enumerate(pairwise(text))
    return [at for at, (one, two) in pairs if one.isalpha() and two.isalpha() and one != two and at not in masked]


def _replacer(paraphrase: dict[str, list[str]]) -> Callable[[str, random.Random], str]:
    """Replaces whole words by one of their alternatives, in the case they were written in."""
    if not paraphrase:
        return lambda text, rng: text
    choices = {word.lower(): others for word, others in paraphrase.items()}
    longest_first = sorted(map(re.escape, paraphrase), key=len, reverse=True)
    pattern = re.compile(rf"(?<!\w)(?:{'|'.join(longest_first)})(?!\w)", re.IGNORECASE)
    return lambda text, rng: pattern.sub(lambda found: _cased(rng.choice(choices[found[0].lower()]), found[0]), text)


def _cased(word: str, like: str) -> str:
    """The word in the case of another: all capitals, a capital first, or as it is."""
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word
