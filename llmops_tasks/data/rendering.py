"""From anonymized records to what a model reads of them; a row that gives no text is set aside with its reason."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks.config import UseCase
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import tables
from llmops_tasks.errors import DataError
from llmops_tasks.prompts.interface import Interface
from llmops_tasks.store import artifacts

if TYPE_CHECKING:
    import pyarrow as pa

SET_ASIDE = "set_aside.parquet"  # of a dataset and a day: ids of rows that gave no text, and why
TOO_SHORT = "too short"


def render(
    case: UseCase, asked: Interface, records: ArtifactRef, path: Path, aside: Path, answers: bool = True
) -> dict[str, int]:
    """Write rows with the roles' names, the text that the model reads, and microseconds as time.

    Args:
        case: the use case.
        asked: how a model reads a row.
        records: from `anonymize`.
        path: for these rows.
        aside: for the ids of those whose text is too short or whose template fails, each with the reason.
        answers: with labels and what the model is to write.

    Returns:
        How many were set aside, by reason.

    Raises:
        DataError: if the template fails on a larger share of the rows than `data.max_quarantined`.
    """
    counts = Counter({TOO_SHORT: 0})
    with tables.Writer(path) as writer, tables.Writer(aside, {"record_id": "string", "reason": "string"}) as rest:
        for batch in tables.read(artifacts.fetch(records) / "records.parquet"):
            table, reasons = _rendered(case, asked, batch, answers)
            writer.add(table.filter(reasons.is_null()))
            failed = table.select(["record_id"]).append_column("reason", reasons).filter(reasons.is_valid())
            rest.add(failed)
            counts.update(failed["reason"].to_pylist())
    _check_template(case, dict(counts), records["rows"])
    return dict(counts)


def _check_template(case: UseCase, counts: dict[str, int], rows: int) -> None:
    failed = {reason: count for reason, count in counts.items() if reason != TOO_SHORT}
    if sum(failed.values()) > case.data.max_quarantined * rows:
        raise DataError(
            f"data.text cannot be rendered for {sum(failed.values())} of {rows} rows: {failed}. Fix the template "
            "(missing values are None), or data.max_quarantined."
        )


def _rendered(case: UseCase, asked: Interface, batch: pa.Table, answers: bool) -> tuple[pa.Table, Any]:
    """The rows, and for each the reason why it cannot stay, or null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    data = case.data
    asked.check_columns(data.named("input"))
    texts, failed = asked.render_texts(batch.select(data.named("input")).to_pylist())
    columns: dict[str, Any] = {"record_id": batch[data.one("id")], "group": batch[data.one("group")]}
    columns["time"] = (
        batch[data.one("time")].cast(pa.int64()) if data.named("time") else pa.nulls(len(texts), pa.int64())
    )
    columns["text"] = pa.array([text or "" for text in texts], pa.string())
    if answers:
        columns["label"], columns["completion"] = (pa.array(part, pa.string()) for part in _answers(case, batch))
    columns |= {name: batch[name] for name in case.monitoring.columns}
    reasons = pa.array([error and f"data.text fails: {error}" for error in failed], pa.string())
    short = pc.and_(reasons.is_null(), pc.less(pc.utf8_length(columns["text"]), data.curate.min_length))
    return pa.table(columns), pc.if_else(short, TOO_SHORT, reasons)


def _answers(case: UseCase, batch: pa.Table) -> tuple[list[str], list[str]]:
    """The label's name (or, for generation, the answer) and what the model is to write."""
    if case.task.type == "generation":
        answers = batch[case.data.completion].to_pylist()
        return answers, answers
    by_value = {value: label for label in case.task.labels for value in label.values}
    labels = [by_value[value] for value in batch[case.data.one("label")].to_pylist()]
    return [label.name for label in labels], [label.text for label in labels]
