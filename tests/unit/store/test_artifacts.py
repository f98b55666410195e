"""Publish once, believe manifests only, read verified bytes only: on a file system and on S3."""

from __future__ import annotations

import errno
import json
import os
import signal
import stat
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import ConflictError, IntegrityError, StorageError
from llmops_tasks.store import artifacts, digests, objects, scratch


def _build(text: str = "rows", calls: list[int] | None = None) -> Callable[[Path], dict[str, Any]]:
    def build(out: Path) -> dict[str, Any]:
        if calls is not None:
            calls.append(1)
        (out / "data.txt").write_text(text)
        (out / "docs").mkdir()
        (out / "docs" / "index.html").write_text("<p>" + text)
        return {"rows": 3, "figure": 0.5}

    return build


def _publish(inputs: dict[str, Any] | None = None, **more: Any) -> ArtifactRef:
    build = more.pop("build", None) or _build()
    return artifacts.publish(usecase="demo", kind="records", inputs=inputs or {"a": 1}, build=build, **more)


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Both kinds of store."""
    uri = f"file://{tmp_path}/store"
    if request.param == "s3":
        request.getfixturevalue("s3")
        uri = "s3://bucket/store"
    monkeypatch.setenv("LLMOPS_STORE", uri)
    return uri


def test_what_was_published_is_read_back(store: str) -> None:
    ref = _publish()
    folder = artifacts.fetch(ref)
    assert (folder / "data.txt").read_text() == "rows"
    assert (folder / "docs" / "index.html").read_text() == "<p>rows"
    assert ref["uri"] == f"{store}/demo/records/{ref['key'][:32]}"
    assert (ref["rows"], ref["meta"]) == (3, {"figure": 0.5})
    assert artifacts.at(ref["uri"]) == ref
    assert json.loads(json.dumps(ref)) == ref


def test_the_same_inputs_are_built_once(store: str) -> None:
    calls: list[int] = []
    first = _publish(build=_build(calls=calls))
    assert _publish(build=_build(calls=calls)) == first
    assert len(calls) == 1


def test_other_inputs_have_another_address_and_equal_content_has_one_identity(store: str) -> None:
    one, two = _publish({"a": 1}), _publish({"a": 2})
    assert one["uri"] != two["uri"]
    assert one["sha256"] == two["sha256"]
    assert _publish({"a": 3}, build=_build("other"))["sha256"] != one["sha256"]


def test_other_inputs_at_a_fixed_address_are_refused(store: str) -> None:
    at = f"{store}/demo/predictions/date=2026-03-30"
    first = _publish({"a": 1}, at=at)
    with pytest.raises(ConflictError, match="holds the result of other inputs"):
        _publish({"a": 2}, at=at, build=_build("other"))
    assert artifacts.at(at) == first


def test_a_crash_while_building_leaves_nothing(store: str, home: Path) -> None:
    def crash(out: Path) -> dict[str, Any]:
        (out / "half.txt").write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        _publish(build=crash)
    assert objects.find(f"{store}/demo/records/*") == []
    assert list((home / "tmp").iterdir()) == []
    assert _publish()["rows"] == 3


def test_a_bit_flip_is_found_on_fetch(store: str, s3_or_file: Callable[[str, Callable[[bytes], bytes]], None]) -> None:
    ref = _publish()
    s3_or_file(f"{ref['uri']}/data.txt", lambda data: bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(IntegrityError, match=r"data.txt' is damaged or absent"):
        artifacts.fetch(ref)


def test_a_truncated_file_is_found_on_fetch(
    store: str, s3_or_file: Callable[[str, Callable[[bytes], bytes]], None]
) -> None:
    ref = _publish()
    s3_or_file(f"{ref['uri']}/docs/index.html", lambda data: data[:-1])
    with pytest.raises(IntegrityError, match=r"index.html' is damaged or absent"):
        artifacts.fetch(ref)


def test_a_file_and_manifest_changed_together_are_found_on_fetch(
    store: str, s3_or_file: Callable[[str, Callable[[bytes], bytes]], None]
) -> None:
    ref = _publish()
    forged = digests.digest(b"evil")

    def forge(data: bytes) -> bytes:
        manifest = json.loads(data)
        manifest["files"]["data.txt"] = {"sha256": forged, "bytes": 4}
        return digests.canonical(manifest)

    s3_or_file(f"{ref['uri']}/data.txt", lambda _: b"evil")
    s3_or_file(f"{ref['uri']}/{artifacts.MANIFEST}", forge)
    with pytest.raises(IntegrityError):
        artifacts.fetch(ref)


def test_a_reference_to_other_content_is_refused(store: str) -> None:
    ref = _publish()
    with pytest.raises(IntegrityError, match="as referred to"):
        artifacts.fetch({**ref, "sha256": "0" * 64})


def test_a_manifest_that_names_a_file_outside_its_folder_is_refused(
    store: str, s3_or_file: Callable[[str, Callable[[bytes], bytes]], None]
) -> None:
    ref = _publish()

    def forge(data: bytes) -> bytes:
        manifest = json.loads(data)
        manifest["files"]["../escaped"] = manifest["files"]["data.txt"]
        return digests.canonical(manifest)

    s3_or_file(f"{ref['uri']}/{artifacts.MANIFEST}", forge)
    with pytest.raises(IntegrityError):
        artifacts.fetch(ref)


@pytest.fixture
def s3_or_file(request: pytest.FixtureRequest) -> Callable[[str, Callable[[bytes], bytes]], None]:
    """Change an object behind the store's back."""

    def change(uri: str, how: Callable[[bytes], bytes]) -> None:
        data = how(objects.read_bytes(uri))
        if objects.is_s3(uri):
            client = request.getfixturevalue("s3")
            client.put_object(Bucket="bucket", Key=uri.removeprefix("s3://bucket/"), Body=data)
        else:
            objects.local_path(uri).write_bytes(data)

    return change


def test_a_file_that_is_gone_is_an_integrity_error(home: Path) -> None:
    ref = _publish()
    (objects.local_path(ref["uri"]) / "data.txt").unlink()
    with pytest.raises(IntegrityError, match=r"data.txt' is damaged or absent"):
        artifacts.fetch(ref)


def test_published_files_are_for_their_owner_only() -> None:
    root = objects.local_path(_publish()["uri"])
    assert stat.S_IMODE(root.stat().st_mode) == 0o700
    for path in root.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path.name


def test_a_folder_without_manifest_is_not_believed_and_is_replaced() -> None:
    address = artifacts.address("demo", "records", digests.digest({"a": 1}))
    objects.local_path(address).mkdir(parents=True)
    (objects.local_path(address) / "torn.txt").write_text("torn")
    assert artifacts.at(address) is None
    assert not (artifacts.fetch(_publish()) / "torn.txt").exists()


def _race(inputs: list[dict[str, Any]], **more: Any) -> list[ArtifactRef | Exception]:
    barrier = threading.Barrier(len(inputs))

    def run(given: dict[str, Any]) -> ArtifactRef | Exception:
        def build(out: Path) -> dict[str, Any]:
            barrier.wait()  # both have found nothing finished
            return _build(json.dumps(given))(out)

        try:
            return _publish(given, build=build, **more)
        except StorageError as exc:
            return exc

    with ThreadPoolExecutor(len(inputs)) as pool:
        return list(pool.map(run, inputs))


def test_of_two_racing_publishers_of_the_same_work_both_get_one_artifact(store: str) -> None:
    one, two = _race([{"a": 1}, {"a": 1}])
    assert isinstance(one, dict) and one == two
    artifacts.fetch(one)
    assert len({uri for uri in objects.find(f"{store}/demo/records/*/{artifacts.MANIFEST}")}) == 1
    if store.startswith("file"):
        assert not [path for path in objects.local_path(f"{store}/demo/records").iterdir() if ".tmp" in path.name]


def test_of_two_racing_publishers_of_other_work_at_one_address_one_is_refused(home: Path) -> None:
    at = f"{objects.store_uri()}/demo/predictions/date=2026-03-30"
    results = _race([{"a": 1}, {"a": 2}], at=at)
    assert sorted(type(result).__name__ for result in results) == ["ConflictError", "dict"]
    winner = next(result for result in results if isinstance(result, dict))
    assert artifacts.fetch(winner)


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("LLMOPS_STORE", f"file://{tmp_path}/file/store")
    with pytest.raises(StorageError, match="Cannot publish 'file://"):
        _publish()


def test_publishing_to_an_endpoint_that_refuses_names_it(closed_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    calls: list[int] = []
    started = time.monotonic()
    with pytest.raises(StorageError) as caught:
        _publish(build=_build(calls=calls))
    assert closed_endpoint in str(caught.value)
    assert not calls  # no work is spent that could not be kept
    assert time.monotonic() - started < 30


def test_the_newest_of_a_kind_is_the_one_published_last(store: str) -> None:
    assert artifacts.newest("demo", "records") is None
    published = []
    for number in (3, 1, 2):
        published.append(_publish({"a": number}))
        time.sleep(1.1 if store.startswith("s3") else 0.02)  # S3 tells whole seconds
        assert artifacts.newest("demo", "records") == published[-1]
    assert artifacts.newest("demo", "dataset") is None


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (errno.ENOSPC, StorageError, "No space left on device at '.*'. Free space, or set LLMOPS_HOME"),
        (errno.EDQUOT, StorageError, "Disk quota exceeded at"),
        (errno.EIO, OSError, "Input/output error"),
    ],
)
def test_a_full_disk_is_told_from_other_failures_of_a_build(code: int, kind: type[Exception], message: str) -> None:
    def build(out: Path) -> dict[str, Any]:
        raise OSError(code, os.strerror(code), str(out))

    with pytest.raises(kind, match=message) as caught:
        _publish(build=build)
    assert caught.type is kind


# ---------------------------------------------------------------- what killed processes leave

A_DAY_AGO = time.time() - scratch.STALE - 60


def _left_by_a_killed_process(home: Path) -> Path:
    if os.fork() == 0:
        with artifacts.scratch() as folder:
            (folder / "half.txt").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    os.wait()
    (left,) = (home / "tmp").iterdir()
    return left


def test_a_killed_process_s_folder_is_removed_a_day_later_and_one_in_use_is_not(home: Path) -> None:
    left = _left_by_a_killed_process(home)
    with artifacts.scratch() as used:
        assert (left / "work" / "half.txt").exists()  # somebody may want to look at it
        for folder in (left, used.parent):
            os.utime(folder, (A_DAY_AGO, A_DAY_AGO))
        with artifacts.scratch():
            assert not left.exists()
            assert used.exists()  # a training may take longer than a day


def test_what_was_never_published_is_removed_a_day_later(home: Path) -> None:
    records = objects.local_path(_publish()["uri"]).parent
    old, new = records / ".old.1234.tmp", records / ".new.1234.tmp"
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (A_DAY_AGO, A_DAY_AGO))
    _publish({"a": 2})
    assert (old.exists(), new.exists()) == (False, True)
