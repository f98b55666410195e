"""Every rule of the use case's columns as a Great Expectations suite; bad rows go to quarantine with a reason.

Rows are typed first (a cell that is no number or time is a finding of its own), then the suite runs once:
its verdicts per row fill the quarantine, its report is kept as Data Docs. Values never reach results or
docs: expectations report row numbers only.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks import artifacts, config, storage
from llmops_tasks.config import Column, Data
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import data_docs, tables
from llmops_tasks.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
_ROW = "_index"  # position in records.parquet
# Row numbers, never values: a failing value is a patient's.
_RESULT_FORMAT = {
    "result_format": "COMPLETE",
    "unexpected_index_column_names": [_ROW],
    "exclude_unexpected_values": True,
    "return_unexpected_index_query": False,
}


def validate(*, usecase: str, records: ArtifactRef, labelled: bool = True) -> ArtifactRef:
    """Check records against the use case.

    Args:
        usecase: name or YAML path.
        records: from `ingest`.
        labelled: False for a day's new records, which have no label yet.

    Returns:
        A reference of kind "validated": `records.parquet` (typed, good rows), `quarantine.parquet`
        (row, reason, digest) and `data_docs/`. `meta` counts the reasons.

    Raises:
        DataError: if too few good rows are left, or too large a share is bad. The artifact is kept all the same.
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    inputs = {
        "records": records["sha256"],
        "columns": case.data.model_dump(mode="json", include={"columns"}),
        "labels": case.task.model_dump(mode="json"),
        "labelled": labelled,
        "code": storage.code_digest(__file__, data_docs.__file__),
    }
    build = partial(_build, case, records, labelled)
    ref = artifacts.publish(usecase=name, kind="validated", inputs=inputs, build=build)
    _circuit_breaker(case.data, ref, labelled)
    return ref


def _circuit_breaker(data: Data, ref: ArtifactRef, labelled: bool) -> None:
    bad = ref["meta"]["quarantined"]
    share = bad / max(1, bad + ref["rows"])
    reasons = ", ".join(f"{reason}: {count}" for reason, count in ref["meta"]["reasons"].items()) or "none"
    found = (
        f"{ref['rows']} good rows, {bad} in quarantine ({share:.0%}): {reasons}. See '{ref['uri']}/quarantine.parquet'."
    )
    if share > data.max_quarantined:
        raise DataError(
            f"More than {data.max_quarantined:.0%} of the rows are bad: {found} Mend the source or data.max_quarantined."
        )
    if ref["rows"] < (data.min_rows if labelled else 1):
        raise DataError(
            f"Fewer than {data.min_rows if labelled else 1} good rows: {found} Bring more data, or change data.min_rows."
        )


def _build(case: config.UseCase, records: ArtifactRef, labelled: bool, out: Path) -> dict[str, Any]:
    import pandas as pd

    source = artifacts.fetch(records)
    raw = pd.read_parquet(source / "records.parquet")
    columns = {
        name: column
        for name, column in case.data.columns.items()
        if labelled or column.role not in ("label", "leakage")
    }
    frame, reasons = _typed(raw, columns)
    values = [value for label in case.task.labels for value in label.values]
    reasons |= _run_suite(frame, columns, values, out / "data_docs", reasons)
    rejected = list(tables.rows(source / "rejected.parquet"))
    bad = [*rejected, *_quarantined(raw, reasons)]
    tables.write(out / "quarantine.parquet", bad)
    good = frame.loc[~frame[_ROW].isin(list(reasons))].drop(columns=_ROW)
    good.to_parquet(out / "records.parquet", index=False)
    counts = dict(Counter(row["reason"] for row in bad).most_common())
    log.info("validated: %d good rows, %d in quarantine", len(good), len(bad))
    return {"rows": len(good), "quarantined": len(bad), "reasons": counts}


def _typed(raw: pd.DataFrame, columns: dict[str, Column]) -> tuple[pd.DataFrame, dict[int, str]]:
    """Strings to numbers and times; cells that are neither are findings."""
    import pandas as pd

    frame, reasons = pd.DataFrame({_ROW: range(len(raw))}), dict[int, str]()
    for name, column in columns.items():
        text = raw[name]
        if column.type == "number":
            frame[name] = pd.to_numeric(text, errors="coerce")
        elif column.type == "timestamp":
            frame[name] = pd.to_datetime(text, errors="coerce", utc=True, format="ISO8601")
        else:
            frame[name] = text
        for row in frame.index[frame[name].isna() & text.notna()]:
            reasons.setdefault(int(row), f"{name}: not a {column.type}")
    return frame, reasons


def _quarantined(raw: pd.DataFrame, reasons: dict[int, str]) -> list[dict[str, Any]]:
    """Who is set aside and why; the row itself stays in the source, found by file, number and digest."""
    result = []
    for index, reason in sorted(reasons.items()):
        row = raw.iloc[index]
        content = {name: None if value != value else value for name, value in row.drop(["_source", "_row"]).items()}
        result.append(
            {"source": row["_source"], "row": int(row["_row"]), "reason": reason, "sha256": storage.digest(content)}
        )
    return result


# ---------------------------------------------------------------- Great Expectations


def _expectations(columns: dict[str, Column], labels: list[str]) -> list[tuple[str, Any]]:
    """The suite: (reason, expectation) for every rule in the use case."""
    import great_expectations.expectations as gxe

    found: list[tuple[str, Any]] = []
    for name, column in columns.items():
        if column.required:
            found.append((f"{name}: missing", gxe.ExpectColumnValuesToNotBeNull(column=name)))
        if column.role == "id":
            found.append((f"{name}: duplicate", gxe.ExpectColumnValuesToBeUnique(column=name)))
        if column.min is not None or column.max is not None:
            rule = gxe.ExpectColumnValuesToBeBetween(column=name, min_value=column.min, max_value=column.max)
            found.append((f"{name}: not between {column.min} and {column.max}", rule))
        if column.values is not None:
            found.append(
                (f"{name}: unknown word", gxe.ExpectColumnValuesToBeInSet(column=name, value_set=column.values))
            )
        if column.role == "label":
            found.append((f"{name}: unknown label", gxe.ExpectColumnValuesToBeInSet(column=name, value_set=labels)))
        if column.max_length is not None:
            rule = gxe.ExpectColumnValueLengthsToBeBetween(column=name, max_value=column.max_length)
            found.append((f"{name}: longer than {column.max_length} characters", rule))
    return found


def _run_suite(
    frame: pd.DataFrame, columns: dict[str, Column], labels: list[str], docs: Path, known: dict[int, str]
) -> dict[int, str]:
    """Run the suite once; returns the reason for every newly found bad row. Of duplicates the first is kept."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    import great_expectations as gx

    expectations = _expectations(columns, labels)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = (
        context.data_sources.add_pandas("records")
        .add_dataframe_asset("rows")
        .add_batch_definition_whole_dataframe("all")
    )
    suite = context.suites.add(gx.ExpectationSuite(name="columns", expectations=[rule for _, rule in expectations]))
    check = context.validation_definitions.add(gx.ValidationDefinition(name="columns", data=batch, suite=suite))
    result = check.run(batch_parameters={"dataframe": frame}, result_format=_RESULT_FORMAT)
    data_docs.write(result, f"Records: {len(frame)} rows", docs)
    return _findings(frame, expectations, result.results, known)


def _findings(
    frame: pd.DataFrame, expectations: list[tuple[str, Any]], results: Any, known: dict[int, str]
) -> dict[int, str]:
    reasons: dict[int, str] = {}
    by_rule = {
        _rule_key(result.expectation_config.type, result.expectation_config.kwargs): result for result in results
    }
    for reason, rule in expectations:
        result = by_rule[_rule_key(rule.expectation_type, rule.configuration.kwargs)]
        if result.exception_info.get("raised_exception"):
            raise DataError(f"The check '{reason}' could not run. Check the column's type in the use case.")
        found = result.result.get("unexpected_index_list") or []  # [{_ROW: [row, ...]}], as values are left out
        rows = sorted(row for entry in found for row in entry[_ROW])
        if reason.endswith(": duplicate"):
            rows = [row for row in rows if frame[rule.column].duplicated().iloc[row]]
        for row in rows:
            if row not in known:
                reasons.setdefault(int(row), reason)
    return reasons


def _rule_key(kind: str, kwargs: dict[str, Any]) -> str:
    return storage.digest(
        [
            kind,
            {
                name: value
                for name, value in kwargs.items()
                if name in ("column", "value_set", "min_value", "max_value")
            },
        ]
    )
