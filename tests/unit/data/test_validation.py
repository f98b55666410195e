"""Every rule of the columns finds its rows, and nothing of a bad row leaves the source."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import gx_report, tables
from llmops_tasks.data.ingestion import ingest
from llmops_tasks.data.validation import validate
from llmops_tasks.errors import ConfigError, DataError
from llmops_tasks.store import artifacts, digests, objects
from tests.support import small

SECRET = "zebrafish"
# What is wrong with row n, and the reason that must be given. Every bad row holds SECRET in some cell.
FAULTS: list[tuple[dict[str, str], str]] = [
    ({"level": "9"}, "level: unknown label"),
    ({"level": ""}, "level: missing"),
    ({"age": "fortyzebrafish"}, "age: not a number"),
    ({"age": "-1"}, "age: not between 0.0 and 120.0"),
    ({"age": "130.5"}, "age: not between 0.0 and 120.0"),
    ({"age": "nan"}, "age: not a number"),
    ({"seen": "last zebrafish"}, "seen: not a timestamp"),
    ({"seen": ""}, "seen: missing"),
    ({"patient": ""}, "patient: missing"),
    ({"note": SECRET * 300}, "note: longer than 2000 characters"),
    ({"sex": SECRET}, "sex: unknown value"),
    ({"visit": "V0"}, "visit: duplicate"),
    ({"visit": "V0"}, "visit: duplicate"),
]
SEX = {"sex": {"role": "input", "values": ["female", "male"]}}


def _validate(folder: Path, lines: list[str], labelled: bool = True, **data: Any) -> tuple[str, ArtifactRef]:
    header = small.HEADER + ",sex"
    usecase = small.usecase(folder, {"uri": small.csv(folder, lines, header=header)}, SEX, **data)
    return usecase, ingest(usecase=usecase)


def _row(number: int, **values: str) -> str:
    return small.row(number, **{"sex": "female"} | values)


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> tuple[ArtifactRef, str]:
    """Twenty good rows, one bad row for each fault, and one with a field too many; and the log."""
    folder = tmp_path_factory.mktemp("validate")
    good = [_row(n) for n in range(20)]
    bad = [_row(100 + n, **{"phone": SECRET} | fault) for n, (fault, _) in enumerate(FAULTS)]
    patch = pytest.MonkeyPatch()
    patch.setenv("LLMOPS_HOME", str(folder / "home"))
    records: list[logging.LogRecord] = []
    handler = logging.Handler(logging.DEBUG)
    handler.emit = records.append  # type: ignore[method-assign]
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        usecase, ref = _validate(folder, [*good, *bad, _row(500, note=SECRET) + ",more"], max_quarantined=0.9)
        return validate(usecase=usecase, records=ref), "\n".join(record.getMessage() for record in records)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
        patch.undo()


def _quarantine(ref: ArtifactRef) -> list[dict[str, Any]]:
    return list(tables.rows(artifacts.fetch(ref) / "quarantine.parquet"))


def test_every_rule_names_its_rows_and_its_reason(checked: tuple[ArtifactRef, str]) -> None:
    found = {row["row"]: row["reason"] for row in _quarantine(checked[0])}
    expected = {21 + n: reason for n, (_, reason) in enumerate(FAULTS)}
    assert found == expected | {21 + len(FAULTS): "10 fields, the header has 9"}


def test_the_good_rows_are_kept_and_typed(checked: tuple[ArtifactRef, str]) -> None:
    import pandas as pd

    frame = pd.read_parquet(artifacts.fetch(checked[0]) / "records.parquet")
    assert frame["visit"].tolist() == [f"V{n}" for n in range(20)]
    assert frame["age"].dtype == "float64"
    assert str(frame["seen"].dtype).startswith("datetime64") and str(frame["seen"].dt.tz) == "UTC"
    assert frame["_row"].tolist() == [str(n) for n in range(1, 21)]  # where each came from stays with it


def test_of_rows_with_the_same_id_the_first_is_kept(checked: tuple[ArtifactRef, str]) -> None:
    import pandas as pd

    frame = pd.read_parquet(artifacts.fetch(checked[0]) / "records.parquet")
    assert frame.loc[frame["visit"] == "V0", "note"].tolist() == ["sore throat 0"]
    assert sum(row["reason"] == "visit: duplicate" for row in _quarantine(checked[0])) == 2


def test_the_counts_add_up(checked: tuple[ArtifactRef, str]) -> None:
    ref = checked[0]
    assert (ref["rows"], ref["meta"]["quarantined"]) == (20, len(FAULTS) + 1)
    assert sum(ref["meta"]["reasons"].values()) == len(FAULTS) + 1


def _text(page: str) -> str:
    return " ".join(re.sub(r"<style.*?</style>|<[^>]+>", " ", page, flags=re.DOTALL).split())


def test_validating_the_same_records_elsewhere_leaves_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digests = []
    for name in ("one", "two"):
        monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / name))
        usecase, ref = _validate(tmp_path, [_row(n) for n in range(20)])
        digests.append(validate(usecase=usecase, records=ref)["sha256"])
    assert digests[0] == digests[1]


def test_no_value_of_a_bad_row_is_in_docs_quarantine_reference_or_log(checked: tuple[ArtifactRef, str]) -> None:
    ref, log = checked
    folder = artifacts.fetch(ref)
    values = {SECRET, "130.5", "fortyzebrafish", "last zebrafish", "V105", "P107"}
    for path in (path for path in folder.rglob("*") if path.is_file() and path.name != "records.parquet"):
        content = path.read_bytes().decode("utf-8", "ignore")
        if path.suffix == ".parquet":
            content = str(list(tables.rows(path)))
        assert not [value for value in values if re.search(rf"\b{re.escape(value)}", content)], path.name
    assert not [value for value in values if value in log or value in str(ref)]


def test_quarantined_rows_are_found_again_by_their_digest(tmp_path: Path) -> None:
    usecase, records = _validate(tmp_path, [_row(1), _row(2), _row(3, level="9")], max_quarantined=0.5)
    row = _quarantine(validate(usecase=usecase, records=records))[0]
    original = list(tables.rows(artifacts.fetch(records) / "records.parquet"))[2]
    assert (row["source"], row["row"]) == (original.pop("_source"), int(original.pop("_row")))
    assert row["sha256"] == digests.digest(original)


def test_too_many_bad_rows_stop_the_pipeline_but_the_quarantine_is_kept(tmp_path: Path) -> None:
    usecase, records = _validate(tmp_path, [_row(1), _row(2, level="9"), _row(3, level="8")])
    with pytest.raises(
        DataError, match=r"More than 20% of the rows are bad: 1 good rows, 2 .* level: unknown label: 2"
    ):
        validate(usecase=usecase, records=records)
    kept = objects.find(f"{objects.store_uri()}/small/validated/*/quarantine.parquet")
    assert len(kept) == 1
    assert len(list(tables.rows(objects.local_path(kept[0])))) == 2
    with pytest.raises(DataError, match="More than 20%"):
        validate(usecase=usecase, records=records)  # asking again does not let it through


def test_too_few_good_rows_stop_the_pipeline(tmp_path: Path) -> None:
    usecase, records = _validate(tmp_path, [_row(1), _row(2)], min_rows=3)
    with pytest.raises(DataError, match="Fewer than 3 good rows: 2 good rows"):
        validate(usecase=usecase, records=records)


@pytest.mark.parametrize("column", ["visit", "patient", "level"])
def test_a_row_without_id_group_or_label_is_set_aside_whatever_the_use_case_requires(
    tmp_path: Path, column: str
) -> None:
    source = {"uri": small.csv(tmp_path, [small.row(n) for n in range(9)] + [small.row(9, **{column: ""})])}
    usecase = small.usecase(tmp_path, source, {column: {"required": False}})
    ref = validate(usecase=usecase, records=ingest(usecase=usecase))
    assert [(row["row"], row["reason"]) for row in _quarantine(ref)] == [(10, f"{column}: missing")]


def test_a_days_records_are_not_asked_for_labels(tmp_path: Path) -> None:
    usecase, records = _validate(tmp_path, [_row(1, level="", nurse="")])
    ref = validate(usecase=usecase, records=records, labelled=False)
    assert ref["rows"] == 1
    assert "level" not in next(iter(tables.rows(artifacts.fetch(ref) / "records.parquet")))


# ---------------------------------------------------------------- hand-written expectations, samples, changed sources

MEAN = {"type": "expect_column_mean_to_be_between", "column": "age", "min_value": 30, "max_value": 50}


def test_a_hand_written_expectation_that_holds_is_on_the_page(tmp_path: Path) -> None:
    usecase, records = _validate(tmp_path, [_row(n) for n in range(9)], expectations=[MEAN])
    page = artifacts.fetch(validate(usecase=usecase, records=records)) / "data_docs" / "index.html"
    assert "mean must be greater than or equal to 30" in _text(page.read_text(encoding="utf-8"))


def test_one_that_does_not_hold_stops_it_and_keeps_the_page(tmp_path: Path) -> None:
    usecase, records = _validate(tmp_path, [_row(n) for n in range(9)], expectations=[MEAN | {"max_value": 39}])
    with pytest.raises(
        DataError, match=r"of the use case failed: \['expect_column_mean_to_be_between \(age\)'\]. See '.*/data_docs'"
    ):
        validate(usecase=usecase, records=records)
    assert len(objects.find(f"{objects.store_uri()}/small/validated/*/data_docs/index.html")) == 1


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"type": "expect_column_means_to_be_between"}, r"data.expectations.0.type: no expectation .* Did you mean"),
        (
            {"type": "expect_column_mean_to_be_between", "colum": "age"},
            r"data.expectations.0: the arguments do not fit",
        ),
    ],
)
def test_an_expectation_that_cannot_be_is_a_mistake_in_the_use_case(
    tmp_path: Path, entry: dict[str, Any], told: str
) -> None:
    usecase, records = _validate(tmp_path, [_row(0)], expectations=[entry])
    with pytest.raises(ConfigError, match=told):
        validate(usecase=usecase, records=records)


def test_of_many_rows_a_sample_is_shown_and_all_are_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gx_report, "SAMPLE", 10)
    monkeypatch.setattr(tables, "BATCH", 7)  # rows of the sample come from every batch
    lines = [_row(n, age="-1" if n == 23 else "40", visit="V3" if n == 24 else f"V{n}") for n in range(25)]
    usecase, records = _validate(tmp_path, lines)
    ref = validate(usecase=usecase, records=records)
    page = (artifacts.fetch(ref) / "data_docs" / "index.html").read_text(encoding="utf-8")
    assert "small: 9 of 25 rows, evenly spaced" in page
    assert {row["row"] for row in _quarantine(ref)} == {24, 25}


def test_a_column_of_another_type_is_reported_as_such(tmp_path: Path) -> None:
    usecase, records = _validate(tmp_path, [_row(n, age="forty") for n in range(9)])
    with pytest.raises(DataError, match="~ age: number in the use case, text in the source"):
        validate(usecase=usecase, records=records)


def test_a_source_with_another_column_stops_with_the_difference(tmp_path: Path) -> None:
    usecase, records = _validate(tmp_path, [_row(n) for n in range(9)])
    validate(usecase=usecase, records=records)
    small.csv(tmp_path, [_row(n) + ",west" for n in range(9)], header=small.HEADER + ",sex,wing")
    with pytest.raises(DataError, match=r"\+ 'wing' is new"):
        validate(usecase=usecase, records=ingest(usecase=usecase))
