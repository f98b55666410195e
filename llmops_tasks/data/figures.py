"""Statistics of a dataset for its manifest and card. No record is shown."""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

from llmops_tasks.config import UseCase
from llmops_tasks.data import curate, tables
from llmops_tasks.data.splits import SPLITS
from llmops_tasks.store import digests

_WORDS = "select len(string_split(text, ' ')) as words, count(*) from dataset group by 1 order by 1"
_SHARES = {"min": 0.0, "median": 0.5, "p95": 0.95, "max": 1.0}


def figures(case: UseCase, path: Path, rows: int) -> dict[str, Any]:
    """Rows and labels by split, words a text, first and last time, languages, and the digest of the evaluation set."""
    with tables.database(rows) as db:
        tables.view(db, path, "dataset")
        counts = dict(db.execute("select split, count(*) from dataset group by split").fetchall())
        span = tables.one(db, "select epoch_us(min(time)), epoch_us(max(time)) from dataset")
        found: dict[str, Any] = {
            "splits": {name: counts.get(name, 0) for name in SPLITS},
            "words": _quantiles(db.execute(_WORDS).fetchall()),
            "span": [_iso(moment) for moment in span],
            "evaluation": {"rows": counts.get("test", 0), "sha256": _evaluation_digest(db)},
        }
        if case.task.type == "classification":
            found["labels"] = _labels(db)
        if case.data.curate.languages:
            found["languages"] = _languages(db, case.data.curate.languages)
    return found


def _quantiles(counts: list[tuple[int, int]]) -> dict[str, int]:
    """Of values in order, and how often each occurs: the least one that a share of them does not exceed."""
    ends = list(accumulate(count for _, count in counts))
    return {name: counts[bisect_left(ends, share * ends[-1])][0] for name, share in _SHARES.items() if counts}


def _iso(microseconds: int | None) -> str | None:
    """In whole numbers: as a fraction, the last moment of the year 9999 is one of the next."""
    if microseconds is None:
        return None
    return (datetime.fromtimestamp(0, UTC) + timedelta(microseconds=microseconds)).isoformat(timespec="seconds")


def _labels(db: Any) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {name: {} for name in SPLITS}
    for part, label, count in db.execute(
        "select split, label, count(*) n from dataset group by 1, 2 order by n desc, label"
    ).fetchall():
        found[part][label] = count
    return found


def _evaluation_digest(db: Any) -> str:
    """SHA-256 over id, text and label of the test rows, ordered by id: the same digest is the same test_records."""
    total = hashlib.sha256()
    cursor = db.execute("select record_id, text, label from dataset where split = 'test' order by record_id")
    while found := cursor.fetchmany(tables.BATCH):
        for row in found:
            total.update(digests.canonical(row))
    return total.hexdigest()


def _languages(db: Any, expected: list[str]) -> dict[str, int]:
    """Texts by language; those of no expected one are counted together."""
    classify, counts = curate.language_of(), dict.fromkeys([*expected, "other"], 0)
    cursor = db.execute("select text from dataset")
    while found := cursor.fetchmany(tables.BATCH):
        for (text,) in found:
            language = classify(text)
            counts[language if language in expected else "other"] += 1
    return counts
