"""Records to a dataset: text rendered, exact duplicates dropped, split leak-safe, published by content.

The split: groups (patients) are ordered by their first time and taken in cohorts; in every cohort the
earliest groups train, the next validate, the latest test. So nobody is in two splits, tests lie after the
training data of their cohort, and rows that come later change nothing about earlier cohorts.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks import artifacts, config, storage
from llmops_tasks.config import Split, UseCase
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import DataError
from llmops_tasks.prompts import templates

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
SPLITS = ("train", "validation", "test")
# What every dataset has; watched columns follow.
COLUMNS = ("record_id", "group", "time", "text", "label", "completion", "split")


def version(*, usecase: str, records: ArtifactRef) -> ArtifactRef:
    """Make a dataset version from anonymized records.

    Returns:
        A reference of kind "dataset": `data.parquet` with COLUMNS and the watched columns. Its sha256 is the
        version. `meta` has rows by split, labels by split, dropped duplicates, and its parent.

    Raises:
        DataError: if a split would be empty.
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    inputs = {
        "records": records["sha256"],
        "config": case.digest("data", "task", "monitoring"),
        "code": storage.code_digest(__file__, templates.__file__),
    }
    return artifacts.publish(usecase=name, kind="dataset", inputs=inputs, build=partial(_build, case, records))


def day(*, usecase: str, records: ArtifactRef, date: str) -> ArtifactRef:
    """Make a day's anonymized records ready for inference: the same rendering, no labels, no split.

    Returns:
        A reference of kind "day": `data.parquet` with record_id, time, text and the watched columns.
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    inputs = {
        "records": records["sha256"],
        "date": config.checked_date(date),
        "config": case.digest("data", "monitoring"),
    }
    inputs["code"] = storage.code_digest(__file__, templates.__file__)
    return artifacts.publish(usecase=name, kind="day", inputs=inputs, build=partial(_build_day, case, records, date))


def _build(case: UseCase, records: ArtifactRef, out: Path) -> dict[str, Any]:
    frame = _rendered(case, records)
    frame["label"], frame["completion"] = _answers(case, frame)
    before = len(frame)
    frame = frame.sort_values(["time", "record_id"]).drop_duplicates(["text", "label"], keep="first")
    frame["split"] = split(frame["group"].tolist(), case.data.split)
    counts = {name: int((frame["split"] == name).sum()) for name in SPLITS}
    if not all(counts.values()):
        raise DataError(f"A split would be empty: {counts} rows. Bring more groups, or change data.split.")
    frame[[*COLUMNS, *case.monitoring.columns]].to_parquet(out / "data.parquet", index=False)
    labels = {name: frame.loc[frame["split"] == name, "label"].value_counts().to_dict() for name in SPLITS}
    log.info("dataset: %s rows, %d exact duplicates dropped", counts, before - len(frame))
    meta = {"rows": len(frame), "splits": counts, "duplicates": before - len(frame), "parents": [records["sha256"]]}
    return meta | ({"labels": labels} if case.task.type == "classification" else {})


def _build_day(case: UseCase, records: ArtifactRef, date: str, out: Path) -> dict[str, Any]:
    frame = _rendered(case, records).sort_values(["time", "record_id"])
    frame[["record_id", "time", "text", *case.monitoring.columns]].to_parquet(out / "data.parquet", index=False)
    return {"rows": len(frame), "date": date, "parents": [records["sha256"]]}


def _rendered(case: UseCase, records: ArtifactRef) -> pd.DataFrame:
    """The records with their roles' names and the text that the model reads."""
    import pandas as pd

    frame = pd.read_parquet(artifacts.fetch(records) / "records.parquet")
    inputs = frame[case.data.named("input")].astype(object)
    rows = inputs.where(inputs.notna(), None).to_dict("records")
    data = case.data
    frame = frame.rename(columns={data.one("id"): "record_id", data.one("group"): "group", data.one("time"): "time"})
    frame["text"] = [templates.render_text(case, row) for row in rows]
    return frame


def _answers(case: UseCase, frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    """The label's name (or, for generation, the answer) and what the model is to write."""
    if case.task.type == "generation":
        answers = frame[case.data.completion].tolist()
        return answers, answers
    by_value = {value: label for label in case.task.labels for value in label.values}
    labels = [by_value[value] for value in frame[case.data.one("label")]]
    return [label.name for label in labels], [label.text for label in labels]


def split(groups: list[str], rule: Split) -> list[str]:
    """The split of every row.

    Args:
        groups: the group of every row, rows in order of time.
        rule: shares and cohort size. A last cohort that is not full is split by the same shares.
    """
    order = list(dict.fromkeys(groups))
    place: dict[str, str] = {}
    for start in range(0, len(order), rule.cohort):
        cohort = order[start : start + rule.cohort]
        for position, group in enumerate(cohort):
            share = (position + 0.5) / len(cohort)
            place[group] = SPLITS[(share >= rule.train) + (share >= rule.train + rule.validation)]
    return [place[group] for group in groups]
