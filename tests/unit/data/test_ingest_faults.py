"""Power cuts, full disks and files from hell: each ends in a defined outcome."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import tables
from llmops_tasks.data.ingestion import MAX_CELL, ingest
from llmops_tasks.errors import SourceError, StorageError
from llmops_tasks.store import artifacts, objects
from tests.support import small


def _good(ref: ArtifactRef) -> list[dict[str, Any]]:
    return list(tables.rows(artifacts.fetch(ref) / "records.parquet"))


def _bad(ref: ArtifactRef) -> list[tuple[int, str]]:
    return [(row["row"], row["reason"]) for row in tables.rows(artifacts.fetch(ref) / "rejected.parquet")]


def _ingest(tmp_path: Path, content: str | bytes, **source: Any) -> ArtifactRef:
    data = content.encode() if isinstance(content, str) else content
    (tmp_path / "rows.csv").write_bytes(data)
    return ingest(usecase=small.usecase(tmp_path, {"uri": f"file://{tmp_path}/rows.csv", **source}))


def _csv(*rows: str) -> str:
    return "\n".join([small.HEADER, *rows, ""])


# ---------------------------------------------------------------- full disks (T12)


def _nothing_published() -> bool:
    return objects.find(f"{objects.store_uri()}/small/*/*/*") == []


@contextmanager
def _no_file_larger_than(limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_while_rows_are_written_is_a_storage_error(tmp_path: Path) -> None:
    usecase = small.usecase(tmp_path, {"uri": f"file://{tmp_path}/rows.csv"})
    small.csv(tmp_path, [small.row(n, note=f"{n} {hash(n) * 7919}") for n in range(15_000)])
    whole = _whole_size(usecase)
    for limit in [0, 1, 4, 100, *range(1000, whole, whole // 12), whole - 1]:
        with _no_file_larger_than(limit), pytest.raises(StorageError, match="Free space"):
            ingest(usecase=usecase)
        assert _nothing_published()
    assert len(_good(ingest(usecase=usecase))) == 15_000


def _whole_size(usecase: str) -> int:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setenv("LLMOPS_HOME", folder)
        return (artifacts.fetch(ingest(usecase=usecase)) / "records.parquet").stat().st_size


CALLS: list[tuple[Any, str]] = [
    (os, "open"), (os, "fsync"), (os, "link"), (os, "mkdir"), (os, "rename"), (Path, "write_bytes"), (Path, "rename"),
    (Path, "mkdir"), (tempfile, "mkdtemp"), (shutil, "move"),
]  # fmt: skip


def _failing_at(patch: pytest.MonkeyPatch, nth: int) -> list[str]:
    """Make the nth call of the operating system that needs space fail; returns the calls seen."""
    seen: list[str] = []

    def wrapped(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            seen.append(name)
            if len(seen) == nth:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return call(*args, **kwargs)

        return run

    for owner, name in CALLS:
        patch.setattr(owner, name, wrapped(name, getattr(owner, name)))
    return seen


@pytest.mark.parametrize("mode", ["none", "objects"])
def test_whichever_call_finds_the_disk_full_nothing_half_is_published(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    source = {"uri": f"file://{tmp_path}/rows.csv", "incremental": mode}
    usecase = small.usecase(tmp_path, source)
    small.csv(tmp_path, [small.row(n) for n in range(5)])
    for nth in range(1, 200):
        monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / str(nth)))
        with pytest.MonkeyPatch.context() as patch:
            seen = _failing_at(patch, nth)
            try:
                ref = ingest(usecase=usecase)
            except StorageError:
                ref = None
        for uri in objects.find(f"{objects.store_uri()}/small/records*/*/{artifacts.MANIFEST}"):
            artifacts.fetch_at(uri.removesuffix(f"/{artifacts.MANIFEST}"))
        assert len(_good(ingest(usecase=usecase))) == 5
        if ref is not None and len(seen) < nth:
            return
    raise AssertionError("every run failed")


# ---------------------------------------------------------------- files from hell


def test_a_cell_of_5_mb_costs_its_row_only(tmp_path: Path) -> None:
    """T18."""
    ref = _ingest(tmp_path, _csv(small.row(1, note="x" * 5_000_000), small.row(2)))
    assert [row["visit"] for row in _good(ref)] == ["V2"]
    assert _bad(ref) == [(1, f"a cell of more than {MAX_CELL} characters")]


@pytest.mark.parametrize("evil", ["a" * 200_000 + "!", '""' * 100_000, "(" * 200_000, "1" * 200_000, "\\" * 200_000])
def test_a_row_made_to_slow_patterns_down_takes_no_longer(tmp_path: Path, evil: str) -> None:
    """T18."""
    started = time.process_time()  # not the clock's: neighbours would count
    ref = _ingest(tmp_path, _csv(small.row(1, note=f'"{evil}"', age=evil.replace('"', "")), small.row(2)))
    assert len(_good(ref)) == 2
    assert time.process_time() - started < 10


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("\n", "has one column"),
        (small.HEADER, "no row that can be read"),
        (f"{small.HEADER}\n\n\n", r"no row that can be read \(0 could not\)"),
    ],
)
def test_a_file_without_rows_is_an_error(tmp_path: Path, content: str, message: str) -> None:
    """T19."""
    with pytest.raises(SourceError, match=message):
        _ingest(tmp_path, content)
    assert _nothing_published()


def test_a_file_without_rows_among_others_is_no_error(tmp_path: Path) -> None:
    """T19."""
    small.csv(tmp_path, [], "a.csv")
    small.csv(tmp_path, [small.row(1)], "b.csv")
    assert len(_good(ingest(usecase=small.usecase(tmp_path, {"uri": f"file://{tmp_path}/*.csv"})))) == 1


def test_one_row_without_a_line_end_is_a_dataset(tmp_path: Path) -> None:
    """T19."""
    assert _good(_ingest(tmp_path, f"{small.HEADER}\n{small.row(1)}"))[0]["nurse"] == "2"


def test_a_column_without_values_and_repeated_ids_are_for_validation(tmp_path: Path) -> None:
    """T19."""
    rows = _good(_ingest(tmp_path, _csv(small.row(1, age=""), small.row(1, age=""), small.row(1, age=""))))
    assert [(row["visit"], row["age"], row["_row"]) for row in rows] == [("V1", None, str(n)) for n in (1, 2, 3)]


ODD = {
    "zero width": "a\u200bb\u200cc\u200dd\ufeffe\u2060f",
    "right to left": "\u202eabc\u202c \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u2067x\u2069",
    "other line ends": '"a\x0bb\x0cc\x1cd\x1de\x1ef\x85g\u2028h\u2029i"',
    "quoted line ends": '"one\r\ntwo\nthree\rfour"',
    "combining": "e\u0301 \U0001f469\u200d\U0001f4bb \U00020000 \uffff",
    "controls": "\x01\x02\x07\x08\x1b[31m\x7f\x80",
    "formula": "'=cmd|x'!A1",
    "spaces": " \t\xa0\u3000 a ",
}


@pytest.mark.parametrize("note", ODD.values(), ids=ODD)
def test_odd_characters_are_kept_byte_for_byte(tmp_path: Path, note: str) -> None:
    """T20."""
    ref = _ingest(tmp_path, b"\xef\xbb\xbf" + _csv(small.row(1, note=note), small.row(2)).encode())
    wanted = note.strip('"') if note.startswith('"') else note
    assert [row["note"].encode() for row in _good(ref)] == [wanted.encode(), b"sore throat 2"]
    assert _good(ref)[0]["visit"] == "V1"


def test_nul_bytes_and_mixed_line_ends_in_one_file(tmp_path: Path) -> None:
    """T20."""
    with_nul = small.row(1, note="a\0b")
    ref = _ingest(tmp_path, f"{small.HEADER}\r\n{with_nul}\r\n{small.row(2)}\n\n{small.row(3)}\r\n")
    assert [(row["visit"], row["note"], row["nurse"]) for row in _good(ref)] == [
        ("V2", "sore throat 2", "2"),
        ("V3", "sore throat 3", "2"),
    ]
    assert _bad(ref) == [(1, "a NUL character")]


@pytest.mark.parametrize("format", ["jsonl", "json", "text"])
def test_a_nul_costs_its_row_in_every_format(tmp_path: Path, format: str) -> None:
    """T20: databases refuse it, and a letter in its place would be made up."""
    texts = ["one", "a\0b", "two"]
    content = {"json": json.dumps([{"text": text} for text in texts])}.get(
        format, "\n".join(json.dumps({"text": text}) if format == "jsonl" else text for text in texts)
    )
    columns = {name: {"source": "_id" if name == "visit" else "text"} for name in small.COLUMNS}
    (tmp_path / "rows").write_text(content, encoding="utf-8")
    source = {"uri": f"file://{tmp_path}/rows", "format": format}
    ref = ingest(usecase=small.usecase(tmp_path, source, columns))
    assert [row["note"] for row in _good(ref)] == ["one", "two"]
    assert _bad(ref) == [(2, "a NUL character")]


@pytest.mark.parametrize(
    "content", [bytes(1000), bytes(range(256)) * 40, b"\xff\xfe" + b"a" * 999, b"\x1f\x8b\x08" * 99]
)
@pytest.mark.parametrize("format", ["csv", "jsonl", "json", "parquet", "text"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_bytes_that_are_no_data_at_all_are_a_source_error(
    tmp_path: Path, content: bytes, format: str, encoding: str
) -> None:
    with pytest.raises(SourceError):
        _ingest(tmp_path, content, format=format, encoding=encoding)
    assert _nothing_published()
