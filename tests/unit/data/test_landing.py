"""What was read before is not read again, and stays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import formats, tables
from llmops_tasks.data.ingestion import ingest
from llmops_tasks.errors import ConflictError, SourceError, StorageError
from llmops_tasks.store import artifacts, objects
from tests.support import small


def _usecase(tmp_path: Path, mode: str, pattern: str = "in/*.csv", **columns: dict[str, Any]) -> str:
    (tmp_path / "in").mkdir(exist_ok=True)
    return small.usecase(tmp_path, {"uri": f"file://{tmp_path}/{pattern}", "incremental": mode}, columns)


def _write(tmp_path: Path, name: str, *numbers: int, **values: str) -> None:
    small.csv(tmp_path / "in", [small.row(n, seen=f"2026-01-{n:02d}T10:00:00Z", **values) for n in numbers], name)


def _visits(ref: ArtifactRef) -> list[str]:
    return [row["visit"] for row in tables.rows(artifacts.fetch(ref) / "records.parquet")]


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were parsed."""
    names: list[str] = []
    rows = formats.rows

    def counting(source: Any, uri: str) -> Any:
        names.append(uri.rsplit("/", 1)[1])
        return rows(source, uri)

    monkeypatch.setattr(formats, "rows", counting)
    return names


def test_a_new_file_alone_is_parsed_and_the_records_are_in_order_of_addresses(
    tmp_path: Path, parsed: list[str]
) -> None:
    usecase = _usecase(tmp_path, "objects")
    _write(tmp_path, "b.csv", 2)
    _write(tmp_path, "d.csv", 4)
    assert _visits(ingest(usecase=usecase)) == ["V2", "V4"]
    _write(tmp_path, "a.csv", 1)
    _write(tmp_path, "c.csv", 3)
    ref = ingest(usecase=usecase)
    assert _visits(ref) == ["V1", "V2", "V3", "V4"]
    assert parsed == ["b.csv", "d.csv", "a.csv", "c.csv"]
    assert (ref["rows"], ref["meta"]["rejected"], ref["meta"]["files"]) == (4, 0, 4)


@pytest.mark.parametrize("mode", ["objects", "watermark"])
def test_nothing_new_is_no_work_and_the_same_artifact(tmp_path: Path, parsed: list[str], mode: str) -> None:
    usecase = _usecase(tmp_path, mode)
    _write(tmp_path, "a.csv", 1, 2)
    first = ingest(usecase=usecase)
    written = _written()
    assert ingest(usecase=usecase) == first
    (tmp_path / "in" / "a.csv").touch()
    assert ingest(usecase=usecase) == first
    assert parsed == ["a.csv"]
    assert _written() == written


def _written() -> dict[Path, int]:
    """Everything in the store, but the note that somebody looked."""
    paths = objects.local_path(objects.store_uri()).rglob("*")
    return {path: path.stat().st_mtime_ns for path in paths if "landed" not in path.parts}


@pytest.mark.parametrize("mode", ["objects", "watermark"])
def test_a_file_that_is_gone_stays_in_the_dataset(tmp_path: Path, parsed: list[str], mode: str) -> None:
    usecase = _usecase(tmp_path, mode)
    _write(tmp_path, "a.csv", 1)
    _write(tmp_path, "b.csv", 2)
    first = ingest(usecase=usecase)
    (tmp_path / "in" / "a.csv").unlink()
    assert ingest(usecase=usecase) == first
    (tmp_path / "in" / "b.csv").unlink()
    _write(tmp_path, "c.csv", 3)
    assert _visits(ingest(usecase=usecase)) == ["V1", "V2", "V3"]
    (tmp_path / "in" / "c.csv").unlink()
    assert _visits(ingest(usecase=usecase)) == ["V1", "V2", "V3"]
    assert parsed == ["a.csv", "b.csv", "c.csv"]


def test_with_objects_new_content_takes_the_place_of_the_old(tmp_path: Path) -> None:
    usecase = _usecase(tmp_path, "objects")
    _write(tmp_path, "a.csv", 1)
    _write(tmp_path, "b.csv", 2)
    first = ingest(usecase=usecase)
    _write(tmp_path, "a.csv", 5, 6)
    assert _visits(ingest(usecase=usecase)) == ["V5", "V6", "V2"]
    _write(tmp_path, "a.csv", 1)
    assert ingest(usecase=usecase) == first


def test_with_objects_other_columns_read_what_is_still_there_anew(tmp_path: Path, parsed: list[str]) -> None:
    _write_both = _usecase(tmp_path, "objects")
    _write(tmp_path, "a.csv", 1)
    _write(tmp_path, "b.csv", 2)
    ingest(usecase=_write_both)
    (tmp_path / "in" / "a.csv").unlink()
    usecase = _usecase(tmp_path, "objects", nurse={"words": {"2": "two"}}, extra={"role": "ignore"})
    rows = list(tables.rows(artifacts.fetch(ingest(usecase=usecase)) / "records.parquet"))
    assert [(row["visit"], row["nurse"], row["extra"]) for row in rows] == [("V1", "2", None), ("V2", "two", None)]
    assert parsed == ["a.csv", "b.csv", "b.csv"]


def test_with_a_watermark_only_rows_that_were_not_read_are_new(tmp_path: Path) -> None:
    usecase = _usecase(tmp_path, "watermark")
    _write(tmp_path, "day.csv", 1, 3, 2)
    assert _visits(ingest(usecase=usecase)) == ["V1", "V3", "V2"]
    _write(tmp_path, "day.csv", 2, 3, 4, 5)
    _write(tmp_path, "late.csv", 1, 6)
    assert _visits(ingest(usecase=usecase)) == ["V1", "V3", "V2", "V4", "V5", "V6"]
    _write(tmp_path, "day.csv", 6, 7)
    assert _visits(ingest(usecase=usecase)) == ["V1", "V3", "V2", "V4", "V5", "V7", "V6"]


def test_a_run_that_died_before_its_journal_entry_is_taken_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parsed: list[str]
) -> None:
    usecase = _usecase(tmp_path, "watermark")
    _write(tmp_path, "a.csv", 5)
    _write(tmp_path, "b.csv", 1)

    def power_cut(uri: str, data: bytes) -> None:
        raise StorageError("power cut")

    with monkeypatch.context() as patch, pytest.raises(StorageError, match="power cut"):
        patch.setattr(objects, "create", power_cut)
        ingest(usecase=usecase)
    assert _visits(ingest(usecase=usecase)) == ["V5", "V1"]
    assert parsed == ["a.csv", "b.csv"]


def test_of_two_runs_at_once_the_second_begins_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usecase = _usecase(tmp_path, "watermark")
    _write(tmp_path, "a.csv", 1, 9)
    create, calls = objects.create, []

    def other_run_first(uri: str, data: bytes) -> None:
        calls.append(uri)
        if len(calls) == 1:
            (tmp_path / "in" / "b.csv").rename(tmp_path / "b.csv")
            ingest(usecase=usecase)  # of a.csv alone
            (tmp_path / "b.csv").rename(tmp_path / "in" / "b.csv")
        create(uri, data)

    _write(tmp_path, "b.csv", 2, 10)
    monkeypatch.setattr(objects, "create", other_run_first)
    assert _visits(ingest(usecase=usecase)) == ["V1", "V9", "V2", "V10"]
    monkeypatch.setattr(objects, "create", lambda uri, data: (_ for _ in ()).throw(ConflictError("taken")))
    _write(tmp_path, "c.csv", 11)
    with pytest.raises(ConflictError, match="Let one run at a time ingest"):
        ingest(usecase=usecase)


def test_the_journal_only_grows(tmp_path: Path) -> None:
    usecase = _usecase(tmp_path, "objects")
    kept: dict[str, bytes] = {}
    for number in (1, 2, 3):
        _write(tmp_path, f"{number}.csv", number)
        ingest(usecase=usecase)
        found = objects.find(f"{objects.store_uri()}/small/ingested/*")
        assert len(found) == number and [objects.read_bytes(uri) for uri in kept] == list(kept.values())
        kept = {uri: objects.read_bytes(uri) for uri in found}


@pytest.mark.parametrize("mode", ["objects", "watermark"])
def test_nothing_there_and_nothing_readable_are_errors(tmp_path: Path, mode: str) -> None:
    usecase = _usecase(tmp_path, mode)
    with pytest.raises(SourceError, match="No file matches"):
        ingest(usecase=usecase)
    (tmp_path / "in" / "a.csv").write_text(f"{small.HEADER}\nV1\n")
    with pytest.raises(SourceError, match=r"no row that can be read \(1 could not\)"):
        ingest(usecase=usecase)
    _write(tmp_path, "b.csv", 2)
    ref = ingest(usecase=usecase)
    assert (_visits(ref), ref["meta"]["rejected"]) == (["V2"], 1)


def test_a_day_is_always_read_whole(tmp_path: Path, parsed: list[str]) -> None:
    usecase = _usecase(tmp_path, "watermark", "in/rows.csv")
    _write(tmp_path, "rows.csv", 9)
    ingest(usecase=usecase)
    _write(tmp_path, "rows-2026-01-05.csv", 5)
    assert _visits(ingest(usecase=usecase, date="2026-01-05")) == ["V5"]
    assert len(objects.find(f"{objects.store_uri()}/small/ingested/*")) == 1


@pytest.mark.parametrize("mode", ["none", "objects"])
def test_a_file_that_changes_while_it_is_read_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    usecase = _usecase(tmp_path, mode)
    _write(tmp_path, "a.csv", 1)
    rows = formats.rows

    def growing(source: Any, uri: str) -> Any:
        yield from rows(source, uri)
        _write(tmp_path, "a.csv", 1, 2)

    with monkeypatch.context() as patch, pytest.raises(StorageError, match="was changed while it was read"):
        patch.setattr(formats, "rows", growing)
        ingest(usecase=usecase)
    assert _visits(ingest(usecase=usecase)) == ["V1", "V2"]


def test_incremental_reading_works_on_s3(tmp_path: Path, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    usecase = small.usecase(tmp_path, {"uri": "s3://bucket/in/*.csv", "incremental": "objects"})
    for number in (1, 2):
        body = "\n".join([small.HEADER, small.row(number)]).encode()
        s3.put_object(Bucket="bucket", Key=f"in/{number}.csv", Body=body)
        ref = ingest(usecase=usecase)
    assert _visits(ref) == ["V1", "V2"]
    s3.delete_object(Bucket="bucket", Key="in/1.csv")
    assert ingest(usecase=usecase) == ref
