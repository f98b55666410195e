"""Uploads that failed or were lost: removed at once or a day later, and nothing else with them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.errors import StorageError
from llmops_tasks.store import attempts, objects

FOLDER = "s3://bucket/store/demo/records"
DAY = 24 * 60 * 60


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Two files to upload."""
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize("name", ["0" * 16, "0123456789abcdef"])
def test_sixteen_hexadecimal_digits_are_a_name(name: str) -> None:
    assert attempts.is_name(name)


@pytest.mark.parametrize(
    "name", ["", "0" * 15, "0" * 17, "G" * 16, "0" * 16 + "\n", "../" + "0" * 13, None, 1, ["0" * 16]]
)
def test_nothing_else_is(name: Any) -> None:
    assert not attempts.is_name(name)


def test_two_uploads_of_one_artifact_lie_beside_each_other(s3: Any, files: Path) -> None:
    names = ["a", "b"]
    one, two = (attempts.upload(files, f"{FOLDER}/x", names) for _ in range(2))
    assert one != two and attempts.is_name(one)
    found = {
        item["Key"].removeprefix("store/demo/records/x/") for item in s3.list_objects_v2(Bucket="bucket")["Contents"]
    }
    assert found == {f"{attempt}/{name}" for attempt in (one, two) for name in names}


def _refusing(monkeypatch: pytest.MonkeyPatch, name: str, what: str) -> None:
    """One of the store's functions refuses addresses that end like this."""
    real = getattr(objects, name)

    def refuse(*given: Any) -> Any:
        if str(given[-1]).endswith(what):
            raise StorageError(f"{name} was refused")
        return real(*given)

    monkeypatch.setattr(objects, name, refuse)


def test_what_a_failed_upload_left_is_removed_at_once(s3: Any, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    objects.create(f"{FOLDER}/x/{'e' * 16}/a", b"another's")
    _refusing(monkeypatch, "upload_file", "/b")
    with pytest.raises(StorageError, match="upload_file was refused"):
        attempts.upload(files, f"{FOLDER}/x", ["a", "b"])
    assert objects.find(f"{FOLDER}/*") == [f"{FOLDER}/x/{'e' * 16}/a"]


def test_where_that_fails_too_the_upload_s_own_failure_is_reported(
    s3: Any, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refusing(monkeypatch, "upload_file", "/b")
    _refusing(monkeypatch, "remove_folder", "")
    with pytest.raises(StorageError, match="upload_file was refused"):
        attempts.upload(files, f"{FOLDER}/x", ["a", "b"])


def test_only_lost_attempts_are_swept(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = [f"{FOLDER}/x/notes/a.txt", f"{FOLDER}/x/{'e' * 16}", f"{FOLDER}/named/{'f' * 16}/a", f"{FOLDER}/loose"]
    for uri in (*kept, f"{FOLDER}/x/{'d' * 16}/a", f"{FOLDER}/x/{'d' * 16}/deep/b"):
        objects.create(uri, b"x")
    objects.create(f"{FOLDER}/named/{attempts.MANIFEST}", b'{"attempt":"%s"}' % (b"f" * 16))
    now = time.time()
    monkeypatch.setattr(attempts.time, "time", lambda: now + DAY + 60)
    attempts.sweep(FOLDER)
    assert sorted(objects.find(f"{FOLDER}/*")) == sorted([*kept, f"{FOLDER}/named/{attempts.MANIFEST}"])


def test_an_upload_that_goes_on_for_a_day_is_not_swept_while_it_writes(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its newest object counts, in whatever order they are listed."""
    now, attempt = time.time(), "d" * 16
    times = {f"{FOLDER}/x/{attempt}/{name}": now - back for name, back in (("a", DAY * 2), ("b", 5.0), ("c", DAY * 3))}
    for uri in times:
        objects.create(uri, b"x")
    monkeypatch.setattr(objects, "written", lambda pattern: times)
    attempts.sweep(FOLDER)
    assert objects.find(f"{FOLDER}/*") == list(times)


def test_it_looks_once_a_day(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    monkeypatch.setattr(objects, "written", lambda pattern: looked.append(pattern) or {})
    now = time.time()
    for later, times in ((0, 1), (DAY - 60, 1), (DAY + 60, 2)):
        monkeypatch.setattr(attempts.time, "time", lambda later=later: now + later)
        attempts.sweep(FOLDER)
        assert len(looked) == times
    attempts.sweep(f"{FOLDER}2")
    assert looked[-1] == f"{FOLDER}2/*"
