"""Pairs of answers as `collect_corrections` leaves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.store import artifacts

_WRONG = (" less", " emergent", " non")


def publish(count: int, usecase: str = "tiny") -> ArtifactRef:
    """Numbered notes that were all urgent and called otherwise; every fourth is held out."""
    import pandas as pd

    def build(out: Path) -> dict[str, Any]:
        rows = [
            {
                "record_id": f"r{n}",
                "group": f"g{n}",
                "prompt": f"Note: number {n}\nPriority:",
                "chosen": " urgent",
                "rejected": _WRONG[n % 3],
                "split": "validation" if n % 4 == 0 else "train",
            }
            for n in range(count)
        ]
        pd.DataFrame(rows).to_parquet(out / "pairs.parquet")
        return {"rows": len(rows)}

    return artifacts.publish(usecase=usecase, kind="pairs", inputs={"count": count}, build=build)
