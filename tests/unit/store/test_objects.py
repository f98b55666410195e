"""Addresses and single objects, on a file system and on S3."""

from __future__ import annotations

import shutil
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.errors import ConflictError, InputError, IntegrityError, StorageError
from llmops_tasks.store import digests, objects
from llmops_tasks.store import s3 as speaking


@pytest.mark.parametrize("uri", ["/etc/passwd", "http://host/x", "ftp://host/x", "", "s3:bucket"])
def test_only_file_and_s3_addresses_are_allowed(uri: str) -> None:
    if uri == "s3:bucket":
        assert objects.is_s3(uri)  # the scheme decides; a missing bucket is the server's to refuse
        return
    with pytest.raises(InputError, match="Allowed: file:///path and s3://bucket/key"):
        objects.is_s3(uri)


def test_a_mark_is_replaced_whole_on_both_kinds_of_store(tmp_path: Path, s3: Any) -> None:
    for uri in (f"file://{tmp_path}/deep/mark", "s3://bucket/mark"):
        for data in (b"first", b""):
            objects.replace(uri, data)
            assert objects.read_if_there(uri) == data
        assert list(objects.written(uri)) == [uri] and abs(objects.written(uri)[uri] - time.time()) < 60
        objects.remove(uri)
        objects.remove(uri)
        assert objects.read_if_there(uri) is None and objects.written(uri) == {}
    assert list((tmp_path / "deep").iterdir()) == []


def test_a_file_is_created_once_and_never_overwritten(tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/deep/entry.json"
    objects.create(uri, b"first")
    with pytest.raises(ConflictError, match="taken already"):
        objects.create(uri, b"second")
    assert objects.read_bytes(uri) == b"first"
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["entry.json"]
    assert stat.S_IMODE((tmp_path / "deep" / "entry.json").stat().st_mode) == 0o600


def _attempt(uri: str, data: bytes) -> bool:
    try:
        objects.create(uri, data)
    except ConflictError:
        return False
    return True


def test_exactly_one_of_many_writers_of_a_file_wins(tmp_path: Path) -> None:
    uri = f"file://{tmp_path}/entry"
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: _attempt(uri, str(number).encode()), range(32)))
    assert won.count(True) == 1
    assert objects.read_bytes(uri) == str(won.index(True)).encode()


def test_exactly_one_of_many_writers_of_an_s3_object_wins(s3: Any) -> None:
    with ThreadPoolExecutor(4) as pool:
        won = list(pool.map(lambda number: _attempt("s3://bucket/entry", str(number).encode()), range(8)))
    assert won.count(True) == 1
    assert objects.read_bytes("s3://bucket/entry") == str(won.index(True)).encode()


def test_patterns_match_many_files_sorted_and_no_folders(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.txt"):
        (tmp_path / name).touch()
    (tmp_path / "d.csv").mkdir()
    assert objects.find(f"file://{tmp_path}/*.csv") == [f"file://{tmp_path}/a.csv", f"file://{tmp_path}/b.csv"]
    assert objects.find(f"file://{tmp_path}/?.csv") == [f"file://{tmp_path}/a.csv", f"file://{tmp_path}/b.csv"]
    assert objects.find(f"file://{tmp_path}/absent/*.csv") == []


def test_patterns_match_many_objects_sorted(s3: Any) -> None:
    for name in ("in/b.csv", "in/a.csv", "in/c.txt", "out/a.csv"):
        s3.put_object(Bucket="bucket", Key=name, Body=b"x")
    assert objects.find("s3://bucket/in/*.csv") == ["s3://bucket/in/a.csv", "s3://bucket/in/b.csv"]
    assert objects.find("s3://bucket/in/?.csv") == ["s3://bucket/in/a.csv", "s3://bucket/in/b.csv"]


@pytest.mark.parametrize("name", ["with space", "50%25", "a#b"])
def test_unusual_characters_in_a_name_survive(tmp_path: Path, name: str) -> None:
    path = tmp_path / objects.unquote(name)
    path.write_bytes(b"here")
    assert objects.read_bytes(f"file://{tmp_path}/{name}") == b"here"


@pytest.mark.parametrize("key", ["odd://name", "Xray/XX", "?a#b"])
def test_unusual_keys_are_kept_as_they_are(s3: Any, key: str) -> None:
    objects.create(f"s3://bucket/{key}", b"here")
    assert s3.get_object(Bucket="bucket", Key=key)["Body"].read() == b"here"


def test_an_s3_object_exists_only_under_its_full_name(s3: Any) -> None:
    s3.put_object(Bucket="bucket", Key="folder/entry.json", Body=b"{}")
    assert objects.exists("s3://bucket/folder/entry.json")
    assert not objects.exists("s3://bucket/folder/entry")


def test_streams_of_both_kinds_read_and_seek(tmp_path: Path, s3: Any) -> None:
    (tmp_path / "x").write_bytes(b"0123456789")
    s3.put_object(Bucket="bucket", Key="x", Body=b"0123456789")
    for uri in (f"file://{tmp_path}/x", "s3://bucket/x"):
        with objects.open_stream(uri) as stream:
            assert stream.read(4) == b"0123"
            stream.seek(8)
            assert stream.read() == b"89"
    assert objects.stream_digest("s3://bucket/x") == digests.digest(b"0123456789")


def test_a_file_that_is_not_there_names_its_address(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"Cannot read 'file:///.*absent': No such file"):
        objects.read_bytes(f"file://{tmp_path}/absent")


def test_an_s3_object_that_is_not_there_names_endpoint_address_and_code(s3: Any) -> None:
    with pytest.raises(StorageError, match=r"S3 at http://.* refused 's3://bucket/absent' \(NoSuchKey\)"):
        objects.read_bytes("s3://bucket/absent")


def test_an_upload_that_is_refused_is_a_storage_error(s3: Any, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"x")
    with pytest.raises(StorageError, match=r"s3://no-such-bucket/x"):
        objects.upload_file(tmp_path / "x", "s3://no-such-bucket/x")


def test_damaged_json_is_an_integrity_error(tmp_path: Path) -> None:
    (tmp_path / "entry.json").write_bytes(b'{"a": ')
    with pytest.raises(IntegrityError, match="not valid JSON"):
        objects.read_json(f"file://{tmp_path}/entry.json")


def test_an_endpoint_that_refuses_is_named_within_seconds(closed_endpoint: str, waits: list[float]) -> None:
    with pytest.raises(StorageError, match="cannot be reached") as caught:
        objects.exists("s3://bucket/x")
    assert closed_endpoint in str(caught.value)
    assert "AWS_ENDPOINT_URL_S3" in str(caught.value)
    assert len(waits) > 3 and sum(waits) < 30


def test_removing_a_folder_leaves_its_neighbours(tmp_path: Path, s3: Any) -> None:
    for name in ("step-1/_manifest.json", "step-1/state", "step-10/state"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        s3.put_object(Bucket="bucket", Key=name, Body=b"")
    objects.remove_folder(f"file://{tmp_path}/step-1")
    objects.remove_folder("s3://bucket/step-1")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("step")] == ["step-10"]
    assert objects.find("s3://bucket/*") == ["s3://bucket/step-10/state"]


def test_the_manifest_goes_first_so_that_nobody_believes_the_rest(
    tmp_path: Path, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for root in (f"file://{tmp_path}", "s3://bucket"):
        for name in ("A", "_manifest.json", "z"):
            objects.create(f"{root}/step/{name}", b"x")

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    asked: list[str] = []
    again = speaking._again
    monkeypatch.setattr(speaking, "_again", lambda uri, ask, *more: asked.append(uri) or again(uri, ask, *more))
    objects.remove_folder("s3://bucket/step")
    assert asked[1:] == [f"s3://bucket/step/{name}" for name in ("_manifest.json", "A", "z")]  # after the listing
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", killed)
        objects.remove_folder(f"file://{tmp_path}/step")
    assert sorted(path.name for path in (tmp_path / "step").iterdir()) == ["A", "z"]


def test_removing_what_is_not_there_is_no_error(tmp_path: Path, s3: Any) -> None:
    objects.remove_folder(f"file://{tmp_path}/absent")
    objects.remove_folder("s3://bucket/absent")
