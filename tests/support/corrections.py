"""Reviewed notes, and days on which they were answered wrongly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.store import artifacts, objects
from llmops_tasks.training.corrections import collect_corrections
from tests.support import datasets


def reviewed(records: int = 60) -> ArtifactRef:
    """Reviewed notes: pain is urgent, all others are not."""
    words = {"urgent": " urgent", "non-urgent": " non"}
    rows = [
        {
            "record_id": f"r{n}",
            "text": f"note {n} {'with pain' if n % 2 else 'for a refill'}",
            "label": (label := "urgent" if n % 2 else "non-urgent"),
            "completion": words[label],
            "split": "test" if n % 10 == 9 else "train",
        }
        for n in range(records)
    ]
    return datasets.publish(rows)


def answer(date: str, records: range) -> None:
    """A day on which every note was called emergent, one in three rightly reviewed as it was answered."""
    import pandas as pd

    def build(out: Path) -> dict[str, Any]:
        truth = ["urgent" if n % 2 else "non-urgent" for n in records]
        given = [label if n % 3 == 0 else "emergent" for n, label in zip(records, truth, strict=True)]
        pd.DataFrame({"record_id": [f"r{n}" for n in records], "label": given}).to_parquet(out / "predictions.parquet")
        return {"rows": len(records)}

    at = f"{objects.store_uri()}/tiny/predictions/date={date}/part-0001"
    artifacts.publish(usecase="tiny", kind="predictions", inputs={"date": date}, build=build, at=at)


START: Any = {"kind": "base", "sha256": "0" * 64}


def collected(usecase: str) -> ArtifactRef:
    """Pairs of two days' answers."""
    answer("2026-03-01", range(40))
    answer("2026-03-02", range(40, 80))  # of these, twenty were reviewed
    return collect_corrections(usecase=usecase, dataset=reviewed(), start=START)
