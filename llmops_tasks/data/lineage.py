"""Where a dataset comes from, where a record went, and what changed between two versions.

Everything is read from manifests and the artifacts they name. Versions
are named by a SHA-256 prefix. Record ids are returned, but no record text.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import tables
from llmops_tasks.data.splits import SPLITS
from llmops_tasks.errors import InputError
from llmops_tasks.store import artifacts, objects
from llmops_tasks.store.sources import code_digest

_CHANGES = {
    "added": "select count(*) from after where record_id not in (select record_id from before)",
    "removed": "select count(*) from before where record_id not in (select record_id from after)",
    "with a changed text": "select count(*) from before b join after a using (record_id) where a.text <> b.text",
    "with a changed label": "select count(*) from before b join after a using (record_id) where a.label <> b.label",
    "moved to another split": "select count(*) from before b join after a using (record_id) where a.split <> b.split",
}


def datasets(usecase: str) -> list[ArtifactRef]:
    """All dataset versions of a use case, in order of their digest."""
    found = objects.find(f"{objects.store_uri()}/{config.usecase_name(usecase)}/dataset/*/{artifacts.MANIFEST}")
    refs = [artifacts.at(uri.rsplit("/", 1)[0]) for uri in found]
    return sorted((ref for ref in refs if ref is not None), key=lambda ref: ref["sha256"])


def dataset(usecase: str, version: str) -> ArtifactRef:
    """The dataset version whose SHA-256 begins so.

    Raises:
        InputError: if there is none, or more than one.
    """
    known = datasets(usecase)
    found = [ref for ref in known if ref["sha256"].startswith(version)]
    if len(found) != 1:
        names = [ref["sha256"][:12] for ref in found or known]
        raise InputError(f"{len(found)} dataset versions begin with '{version:.64}'. Allowed: one of {names}.")
    return found[0]


def trace_dataset(*, usecase: str, version: str) -> dict[str, Any]:
    """Trace a dataset version back to its source files.

    Args:
        usecase: name or YAML path.
        version: SHA-256 prefix of the dataset.

    Returns:
        {dataset, steps: [{kind, sha256, uri, rows}], sources: {file: rows in the dataset}, rows_of: reference}: the last
        is an artifact with record_id, source and row of every record.

    Example:
        >>> trace_dataset(usecase="triage", version="1a2b3c")
    """
    ref = dataset(usecase, version)
    steps = list(_ancestors(ref))
    origins = source_rows(usecase=usecase, version=version)
    shown = [{name: step[name] for name in ("kind", "sha256", "uri", "rows")} for step in steps]
    return {"dataset": ref["sha256"], "steps": shown, "sources": origins["meta"]["sources"], "rows_of": origins}


def _ancestors(ref: ArtifactRef) -> list[ArtifactRef]:
    found = [ref]
    for parent in ref["meta"].get("parents", []):
        if (above := artifacts.at(parent["uri"])) is not None:
            found += _ancestors(above)
    return found


def source_rows(*, usecase: str, version: str) -> ArtifactRef:
    """Which source rows made a dataset version.

    Returns:
        A reference of kind "origins": `origins.parquet` with record_id, source (file) and row.
    """
    ref, case = dataset(usecase, version), config.load(usecase)
    checked = next((step for step in _ancestors(ref) if step["kind"] == "validated"), None)
    if checked is None:
        raise InputError(f"The validated records of dataset {ref['sha256'][:12]} are no longer in the store.")
    inputs = {"dataset": ref["sha256"], "validated": checked["sha256"], "code": code_digest(__name__)}
    build = partial(_origins, ref, checked, case.data.one("id"))
    return artifacts.publish(usecase=config.usecase_name(usecase), kind="origins", inputs=inputs, build=build)


def _origins(ref: ArtifactRef, checked: ArtifactRef, column: str, out: Path) -> dict[str, Any]:
    from duckdb import ColumnExpression

    with tables.database(ref["rows"]) as db, tables.Writer(out / "origins.parquet") as writer:
        tables.view(db, artifacts.fetch(ref) / "data.parquet", "dataset")
        rows = db.read_parquet(str(artifacts.fetch(checked) / "records.parquet"))
        names = {"record_id": column, "source": "_source", "row": "_row"}
        rows.select(*(ColumnExpression(old).alias(new) for new, old in names.items())).create_view("records")
        joined = 'select record_id, source, "row"::bigint as "row" from records semi join dataset using (record_id)'
        for batch in tables.batches(db.sql(f"{joined} order by record_id")):
            writer.add(batch)
        counts = f"select source, count(*) from ({joined}) group by source order by source"  # noqa: S608  (constants)
        return {"rows": writer.rows, "sources": dict(db.execute(counts).fetchall())}


def find_record(*, usecase: str, record: str) -> list[dict[str, Any]]:
    """List the dataset versions that contain a record, and its split.

    Args:
        usecase: name or YAML path.
        record: the record's id.

    Example:
        >>> find_record(usecase="triage", record="V1017")
    """
    found = []
    for ref in datasets(usecase):
        with tables.database() as db:
            tables.view(db, artifacts.fetch(ref) / "data.parquet", "dataset")
            rows = db.execute("select split from dataset where record_id = ?", [record]).fetchall()
        if rows:
            found.append({"dataset": ref["sha256"], "uri": ref["uri"], "split": rows[0][0]})
    return found


def compare_datasets(*, usecase: str, before: str, after: str) -> dict[str, Any]:
    """Describe what changed from one dataset version to another.

    Args:
        usecase: name or YAML path.
        before: SHA-256 prefix of the older version.
        after: SHA-256 prefix of the newer version.

    Returns:
        {before, after, words: [a sentence each], counts}.

    Example:
        >>> compare_datasets(usecase="triage", before="1a2b", after="3c4d")
    """
    old, new = dataset(usecase, before), dataset(usecase, after)
    with tables.database() as db:
        tables.view(db, artifacts.fetch(old) / "data.parquet", "before")
        tables.view(db, artifacts.fetch(new) / "data.parquet", "after")
        counts = {what: int(tables.one(db, query)[0]) for what, query in _CHANGES.items()}
        columns = [set(db.sql(f"from {name}").columns) for name in ("before", "after")]
    words = [f"{count} records {what}" for what, count in counts.items() if count]
    words += [f"column '{name}' is new" for name in sorted(columns[1] - columns[0])]
    words += [f"column '{name}' was removed" for name in sorted(columns[0] - columns[1])]
    words += _shares(old, new) + _same_test_set(old, new)
    return {"before": old["sha256"], "after": new["sha256"], "words": words, "counts": counts}


def _shares(old: ArtifactRef, new: ArtifactRef) -> list[str]:
    """Labels of the train split whose share moved by more than a hundredth."""
    before, after = (ref["meta"].get("labels", {}).get(SPLITS[0], {}) for ref in (old, new))
    totals = [max(1, sum(part.values())) for part in (before, after)]
    lines = []
    for name in sorted({*before, *after}):
        left, right = before.get(name, 0) / totals[0], after.get(name, 0) / totals[1]
        if abs(left - right) > 0.01:
            lines.append(f"'{name}' changed from {left:.1%} to {right:.1%} of the training records")
    return lines


def _same_test_set(old: ArtifactRef, new: ArtifactRef) -> list[str]:
    same = old["meta"]["evaluation"]["sha256"] == new["meta"]["evaluation"]["sha256"]
    return [
        f"the test set is {'the same' if same else 'a different one: metrics of the two versions are not comparable'}"
    ]
