"""Datasets as `build_dataset` leaves them, of rows that a test writes down."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.prompts import interface
from llmops_tasks.store import artifacts

SHIPPED = Path(__file__).parents[2] / "include" / "usecases"


def text_of(usecase: str = "triage") -> str:
    """What says that a dataset's text is made as this use case makes it."""
    return interface.of_usecase(config.load(str(SHIPPED / f"{usecase}.yaml"))).text_digest()


def publish(rows: list[dict[str, Any]], usecase: str = "tiny", like: str = "triage") -> ArtifactRef:
    """Keep the rows as a dataset; everybody without a `group` is a patient of their own.

    Args:
        rows: with the columns that are read.
        usecase: whose dataset it is.
        like: the use case whose text template made the text.
    """
    import pandas as pd

    def build(out: Path) -> dict[str, Any]:
        frame = pd.DataFrame(rows)
        if "group" not in frame:
            frame["group"] = frame["record_id"]
        if "label" not in frame:
            frame["label"] = ""
        frame.to_parquet(out / "data.parquet", index=False)
        splits = frame["split"].value_counts().to_dict()
        return {"rows": len(frame), "splits": splits, "text_sha256": text_of(like), "parents": []}

    return artifacts.publish(usecase=usecase, kind="dataset", inputs={"rows": rows, "like": like}, build=build)
