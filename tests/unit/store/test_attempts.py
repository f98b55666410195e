"""Uploads under names of their own: what nobody names is removed, a day later, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.errors import StorageError
from llmops_tasks.store import attempts, objects
from llmops_tasks.store.digests import canonical
from llmops_tasks.store.scratch import STALE

FOLDER = "s3://bucket/store/small/dataset"


@pytest.mark.parametrize("name", ["0" * 16, "0123456789abcdef"])
def test_sixteen_hexadecimal_digits_are_a_name(name: str) -> None:
    assert attempts.is_name(name)


@pytest.mark.parametrize(
    "name", ["", "0" * 15, "0" * 17, "G" * 16, "0" * 16 + "\n", "../" + "0" * 13, None, 1, ["0" * 16]]
)
def test_nothing_else_is(name: Any) -> None:
    assert not attempts.is_name(name)


def _files(folder: Path) -> list[str]:
    for name in ("a", "b"):
        (folder / name).write_text(name)
    return ["a", "b"]


def test_two_uploads_of_one_artifact_lie_beside_each_other(s3: Any, tmp_path: Path) -> None:
    names = _files(tmp_path)
    one, two = (attempts.upload(tmp_path, f"{FOLDER}/1", names) for _ in range(2))
    assert one != two and attempts.is_name(one)
    found = {
        item["Key"].removeprefix("store/small/dataset/1/") for item in s3.list_objects_v2(Bucket="bucket")["Contents"]
    }
    assert found == {f"{attempt}/{name}" for attempt in (one, two) for name in names}


def test_an_upload_that_fails_leaves_nothing(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = objects.upload_file

    def second_fails(path: Path, uri: str) -> Any:
        if path.name == "b":
            raise StorageError("gone")
        return upload(path, uri)

    monkeypatch.setattr(objects, "upload_file", second_fails)
    with pytest.raises(StorageError, match="gone"):
        attempts.upload(tmp_path, f"{FOLDER}/1", _files(tmp_path))
    assert "Contents" not in s3.list_objects_v2(Bucket="bucket")


def test_where_removing_fails_too_the_first_error_is_the_one_that_is_told(
    s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(uri: str) -> None:
        raise StorageError("no network")

    monkeypatch.setattr(objects, "remove_folder", fail)
    attempts.discard(f"{FOLDER}/1", "0" * 16)  # and says nothing


def test_a_sweep_removes_what_is_old_and_named_by_nobody(
    s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = _files(tmp_path)
    named, lost = (attempts.upload(tmp_path, f"{FOLDER}/1", names) for _ in range(2))
    objects.create(f"{FOLDER}/1/{attempts.MANIFEST}", canonical({"attempt": named}))
    attempts.sweep(FOLDER)
    assert len(objects.find(f"{FOLDER}/1/{lost}/*")) == 2  # too young
    now = attempts.time.time()
    monkeypatch.setattr(attempts.time, "time", lambda: now + STALE + 60)
    attempts.sweep(FOLDER)
    assert objects.find(f"{FOLDER}/1/{lost}/*") == []
    assert len(objects.find(f"{FOLDER}/1/{named}/*")) == 2


def test_a_folder_is_looked_through_once_a_day(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[str] = []
    monkeypatch.setattr(attempts, "_found", lambda folder: looks.append(folder) or {})
    attempts.sweep(FOLDER)
    attempts.sweep(FOLDER)
    attempts.sweep(f"{FOLDER}2")
    assert looks == [FOLDER, f"{FOLDER}2"]
