"""Local copies are checked once, repaired when damaged, and dropped when room is short; their source is never blamed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.errors import InputError, IntegrityError
from llmops_tasks.store import cache, digests, files, objects

MIB = 2**20


@pytest.fixture
def downloads(s3: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was downloaded so far."""
    found: list[str] = []
    download = objects.download_file
    monkeypatch.setattr(cache, "download_file", lambda uri, *more: found.append(uri) or download(uri, *more))
    return found


def _stored(name: str, data: bytes) -> dict[str, cache.Piece]:
    objects.replace(f"s3://bucket/{name}", data)
    return {"deep/data": cache.Piece(f"s3://bucket/{name}", digests.digest(data), len(data))}


def test_a_copy_is_made_once_and_read_once(downloads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = _stored("x", b"rows")
    folder = cache.local_copy("x", pieces)
    assert (folder / "deep" / "data").read_bytes() == b"rows"
    monkeypatch.setattr(cache, "file_digest", lambda path: pytest.fail("a copy that was not touched was read again"))
    assert cache.local_copy("x", pieces) == folder
    assert len(downloads) == 1


def test_using_a_copy_again_moves_the_time_of_its_mark_and_nothing_else(s3: Any) -> None:
    pieces = _stored("x", b"rows")
    mark = cache.local_copy("x", pieces).parent / "verified.json"
    before = mark.stat()
    os.utime(mark, (0, 0))
    cache.local_copy("x", pieces)
    assert mark.stat().st_ino == before.st_ino and mark.stat().st_mtime >= before.st_mtime


@pytest.mark.parametrize("damage", [b"ROWS", b"row", b"", None])
def test_a_damaged_copy_is_repaired(downloads: list[str], damage: bytes | None) -> None:
    pieces = _stored("x", b"rows")
    path = cache.local_copy("x", pieces) / "deep" / "data"
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(damage)
    assert (cache.local_copy("x", pieces) / "deep" / "data").read_bytes() == b"rows"
    assert len(downloads) == 2


def test_a_damaged_copy_whose_time_was_put_back_is_repaired(downloads: list[str]) -> None:
    pieces = _stored("x", b"rows")
    path = cache.local_copy("x", pieces) / "deep" / "data"
    before = path.stat()
    path.write_bytes(b"ROWS")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (cache.local_copy("x", pieces) / "deep" / "data").read_bytes() == b"rows"


def test_a_link_in_place_of_a_copy_is_replaced(downloads: list[str], tmp_path: Path) -> None:
    pieces = _stored("x", b"rows")
    path = cache.local_copy("x", pieces) / "deep" / "data"
    (tmp_path / "elsewhere").write_bytes(b"rows")
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    assert not (cache.local_copy("x", pieces) / "deep" / "data").is_symlink()


@pytest.mark.parametrize("mark", [b"", b"[]", b'{"deep/data": 1}', b"{torn", None])
def test_a_mark_that_says_nothing_costs_a_reading_and_no_download(downloads: list[str], mark: bytes | None) -> None:
    """Killed after the download, before the mark: what is whole is not downloaded again."""
    pieces = _stored("x", b"rows")
    folder = cache.local_copy("x", pieces)
    path = folder.parent / "verified.json"
    path.unlink() if mark is None else path.write_bytes(mark)
    assert cache.local_copy("x", pieces) == folder
    assert len(downloads) == 1


def test_other_bytes_in_the_store_are_an_error_and_leave_no_file(s3: Any) -> None:
    pieces = _stored("x", b"rows")
    objects.replace("s3://bucket/x", b"ROWS")
    with pytest.raises(IntegrityError, match="is damaged or absent"):
        cache.local_copy("x", pieces)
    assert not [path for path in (files.home() / "cache").rglob("*") if path.name == "data" or ".tmp" in path.name]


def test_a_copy_is_durable_before_it_has_its_name(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or a power cut leaves a file of the right size and no bytes."""
    done: list[str] = []
    fsync, rename = os.fsync, Path.rename
    monkeypatch.setattr(os, "fsync", lambda handle: done.append("fsync") or fsync(handle))
    monkeypatch.setattr(Path, "rename", lambda self, to: done.append("rename") or rename(self, to))
    objects.replace("s3://bucket/x", b"rows")
    objects.download_file("s3://bucket/x", tmp_path / "x")
    assert done == ["fsync", "rename", "fsync"]


# ---------------------------------------------------------------- room


def _left(home: Path) -> list[str]:
    return sorted(path.name for path in (home / "cache").iterdir())


@pytest.fixture
def full(s3: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three copies of a MiB, used in this order by processes that have ended; there is room for three and a half."""
    monkeypatch.setenv("LLMOPS_CACHE_GIB", str(3.5 / 1024))
    for age, name in enumerate("cba"):
        cache.local_copy(name, _stored(name, name.encode() * MIB))
        os.utime(home / "cache" / name / "verified.json", (age, age))
    while cache._held:
        cache._held.popitem()[1].close()
    return home


def test_what_was_not_used_for_longest_is_dropped_first(full: Path) -> None:
    assert _left(full) == ["a", "b", "c"]
    cache.local_copy("c", _stored("c", b"c" * MIB))  # the oldest is used again
    while cache._held:
        cache._held.popitem()[1].close()
    cache.local_copy("new", _stored("new", b"n" * MIB))
    assert _left(full) == ["a", "c", "new"]


def test_what_a_living_process_holds_is_not_dropped(full: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = (
        "import sys; from llmops_tasks.store import cache; from pathlib import Path\n"
        f"[cache._hold(Path({str(full)!r}) / 'cache' / name) for name in 'cb']\n"
        "print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout and other.stdout.readline() == "held\n"
        cache.local_copy("new", _stored("new", b"n" * MIB))
        assert _left(full) == ["b", "c", "new"]
        cache.local_copy("newer", _stored("newer", b"m" * MIB))
        assert "over LLMOPS_CACHE_GIB, all in use" in caplog.text
        assert _left(full) == ["b", "c", "new", "newer"]
    cache.local_copy("newest", _stored("newest", b"o" * MIB))
    assert _left(full) == ["new", "newer", "newest"]


def test_one_byte_too_many_is_too_many(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, missing, left in (("new", 0, "a b c new"), ("newer", 1, "a b new newer")):
        there = sum(path.stat().st_size for path in (full / "cache").rglob("*") if path.is_file())
        monkeypatch.setenv("LLMOPS_CACHE_GIB", repr((there + MIB - missing) / 2**30))
        cache.local_copy(name, _stored(name, name[:1].encode() * MIB))
        assert _left(full) == left.split()


def test_an_entry_that_is_dropped_while_it_is_made_is_made_again(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make, made = cache.private_folder, list[Path]()

    def dropped_once(path: Path) -> None:
        make(path)
        if not made:
            path.rmdir()
        made.append(path)

    monkeypatch.setattr(cache, "private_folder", dropped_once)
    assert (cache.local_copy("x", _stored("x", b"rows")) / "deep" / "data").read_bytes() == b"rows"


def test_an_entry_that_was_dropped_while_we_waited_is_made_anew(full: Path) -> None:
    assert cache._drop(full / "cache" / "a")
    assert (cache.local_copy("a", _stored("a", b"a" * MIB)) / "deep" / "data").stat().st_size == MIB


def test_a_limit_that_is_no_number_is_refused(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_CACHE_GIB", "plenty")
    with pytest.raises(InputError, match=r"LLMOPS_CACHE_GIB is 'plenty'\. Allowed: a number of GiB"):
        cache.local_copy("x", _stored("x", b"rows"))
