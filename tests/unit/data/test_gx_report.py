"""No value of a record leaves a check, whichever expectation looked at it."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.config import Column
from llmops_tasks.data import gx_report
from llmops_tasks.data.ingestion import ingest
from llmops_tasks.data.validation import validate
from llmops_tasks.errors import DataError
from tests.support import small

# Every cell of these columns is a token that stands nowhere else.
NAMES = ["Zeldaquux", "Vroomfondel", "Zeldaquux", "Majikthise", "Slartibart"]
NOTES = ["zebrafishitis", "quokkapathy", "zebrafishitis", "wombatosis", "zebrafishitis"]
AGES = [71.4142, 73.1732, 71.4142, 72.2361, 97.1618]
OTHER = [31.4142, 33.1732, 31.4142, 32.2361, 57.1618]
SEX = ["female", "male", "Gagravarr", "male", "female"]  # one of them is in the wrong column
SECRET = [*NAMES, *NOTES, *(str(number) for number in [*AGES, *OTHER]), "Gagravarr", "71.41", "97.16", "31.41"]
# What an expectation asks for besides its columns; all ask for what does not hold.
ASKED: dict[str, Any] = {
    "value_set": ["nobody"], "value_pairs_set": [("nobody", "nothing")], "value": 3, "type_": "int64", "sum_total": 1,
    "quantile_ranges": {"quantiles": [0, 0.5, 1], "value_ranges": [[0, 1], [0, 1], [0, 1]]}, "threshold": 0.1,
    "double_sided": True, "json_schema": {"type": "object"}, "like_pattern": "x%", "like_pattern_list": ["x%"],
    "regex": "^x$", "regex_list": ["^x$"], "strftime_format": "%Y", "type_list": ["int64"], "min_value": 1, "max_value": 2,
    "partition_object": {"values": ["nobody", "none"], "weights": [0.5, 0.5]}, "column_set": ["x"], "column_list": ["x"],
    "base_query": "select 1", "comparison_query": "select 1", "comparison_data_source_name": "x",
    "unexpected_rows_query": "select * from {batch}", "other_table_name": "x", "method": "iqr", "multiplier": 0.1,
    "mostly": 1.0,
}  # fmt: skip

# These take a whole suite down with them when their arguments do not fit the column.
FRAGILE = ("expect_column_kl_divergence_to_be_less_than", "expect_column_quantile_values_to_be_between")


def _frame() -> Any:
    import pandas as pd

    columns = {"who": NAMES, "note": NOTES, "age": AGES, "other": OTHER, "sex": SEX}
    return pd.DataFrame({**columns, gx_report.ROW: range(len(NAMES))})


def _suites() -> list[list[Any]]:
    """Every expectation of the installed version, over words and over numbers, with and without what is optional."""
    import great_expectations.expectations  # noqa: F401  (registers them)
    from great_expectations.expectations import registry

    suites: list[list[Any]] = []
    for one, two in (("who", "note"), ("age", "other"), ("sex", "who"), ("absent", "who")):
        for whole in (True, False)[one == "absent" :]:
            kinds = map(registry.get_expectation_impl, registry.list_registered_expectation_implementations())
            suite = [built for kind in kinds if (built := _built(kind, one, two, whole))]
            alone = [built for built in suite if built.expectation_type in FRAGILE]
            suites += [[built for built in suite if built not in alone], *([built] for built in alone)]
    return suites


def _built(kind: Any, one: str, two: str, whole: bool) -> Any:
    """An expectation on these columns, or None where these arguments do not fit it."""
    fields = kind.__fields__
    asked = {key: value for key, value in ASKED.items() if key in fields and (whole or fields[key].required)}
    columns = {"column": one, "column_A": one, "column_B": two, "column_list": [one, two]}
    try:
        return kind(**{**asked, **{key: value for key, value in columns.items() if key in fields}})
    except (ValueError, TypeError):
        return None


def _checked(suite: list[Any]) -> Any:
    """The result, or None where Great Expectations fell over beyond its own nets."""
    try:
        return gx_report.checked(_frame(), suite)
    except DataError as exc:
        assert not _leaks(repr(exc)) and exc.__context__ is None
        assert len(suite) == 1
        return None


def test_no_cell_leaves_any_expectation_of_the_installed_version(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    from great_expectations.expectations import registry

    tried, saw, ran = set[str](), set[str](), set[str]()
    with caplog.at_level(logging.DEBUG):
        for place, suite in enumerate(_suites()):
            tried |= {expectation.expectation_type for expectation in suite}
            if (result := _checked(suite)) is None:
                continue
            saw |= {item.expectation_config.type for item in result.results if _leaks(str(item.to_json_dict()))}
            ran |= {item.expectation_config.type for item in result.results if item.result}
            gx_report.withhold(result, {"sex": ["female", "male"]}, list(_frame().columns))
            gx_report.data_docs.write(result, "t", tmp_path / str(place))
            page = (tmp_path / str(place) / "index.html").read_text("utf-8")
            for item in result.results:
                assert not _leaks(json.dumps(item.to_json_dict())), item.expectation_config.type
            assert not _leaks(page + json.dumps(result.to_json_dict()))
    assert tried == set(registry.list_registered_expectation_implementations())
    assert {"expect_column_distinct_values_to_equal_set", "expect_column_most_common_value_to_be_in_set"} <= saw
    assert len(ran) > 45  # of 59: the others ask databases
    assert not _leaks(caplog.text)
    assert not _leaks("".join(capfd.readouterr()))


def _leaks(text: str) -> list[str]:
    return [secret for secret in SECRET if secret in text]


def test_words_of_a_closed_list_are_shown_and_those_that_are_not_on_it_withheld() -> None:
    import great_expectations.expectations as gxe

    result = gx_report.checked(_frame(), [gxe.ExpectColumnMostCommonValueToBeInSet(column="sex", value_set=["x"])])
    gx_report.withhold(result, {"sex": ["female"]}, [])
    assert sorted(result.results[0].result["observed_value"]) == ["female", gx_report.WITHHELD]


def test_the_tables_own_numbers_are_shown() -> None:
    import great_expectations.expectations as gxe

    result = gx_report.checked(_frame(), [gxe.ExpectTableRowCountToEqual(value=9)])
    gx_report.withhold(result, {}, [])
    assert result.results[0].result["observed_value"] == len(NAMES)


@pytest.mark.parametrize(
    "kind", ["expect_column_distinct_values_to_equal_set", "expect_column_most_common_value_to_be_in_set"]
)
def test_a_hand_written_expectation_prints_no_name_and_no_diagnosis(tmp_path: Path, kind: str) -> None:
    from llmops_tasks.store import objects

    rows = [small.row(n, note="zebrafishitis", patient="Zeldaquux") for n in range(9)]
    more = [{"type": kind, "column": column, "value_set": ["x"]} for column in ("note", "patient")]
    usecase = small.usecase(tmp_path, {"uri": small.csv(tmp_path, rows)}, expectations=more)
    with pytest.raises(DataError, match="of the use case failed") as caught:
        validate(usecase=usecase, records=ingest(usecase=usecase))
    pages = objects.find(f"{objects.store_uri()}/small/validated/*/data_docs/index.html")
    assert len(pages) == 1
    assert not _leaks(objects.read_bytes(pages[0]).decode() + repr(caught.value))


def test_an_expectation_that_cannot_run_is_reported_without_what_it_said(tmp_path: Path) -> None:
    more = [{"type": "expect_column_mean_to_be_between", "column": "note", "min_value": 1}]
    usecase = small.usecase(
        tmp_path, {"uri": small.csv(tmp_path, [small.row(1, note="zebrafishitis")])}, expectations=more
    )
    with pytest.raises(DataError, match="could not run") as caught:
        validate(usecase=usecase, records=ingest(usecase=usecase))
    assert not _leaks(repr(caught.value)) and caught.value.__context__ is None


def test_a_check_of_the_page_that_no_row_check_knows_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would show red and stop nothing."""
    suite = gx_report.suite

    def longer(columns: dict[str, Column], labels: list[str]) -> list[tuple[str, Any]]:
        import great_expectations.expectations as gxe

        return [
            *suite(columns, labels),
            ("note: no words", gxe.ExpectColumnValuesToMatchRegex(column="note", regex="a")),
        ]

    usecase = small.usecase(tmp_path, {"uri": small.csv(tmp_path, [small.row(1)])})
    records = ingest(usecase=usecase)
    with monkeypatch.context() as patch, pytest.raises(DataError, match=r"\['note: no words'\], which no row check"):
        patch.setattr(gx_report, "suite", longer)
        validate(usecase=usecase, records=records)
    assert validate(usecase=usecase, records=records)["rows"] == 1
