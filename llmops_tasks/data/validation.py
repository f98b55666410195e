"""Every row is judged by the use case's rules, in one pass; bad rows go to quarantine with a reason.

Rows pass in batches; ids that repeat are looked up by DuckDB within a memory limit. Great Expectations then runs
the same rules, and those that people wrote, on a sample: its page (Data Docs) is for people, the quarantine holds
what every row came to.
"""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks import config
from llmops_tasks.config import Column, Data
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import gx_report, row_checks, schema, tables
from llmops_tasks.errors import DataError
from llmops_tasks.store import artifacts, digests
from llmops_tasks.store.sources import code_digest

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

log = logging.getLogger(__name__)
_REPEATED = "create table repeated as select id from ids group by id having count(*) > 1"
_LATER = """
select place from ids semi join repeated using (id)
qualify row_number() over (partition by id order by place) > 1 order by place
"""
RETYPED = 0.5  # a column of which more cells than this share are not of its type has another type


def validate(*, usecase: str, records: ArtifactRef, labelled: bool = True) -> ArtifactRef:
    """Validate records against the use case's columns and expectations.

    Args:
        usecase: name or YAML path.
        records: from `ingest`.
        labelled: False for new records, which have no label yet.

    Returns:
        A reference of kind "validated": `records.parquet` (typed, good rows), `quarantine.parquet`
        (source, row, reason, sha256 of the row) and `data_docs/`. `meta` counts the reasons.

    Raises:
        DataError: if the source's columns have changed, too few valid rows are left, too many are rejected, or an
            expectation fails. The artifact is kept nevertheless.

    Example:
        >>> checked = validate(usecase="triage", records=records)
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    if found := records["meta"].get("source_columns"):
        schema.check(usecase=name, data=case.data, found=found, labelled=labelled)
    inputs = {
        "records": records["sha256"],
        "columns": case.data.model_dump(mode="json", include={"columns", "expectations"}),
        "labels": case.task.model_dump(mode="json", include={"type", "labels"}),
        "labelled": labelled,
        "code": code_digest(__name__),
    }
    build = partial(_build, name, case, records, labelled)
    ref = artifacts.publish(usecase=name, kind="validated", inputs=inputs, build=build)
    _circuit_breaker(case.data, ref, labelled)
    return ref


def _circuit_breaker(data: Data, ref: ArtifactRef, labelled: bool) -> None:
    meta, rows = ref["meta"], ref["rows"]
    share = meta["quarantined"] / max(1, meta["quarantined"] + rows)
    reasons = ", ".join(f"{reason}: {count}" for reason, count in meta["reasons"].items()) or "none"
    found = (
        f"{rows} good rows, {meta['quarantined']} in quarantine ({share:.0%}): {reasons}. "
        f"See '{ref['uri']}/quarantine.parquet'."
    )
    if share > data.max_quarantined:
        changed = "".join(f"\n~ {line}" for line in meta["retyped"])
        raise DataError(
            f"More than {data.max_quarantined:.0%} of the rows are bad: {found} "
            f"Fix the source or data.max_quarantined.{changed}"
        )
    if rows < (data.min_rows if labelled else 1):
        raise DataError(
            f"Fewer than {data.min_rows if labelled else 1} good rows: {found} Add more data, or change data.min_rows."
        )
    if meta["broken_expectations"]:
        raise DataError(
            f"Expectations of the use case failed: {meta['broken_expectations']}. See '{ref['uri']}/data_docs'."
        )


def _build(usecase: str, case: config.UseCase, records: ArtifactRef, labelled: bool, out: Path) -> dict[str, Any]:
    source = artifacts.fetch(records)
    columns = {
        name: column
        for name, column in case.data.columns.items()
        if labelled or column.role not in ("label", "leakage")
    }
    labels = [value for label in case.task.labels for value in label.values]
    checked = _Pass(
        row_checks.Rules(columns, labels), duplicates(source / "records.parquet", case.data.one("id"), records["rows"])
    )
    counts = Counter[str]()
    with tables.Writer(out / "quarantine.parquet", tables.REJECTED) as quarantine:
        for rejected in tables.read(source / "rejected.parquet"):
            quarantine.add(rejected)
            counts.update(rejected["reason"].to_pylist())
        checked.run(source / "records.parquet", out / "records.parquet", quarantine, records["rows"])
    counts += checked.reasons
    broken = _report(usecase, case.data, columns, labels, checked, out / "data_docs")
    log.info("validated: %d good rows, %d in quarantine", checked.good, counts.total())
    return {
        "rows": checked.good,
        "quarantined": counts.total(),
        "reasons": dict(counts.most_common()),
        "retyped": _retyped(columns, counts, checked.rows),
        "broken_expectations": broken,
        "parents": [artifacts.parent(records)],
    }


def duplicates(path: Path, column: str, rows: int) -> Any:
    """Positions of those `rows` whose id stood in an earlier row, in order; of rows with the same id the first is kept."""
    from duckdb import ColumnExpression

    with tables.database(rows) as db:
        records = db.read_parquet(str(path), file_row_number=True)
        records.select(
            ColumnExpression(column).alias("id"), ColumnExpression("file_row_number").alias("place")
        ).create_view("ids")
        db.execute(_REPEATED)
        return db.execute(_LATER).fetchnumpy()["place"]


class _Pass:
    """One pass over all rows: typed good rows out, bad rows to quarantine, every n-th row into the sample."""

    def __init__(self, judge: row_checks.Rules, duplicates: Any) -> None:
        self.judge, self.duplicates = judge, duplicates
        self.rows = self.good = 0
        self.reasons: Counter[str] = Counter()
        self.sample: list[pa.Table] = []
        self.duplicate = next(f"{n}: duplicate" for n, c in judge.columns.items() if c.role == "id")

    def run(self, source: Path, target: Path, quarantine: tables.Writer, rows: int) -> None:
        """Read, judge, write."""
        step = -(-rows // gx_report.SAMPLE) or 1
        with tables.Writer(target) as good:
            for raw in tables.read(source):
                typed, reasons = self.judge.check(raw)
                reasons = row_checks.first(reasons, self._repeated(raw.num_rows), self.duplicate)
                good.add(_origin(typed, raw).filter(reasons.is_null()))
                self._set_aside(raw, reasons, quarantine)
                self._remember(typed, step)
                self.rows += raw.num_rows
            self.good = good.rows

    def _repeated(self, count: int) -> Any:
        """Of the next rows, which have an id that stood in an earlier one?"""
        import numpy as np
        import pyarrow as pa

        start, end = np.searchsorted(self.duplicates, (self.rows, self.rows + count))
        found = np.zeros(count, dtype=bool)
        found[self.duplicates[start:end] - self.rows] = True
        return pa.array(found)

    def _set_aside(self, raw: Any, reasons: Any, quarantine: tables.Writer) -> None:
        """Who is set aside and why; the row itself stays in the source, found by file, number and digest."""
        bad = reasons.is_valid()
        for row, reason in zip(raw.filter(bad).to_pylist(), reasons.filter(bad).to_pylist(), strict=True):
            source, number = row.pop("_source"), int(row.pop("_row"))
            quarantine.add_row({"source": source, "row": number, "reason": reason, "sha256": digests.digest(row)})
            self.reasons[reason] += 1

    def _remember(self, typed: Any, step: int) -> None:
        import pyarrow as pa

        chosen = [row for row in range(typed.num_rows) if (self.rows + row) % step == 0]
        part = typed.take(chosen)
        self.sample.append(part.append_column(gx_report.ROW, pa.array([self.rows + row for row in chosen])))


def _origin(typed: Any, raw: Any) -> Any:
    for name in tables.ORIGIN:
        typed = typed.append_column(name, raw[name])
    return typed


def _report(
    usecase: str, data: Data, columns: dict[str, Column], labels: list[str], checked: _Pass, docs: Path
) -> list[str]:
    """Data Docs; returns the hand-written expectations that do not hold."""
    import pyarrow as pa

    if not checked.sample:
        return []
    frame: pd.DataFrame = pa.concat_tables(checked.sample).to_pandas()
    of = f"{checked.rows} rows" if len(frame) == checked.rows else f"{len(frame)} of {checked.rows} rows, evenly spaced"
    own, more = gx_report.suite(columns, labels), gx_report.written(data.expectations)
    _check_judged(own, checked)
    closed = {name: column.values for name, column in columns.items() if column.values is not None}
    broken = gx_report.run(frame, own, more, docs, f"{usecase}: {of}", closed)
    return sorted(set(broken) - {reason for reason, _ in own})


def _check_judged(suite: list[tuple[str, Any]], checked: _Pass) -> None:
    """A check of the page alone would show red and let the rows pass."""
    if alone := sorted({reason for reason, _ in suite} - checked.judge.reasons - {checked.duplicate}):
        raise DataError(f"The page checks {alone}, which no row check covers. Add each to row_checks.py, too.")


def _retyped(columns: dict[str, Column], counts: Counter[str], rows: int) -> list[str]:
    """Columns most of whose cells are of another type than the use case says."""
    return [
        f"{name}: {column.type} in the use case, text in the source"
        for name, column in columns.items()
        if counts[f"{name}: not a {column.type}"] > RETYPED * max(1, rows)
    ]
