"""The use case's rules as a Great Expectations suite, with its hand-written expectations.

The suite runs on all rows, or on a sample of evenly spaced ones where there are more than SAMPLE; every row is
judged by `row_checks`, which find the same. Of what an expectation finds, counts and row numbers are kept; a value that it
saw is withheld, unless its column has a closed list of `values` and it is one of them: an extreme, a quantile or a most
common value belongs to a record. So an allow-list decides what is kept, not a list of revealing expectations.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks.config import Column
from llmops_tasks.data import data_docs
from llmops_tasks.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    import pandas as pd

SAMPLE = 10_000  # rows
ROW = "_index"  # position in the sample
# Row numbers, never values: a failing value belongs to a record.
_RESULT_FORMAT = {
    "result_format": "COMPLETE",
    "unexpected_index_column_names": [ROW],
    "exclude_unexpected_values": True,
    "return_unexpected_index_query": False,
}


_COUNTS = (
    "element_count", "missing_count", "missing_percent", "unexpected_count", "unexpected_percent",
    "unexpected_percent_total", "unexpected_percent_nonmissing",
)  # fmt: skip
WITHHELD = "withheld"


def suite(columns: dict[str, Column], labels: list[str]) -> list[tuple[str, Any]]:
    """(reason, expectation) for every rule of the columns."""
    import great_expectations.expectations as gxe

    found: list[tuple[str, Any]] = []
    for name, column in columns.items():
        if column.needed:
            found.append((f"{name}: missing", gxe.ExpectColumnValuesToNotBeNull(column=name)))
        if column.role == "id":
            found.append((f"{name}: duplicate", gxe.ExpectColumnValuesToBeUnique(column=name)))
        if column.min is not None or column.max is not None:
            rule = gxe.ExpectColumnValuesToBeBetween(column=name, min_value=column.min, max_value=column.max)
            found.append((f"{name}: not between {column.min} and {column.max}", rule))
        if column.values is not None:
            rule = gxe.ExpectColumnValuesToBeInSet(column=name, value_set=column.values)
            found.append((f"{name}: unknown value", rule))
        if column.role == "label" and labels:  # an answer that is written freely has no closed set
            rule = gxe.ExpectColumnValuesToBeInSet(column=name, value_set=labels)
            found.append((f"{name}: unknown label", rule))
        if column.max_length is not None:
            rule = gxe.ExpectColumnValueLengthsToBeBetween(column=name, max_value=column.max_length)
            found.append((f"{name}: longer than {column.max_length} characters", rule))
    return found


def written(expectations: list[dict[str, Any]]) -> list[Any]:
    """The expectations that stand in the use case: {type: expect_column_..., column: ..., ...}.

    Raises:
        ConfigError: if there is no such expectation, or its arguments do not fit.
    """
    import great_expectations.expectations as gxe

    known = {kind.expectation_type: kind for kind in vars(gxe).values() if hasattr(kind, "expectation_type")}
    found = []
    for place, entry in enumerate(expectations):
        name = str(entry.get("type"))
        if name not in known:
            raise ConfigError(f"data.expectations.{place}.type: no expectation '{name}'.{did_you_mean(name, known)}")
        try:
            found.append(known[name](**{key: value for key, value in entry.items() if key != "type"}))
        except (ValueError, TypeError) as exc:
            raise ConfigError(f"data.expectations.{place}: the arguments do not fit '{name}'. See its page.") from exc
    return found


def run(
    frame: pd.DataFrame,
    rules: list[tuple[str, Any]],
    more: list[Any],
    docs: Path,
    title: str,
    closed: Mapping[str, list[str]] | None = None,
) -> dict[str, list[int]]:
    """Run the suite once and write Data Docs.

    Args:
        frame: typed columns, and ROW.
        rules: from `suite`.
        more: from `written`.
        docs: a folder for the page.
        title: of the page.
        closed: columns with a closed list of values, and these; no other value is shown.

    Returns:
        For every rule's reason the rows that break it, and for every broken expectation of `more` its type.

    Raises:
        DataError: if an expectation cannot run on these columns.
    """
    result = checked(frame, [*(rule for _, rule in rules), *more])
    withhold(result, closed or {}, list(frame.columns))
    data_docs.write(result, title, docs)
    by_key = {_key(item.expectation_config.type, item.expectation_config.kwargs): item for item in result.results}
    named = [*rules, *((f"{rule.expectation_type} ({getattr(rule, 'column', 'table')})", rule) for rule in more)]
    return {reason: rows for reason, rule in named if (rows := broken_rows(reason, by_key[_key_of(rule)])) is not None}


def withhold(result: Any, closed: Mapping[str, list[str]], names: list[str]) -> None:
    """Keep of each result only what reveals no record: counts, row numbers, the table's shape, values of a closed list.

    Args:
        result: of a suite; it is changed.
        closed: the lists, by column.
        names: of all columns, which the use case has given them.
    """
    for item in result.results:
        found, kwargs = item.result, item.expectation_config.kwargs
        kept = {name: found[name] for name in _COUNTS if isinstance(found.get(name), int | float)}
        if rows := found.get("unexpected_index_list"):
            kept["unexpected_index_list"] = [{ROW: entry[ROW]} for entry in rows]
        words = names if item.expectation_config.type.startswith("expect_table_") else _words(kwargs, closed)
        if words is not None and "observed_value" in found:
            kept["observed_value"] = _shown(found["observed_value"], words)
        item.result, item.rendered_content = kept, None
        raised = item.exception_info.get("raised_exception") or any(
            isinstance(info, dict) and info.get("raised_exception") for info in item.exception_info.values()
        )
        told = WITHHELD if raised else None
        item.exception_info = {"raised_exception": raised, "exception_message": told, "exception_traceback": told}


def _words(kwargs: Mapping[str, Any], closed: Mapping[str, list[str]]) -> list[str] | None:
    """The words that may be shown of what an expectation saw; None if nothing may."""
    named = [kwargs[name] for name in ("column", "column_A", "column_B") if name in kwargs]
    words = [closed.get(name) for name in [*named, *(kwargs.get("column_list") or [])]]
    return None if None in words or not words else [word for part in words for word in part or []]


def _shown(value: Any, words: list[str]) -> Any:
    if isinstance(value, list | tuple | set):
        return [_shown(part, words) for part in value]
    return value if value is None or isinstance(value, int | float) or value in words else WITHHELD


def checked(frame: pd.DataFrame, expectations: list[Any]) -> Any:
    """Great Expectations' own result of checking a frame with typed columns and ROW."""
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.CRITICAL)  # its warnings quote the cell that it fell over
    import great_expectations as gx

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    batch = (
        context.data_sources.add_pandas("records")
        .add_dataframe_asset("rows")
        .add_batch_definition_whole_dataframe("all")
    )
    wanted = context.suites.add(gx.ExpectationSuite(name="columns", expectations=expectations))
    check = context.validation_definitions.add(gx.ValidationDefinition(name="columns", data=batch, suite=wanted))
    try:
        return check.run(batch_parameters={"dataframe": frame}, result_format=_RESULT_FORMAT)
    except (gx.exceptions.GreatExpectationsError, ValueError, TypeError, LookupError, AttributeError) as exc:
        failed = type(exc).__name__  # its words may quote a cell
    raise DataError(f"Great Expectations could not run: {failed}. Check data.expectations against the columns' types.")


def broken_rows(reason: str, result: Any) -> list[int] | None:
    """The rows that break an expectation; empty for one that is not about rows; None if it holds."""
    if result.exception_info.get("raised_exception"):
        raise DataError(f"The check '{reason}' could not run. Check the column's name and type in the use case.")
    if result.success:
        return None
    found = result.result.get("unexpected_index_list") or []  # [{ROW: [row, ...]}], as values are left out
    return sorted(row for entry in found for row in entry[ROW])


def _key_of(rule: Any) -> str:
    return _key(rule.expectation_type, rule.configuration.kwargs)


def _key(kind: str, kwargs: dict[str, Any]) -> str:
    from llmops_tasks.store.digests import digest

    meant = {name: value for name, value in kwargs.items() if name not in ("batch_id", "meta_properties_to_render")}
    return digest([kind, {name: value for name, value in meant.items() if value is not None}])
