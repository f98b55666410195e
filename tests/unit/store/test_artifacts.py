"""Publish once, believe manifests only, read verified bytes only: on a file system and on S3."""

from __future__ import annotations

import errno
import json
import os
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
from llmops_tasks.store import artifacts, attempts, digests, journal, objects, scratch
from llmops_tasks.store import s3 as speaking
from tests.support.stored import place


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


def test_what_was_published_is_read_back(store: str) -> None:
    ref = _publish()
    folder = artifacts.fetch(ref)
    assert (folder / "data.txt").read_text() == "rows"
    assert (folder / "docs" / "index.html").read_text() == "<p>rows"
    assert ref["uri"] == f"{store}/demo/records/{ref['key'][:32]}"
    assert (ref["rows"], ref["meta"]) == (3, {"figure": 0.5})
    assert artifacts.at(ref["uri"]) == ref
    assert artifacts.parent(ref) == {"kind": "records", "uri": ref["uri"], "sha256": ref["sha256"]}
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
    s3_or_file(place(ref["uri"], "data.txt"), lambda data: bytes([data[0] ^ 1]) + data[1:])
    with pytest.raises(IntegrityError, match=r"data.txt' is damaged or absent"):
        artifacts.fetch(ref)


def test_a_truncated_file_is_found_on_fetch(
    store: str, s3_or_file: Callable[[str, Callable[[bytes], bytes]], None]
) -> None:
    ref = _publish()
    s3_or_file(place(ref["uri"], "docs/index.html"), lambda data: data[:-1])
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

    s3_or_file(place(ref["uri"], "data.txt"), lambda _: b"evil")
    s3_or_file(f"{ref['uri']}/{artifacts.MANIFEST}", forge)
    with pytest.raises(IntegrityError):
        artifacts.fetch(ref)


def test_a_reference_to_other_content_is_refused(store: str) -> None:
    ref = _publish()
    with pytest.raises(IntegrityError, match="as its reference says"):
        artifacts.fetch({**ref, "sha256": "0" * 64})


@pytest.mark.parametrize("name", ["../escaped", "/etc/escaped", "docs/../../escaped", ""])
def test_a_manifest_that_names_a_file_outside_its_folder_is_refused(
    store: str, name: str, tmp_path: Path, s3_or_file: Callable[[str, Callable[[bytes], bytes]], None]
) -> None:
    """T27. Everything else about it is right, its digest included; so it is the path that is refused."""
    ref = _publish()

    def forge(data: bytes) -> bytes:
        manifest = json.loads(data)
        manifest["files"][name] = manifest["files"]["data.txt"]
        manifest["sha256"] = artifacts._content_digest(manifest["files"])
        return digests.canonical(manifest)

    s3_or_file(f"{ref['uri']}/{artifacts.MANIFEST}", forge)
    if store.startswith("s3"):
        objects.replace(f"{ref['uri']}/escaped", b"rows")
    for read in (artifacts.fetch_at, lambda uri: artifacts.read(uri, name)):
        with pytest.raises(IntegrityError, match=r"names a file outside its folder\. Nothing of it was read"):
            read(ref["uri"])
    assert not [path for path in tmp_path.rglob("escaped") if not path.is_relative_to(tmp_path / "store")]


@pytest.mark.parametrize("attempt", ["../other", "", None, "0123456789abcdef/.."])
def test_a_manifest_that_names_an_attempt_elsewhere_is_refused(s3: Any, monkeypatch: Any, attempt: Any) -> None:
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    ref = _publish()
    manifest = objects.read_json(f"{ref['uri']}/{artifacts.MANIFEST}") | {"attempt": attempt}
    objects.replace(f"{ref['uri']}/{artifacts.MANIFEST}", digests.canonical(manifest))
    with pytest.raises(IntegrityError, match="names no attempt"):
        artifacts.fetch(ref)


@pytest.mark.parametrize("kind", ["file", "folder", "dangling", "fifo"])
def test_what_is_no_file_is_not_published(store: str, tmp_path: Path, kind: str) -> None:
    (tmp_path / "secret").write_text("secret")

    def build(out: Path) -> dict[str, Any]:
        (out / "data.txt").write_text("rows")
        if kind == "fifo":
            os.mkfifo(out / "odd")
        else:
            (out / "odd").symlink_to({"file": tmp_path / "secret", "folder": tmp_path}.get(kind, Path("/nowhere")))
        return {}

    with pytest.raises(IntegrityError, match="has 'odd', which is neither a file nor a folder"):
        _publish(build=build)
    assert objects.find(f"{store}/demo/records/*") == []


def test_a_link_in_an_artifact_is_not_followed(tmp_path: Path) -> None:
    """The bytes behind it are right today."""
    ref = _publish()
    path = objects.local_path(ref["uri"]) / "data.txt"
    (tmp_path / "elsewhere").write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match=r"has 'data.txt', which is neither a file nor a folder"):
        artifacts.fetch(ref)


@pytest.mark.parametrize("name", ["extra.py", "docs/extra.html", ".hidden"])
def test_a_file_too_many_is_found_on_fetch(name: str) -> None:
    ref = _publish()
    (objects.local_path(ref["uri"]) / name).write_text("not ours")
    with pytest.raises(IntegrityError, match=f"has \\['{name}'\\], which its manifest does not name"):
        artifacts.fetch(ref)


def test_one_small_file_is_read_by_itself_and_checked(
    store: str, home: Path, s3_or_file: Callable[[str, Callable[[bytes], bytes]], None]
) -> None:
    ref = _publish()
    assert artifacts.read(ref, "docs/index.html") == artifacts.read(ref["uri"], "docs/index.html") == b"<p>rows"
    assert not (home / "cache").exists()
    with pytest.raises(IntegrityError, match=r"none.txt' is damaged or absent"):
        artifacts.read(ref, "none.txt")
    with pytest.raises(IntegrityError):
        artifacts.read({**ref, "sha256": "0" * 64}, "data.txt")
    s3_or_file(place(ref["uri"], "data.txt"), lambda data: b"x" * len(data))
    with pytest.raises(IntegrityError, match=r"data.txt' is damaged or absent"):
        artifacts.read(ref, "data.txt")
    assert artifacts.is_damaged(ref["uri"])


def test_what_is_whole_in_the_store_is_not_called_damaged(store: str) -> None:
    assert not artifacts.is_damaged(_publish()["uri"])


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


def _keys(uri: str) -> set[str]:
    return {name.removeprefix(f"{uri}/") for name in objects.find(f"{uri}/*")}


def test_of_two_racing_publishers_with_different_bytes_both_get_the_winner_s(store: str) -> None:
    """A zombie and its retry: the same inputs, but a library may write another byte each time."""
    barrier = threading.Barrier(2)

    def run(number: int) -> ArtifactRef:
        def build(out: Path) -> dict[str, Any]:
            barrier.wait()  # both have found nothing finished
            return _build(f"bytes of {number}")(out)

        return _publish(build=build)

    for _ in range(5):
        with ThreadPoolExecutor(2) as pool:
            one, two = pool.map(run, (1, 2))
        assert one == two
        assert (artifacts.fetch(one) / "data.txt").read_text() in ("bytes of 1", "bytes of 2")
        assert not artifacts.is_damaged(one["uri"])
        if store.startswith("s3"):
            manifest = objects.read_json(f"{one['uri']}/{artifacts.MANIFEST}")
            files = {f"{manifest['attempt']}/{name}" for name in manifest["files"]}
            assert _keys(one["uri"]) == {artifacts.MANIFEST, *files}  # the loser has removed its own
        else:
            assert not list(objects.local_path(f"{store}/demo/records").glob(".*.tmp"))
        objects.remove_folder(one["uri"])
        barrier.reset()


class _Killed(BaseException):
    """Whatever dies here runs no more of its own code."""


def _failing(at: int, how: str) -> Callable[..., Any]:
    """Requests to S3, of which the n-th goes wrong."""
    again, count = speaking._again, 0

    def ask(uri: str, request: Any, *more: Any) -> Any:
        nonlocal count
        count += 1
        if count == at and how == "refused":
            raise StorageError("refused")
        if count == at and how == "killed before":
            raise _Killed
        result = again(uri, request, *more)
        if count == at and how == "killed after":
            raise _Killed
        return result

    return ask


@pytest.mark.parametrize("how", ["killed before", "killed after", "refused"])
def test_a_failure_between_any_two_requests_leaves_nothing_wrong(
    s3: Any, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """The first publisher fails at its n-th request, a second one with other bytes comes, then the first one's retry."""
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    total, at = 99, 0
    while at < total:
        at += 1
        with monkeypatch.context() as patch:
            patch.setattr(speaking, "_again", _failing(at, how))
            try:
                first = _publish({"at": at}, build=_build("first"))
                total = at
            except (StorageError, _Killed):
                first = None
        second = _publish({"at": at}, build=_build("second"))
        retry = _publish({"at": at}, build=_build("third"))
        assert second == retry == (first or second)
        assert (artifacts.fetch(retry) / "data.txt").read_text() in ("first", "second")
        assert not artifacts.is_damaged(retry["uri"])
    assert total >= 5  # look, two files, manifest, look


def test_attempts_that_nobody_finished_are_removed_a_day_later_and_no_others(
    s3: Any, monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    good = _publish({"a": 1})
    lost = f"s3://bucket/store/demo/records/{'d' * 32}"
    for uri in (lost, good["uri"]):
        objects.replace(f"{uri}/{'e' * 16}/data.txt", b"of a killed process")
    _publish({"a": 2})
    assert len(objects.find(f"{lost}/*")) == 1  # its process may live
    (mark,) = (home / "swept").iterdir()
    os.utime(mark, (A_DAY_AGO, A_DAY_AGO))
    now = time.time()
    monkeypatch.setattr(attempts.time, "time", lambda: now + scratch.STALE + 60)
    _publish({"a": 3})
    assert objects.find(f"{lost}/*") == []
    assert not any("e" * 16 in key for key in _keys(good["uri"]))
    assert artifacts.fetch(good)


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


def test_publishing_to_an_endpoint_that_refuses_names_it(
    closed_endpoint: str, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    calls: list[int] = []
    with pytest.raises(StorageError) as caught:
        _publish(build=_build(calls=calls))
    assert closed_endpoint in str(caught.value)
    assert not calls  # no work is spent that could not be kept
    assert len(waits) > 3 and sum(waits) < 30


def _dataset(number: int) -> ArtifactRef:
    return artifacts.publish(usecase="demo", kind="dataset", inputs={"a": number}, build=_build(str(number)))


def test_the_newest_of_a_kind_is_the_one_published_last_whatever_the_clock_says(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T16. Each is written a day before the one before it, as far as any file's time tells."""
    assert artifacts.newest("demo", "dataset") is None
    for back, number in enumerate((3, 1, 2)):
        last = _dataset(number)
        if store.startswith("file"):
            for path in objects.local_path(store).rglob("*"):
                os.utime(path, (A_DAY_AGO * (1 - back / 10), A_DAY_AGO * (1 - back / 10)))
        assert artifacts.newest("demo", "dataset") == last
    assert _dataset(3) != artifacts.newest("demo", "dataset")  # finished before: its place in the order stays
    objects.remove_folder(last["uri"])
    assert artifacts.newest("demo", "dataset") == _dataset(1)


def test_what_was_begun_and_never_finished_is_not_the_newest(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, place = _dataset(1), artifacts._order("demo", "dataset")

    def killed(*_: Any) -> None:
        raise _Killed

    with monkeypatch.context() as patch:
        for name in ("_publish_s3", "_publish_files"):
            patch.setattr(artifacts, name, killed)
        with pytest.raises(_Killed):
            _dataset(2)
    assert journal.last(place) == 2
    assert artifacts.newest("demo", "dataset") == first
    second = _dataset(2)
    journal.push(place, digests.canonical({"uri": first["uri"]}))  # a zombie that had not seen that it was finished
    assert artifacts.newest("demo", "dataset") == second


@pytest.mark.parametrize(
    ("code", "kind", "message"),
    [
        (errno.ENOSPC, StorageError, "No space left on device at '.*'. Free space, or set LLMOPS_HOME"),
        (errno.EDQUOT, StorageError, "Disk quota exceeded at"),
        (errno.EIO, OSError, "Input/output error"),
    ],
)
def test_a_full_disk_is_distinguished_from_other_failures_of_a_build(
    code: int, kind: type[Exception], message: str
) -> None:
    def build(out: Path) -> dict[str, Any]:
        raise OSError(code, os.strerror(code), str(out))

    with pytest.raises(kind, match=message) as caught:
        _publish(build=build)
    assert caught.type is kind


# ---------------------------------------------------------------- what killed processes leave

A_DAY_AGO = time.time() - scratch.STALE - 60


def test_what_was_never_published_is_removed_a_day_later(home: Path) -> None:
    records = objects.local_path(_publish()["uri"]).parent
    old, new = records / ".old.1234.tmp", records / ".new.1234.tmp"
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (A_DAY_AGO, A_DAY_AGO))
    _publish({"a": 2})
    assert (old.exists(), new.exists()) == (False, True)
