"""What is watched of written answers, in place of labels: their length, why they end, and how many are refusals.

A refusal is an answer with one of the phrases of `monitoring.refusals`: a heuristic. It misses refusals in other words,
and counts answers that quote such a phrase; what matters is whether their share moves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmops_tasks.models.decoding import FINISHED

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ["record_id", "answer", "tokens", "finish_reason"]  # of predictions
LENGTH, REFUSED = "length", ["refusal", "other"]


def watched(answers: pd.DataFrame, refusals: list[str]) -> pd.DataFrame:
    """Length in characters, finish reason, and "refusal" or "other", by record id; no text.

    Args:
        answers: with COLUMNS.
        refusals: phrases; upper and lower case, and apostrophes of either form, are the same.
    """
    plain = answers["answer"].fillna("").map(_folded)
    phrases = [_folded(phrase) for phrase in refusals]
    refused = plain.map(lambda text: any(phrase in text for phrase in phrases))
    found = answers[["record_id", "finish_reason"]].assign(
        length=answers["answer"].fillna("").str.len().astype(float),
        refused=refused.map({True: REFUSED[0], False: REFUSED[1]}),
    )
    return found.set_index("record_id")


def _folded(text: str) -> str:
    return text.replace("\u2019", "'").casefold()


CATEGORIES = {"finish_reason": ("finish reasons", list(FINISHED)), "refused": ("refusals", REFUSED)}
