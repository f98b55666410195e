"""S3 that fails three requests in ten still gives the right bytes; wrong bytes are never believed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import tables
from llmops_tasks.data.ingestion import ingest
from llmops_tasks.errors import ConflictError, IntegrityError, StorageError
from llmops_tasks.store import artifacts, digests, objects
from llmops_tasks.store import s3 as speaking
from tests.support import small
from tests.support.flaky_s3 import FlakyS3
from tests.support.stored import place

CONTENT = bytes(range(256)) * 1000


@pytest.fixture(params=[1, 2, 3])
def flaky(
    request: pytest.FixtureRequest, s3: Any, _s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FlakyS3]:
    """A bucket behind a server that fails; nobody waits long."""
    for name, value in {"BACKOFF": 0.001, "TIMEOUTS": (1.0, 0.15), "RANGE": 50_000, "ATTEMPTS": 12}.items():
        monkeypatch.setattr(speaking, name, value)
    with FlakyS3(_s3_server, seed=request.param) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        yield server


def test_an_object_is_read_whole_whatever_happens_on_the_way(flaky: FlakyS3, s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket="bucket", Key="in/x", Body=CONTENT)
    uri = "s3://bucket/in/x"
    for _ in range(3):
        assert objects.read_bytes(uri) == CONTENT
        assert objects.stream_digest(uri) == digests.digest(CONTENT)
        with objects.open_stream(uri) as stream:
            assert stream.read() == CONTENT
        objects.download_file(uri, tmp_path / "x", digests.digest(CONTENT))
        assert (tmp_path / "x").read_bytes() == CONTENT
        assert objects.exists(uri) and objects.find("s3://bucket/in/*") == [uri]
    assert sum(flaky.seen.values()) - flaky.seen[""] > 10


def test_ingest_and_its_artifact_survive(flaky: FlakyS3, s3: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """T14."""
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    for name in ("a", "b"):
        body = "\n".join([small.HEADER, *(small.row(n, visit=f"{name}{n}") for n in range(1000))]).encode()
        s3.put_object(Bucket="bucket", Key=f"in/{name}.csv", Body=body)
    for mode in ("none", "objects"):
        usecase = small.usecase(tmp_path, {"uri": "s3://bucket/in/*.csv", "incremental": mode})
        ref = ingest(usecase=usecase)
        visits = [row["visit"] for row in tables.rows(artifacts.fetch(ref) / "records.parquet")]
        assert visits == [f"{name}{n}" for name in ("a", "b") for n in range(1000)]
        assert ingest(usecase=usecase) == ref


def test_a_write_whose_answer_was_lost_is_no_conflict(flaky: FlakyS3, s3: Any) -> None:
    for number in range(40):
        objects.create(f"s3://bucket/entry/{number}", str(number).encode())
        with pytest.raises(ConflictError, match="taken already"):
            objects.create(f"s3://bucket/entry/{number}", b"another")
        assert s3.get_object(Bucket="bucket", Key=f"entry/{number}")["Body"].read() == str(number).encode()
    assert flaky.seen["lost"] > 0


def test_removing_survives(flaky: FlakyS3, s3: Any) -> None:
    for number in range(10):
        s3.put_object(Bucket="bucket", Key=f"step/{number}", Body=b"x")
    objects.remove_folder("s3://bucket/step")
    assert "Contents" not in s3.list_objects_v2(Bucket="bucket")


def test_a_server_that_is_always_busy_is_given_up_on(
    flaky: FlakyS3, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    flaky.share = 1.0
    monkeypatch.setattr("tests.support.flaky_s3.FAULTS", ("503",))
    monkeypatch.setattr(speaking, "ATTEMPTS", 4)
    with caplog.at_level(logging.WARNING), pytest.raises(StorageError, match="SlowDown"):
        objects.read_bytes("s3://bucket/x")
    said = [record.getMessage() for record in caplog.records if record.name == speaking.__name__]
    assert [line.split(" for ")[0] for line in said] == [f"S3, attempt {n} of 4" for n in (1, 2, 3)]
    assert flaky.seen["503"] == 4


def test_a_refusal_is_not_asked_again(flaky: FlakyS3) -> None:
    flaky.share = 0
    with pytest.raises(StorageError, match="NoSuchKey"):
        objects.read_bytes("s3://bucket/absent")
    assert flaky.seen == {"": 1}


def test_a_large_file_goes_up_in_parts(flaky: FlakyS3, s3: Any, tmp_path: Path) -> None:
    flaky.share = 0.1
    (tmp_path / "large").write_bytes(CONTENT * 50)
    objects.upload_file(tmp_path / "large", "s3://bucket/large")
    assert s3.get_object(Bucket="bucket", Key="large")["Body"].read() == CONTENT * 50


@pytest.mark.parametrize("size", [10, speaking._PARTED])
def test_an_upload_is_tried_by_one_layer_alone(
    flaky: FlakyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Boto's attempts used to sit inside ours: eight times eight."""
    flaky.share = 1.0
    monkeypatch.setattr("tests.support.flaky_s3.FAULTS", ("503",))
    monkeypatch.setattr(speaking, "ATTEMPTS", 4)
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda self, context: 0.0)
    (tmp_path / "x").write_bytes(b"x" * size)
    with pytest.raises(StorageError):
        objects.upload_file(tmp_path / "x", "s3://bucket/x")
    assert flaky.seen["503"] == 4


def test_a_small_object_is_read_by_one_request_and_absence_is_no_error(s3: Any, flaky: FlakyS3) -> None:
    s3.put_object(Bucket="bucket", Key="x", Body=b"small")
    assert objects.read_if_there("s3://bucket/x") == b"small"
    assert objects.read_if_there("s3://bucket/absent") is None
    flaky.share, before = 0.0, sum(flaky.seen.values())
    objects.read_if_there("s3://bucket/x")
    assert sum(flaky.seen.values()) == before + 1


def test_listing_goes_on_after_the_first_page(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speaking, "PAGE", 3)
    for number in range(10):
        s3.put_object(Bucket="bucket", Key=f"many/{number}", Body=b"")
    assert objects.find("s3://bucket/many/*") == [f"s3://bucket/many/{number}" for number in range(10)]
    objects.remove_folder("s3://bucket/many")
    assert objects.find("s3://bucket/*") == []


def test_a_listing_is_of_what_begins_so_and_of_no_more_than_asked(s3: Any) -> None:
    for key in ("a/1", "b/1", "b/2", "c/1"):
        s3.put_object(Bucket="bucket", Key=key, Body=b"four")
    assert list(speaking.listed("bucket", "b/")) == ["b/1", "b/2"]
    assert list(speaking.listed("bucket", "b/", limit=1)) == ["b/1"]
    assert set(speaking.written("bucket", "c")) == {"c/1"}
    marks = speaking.listed("bucket", "")
    assert {mark.split("-")[0] for mark in marks.values()} == {"4"} and len(set(marks.values())) == 1
    s3.put_object(Bucket="bucket", Key="b/1", Body=b"five")
    assert speaking.listed("bucket", "b/1") != {"b/1": marks["b/1"]}


def test_an_empty_object_has_no_bytes(s3: Any) -> None:
    s3.put_object(Bucket="bucket", Key="empty", Body=b"")
    assert objects.read_bytes("s3://bucket/empty") == b""


def test_the_pause_grows_to_its_limit_and_varies(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr("random.uniform", lambda low, high: asked.append(high) or 0.0)
    monkeypatch.setattr("time.sleep", lambda _: None)

    def refuse() -> None:
        from botocore.exceptions import EndpointConnectionError

        raise EndpointConnectionError(endpoint_url="http://nowhere")

    with pytest.raises(StorageError, match="cannot be reached"):
        speaking._again("s3://bucket/x", refuse)
    assert asked == sorted(asked) and asked[-1] == speaking.LONGEST and len(asked) == speaking.ATTEMPTS - 1


# ---------------------------------------------------------------- wrong bytes (T15)


def _published(monkeypatch: pytest.MonkeyPatch) -> ArtifactRef:
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    monkeypatch.setattr(speaking, "RANGE", 200_000)  # two ranges

    def build(out: Path) -> dict[str, Any]:
        (out / "data").write_bytes(CONTENT)
        return {}

    return artifacts.publish(usecase="demo", kind="records", inputs={}, build=build)


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:50_000], lambda b: b"", lambda b: b[:-1] + b"\0"])
def test_a_damaged_object_is_found_on_fetch_and_leaves_no_file(
    s3: Any, home: Path, monkeypatch: pytest.MonkeyPatch, damage: Any
) -> None:
    ref = _published(monkeypatch)
    key = place(ref["uri"], "data").removeprefix("s3://bucket/")
    s3.put_object(Bucket="bucket", Key=key, Body=damage(CONTENT))
    with pytest.raises(IntegrityError, match="is damaged or absent"):
        artifacts.fetch(ref)
    assert [path.name for path in (home / "cache").rglob("*") if path.is_file()] == ["lock"]


def test_a_server_that_answers_with_another_object_is_found_on_fetch(
    s3: Any, _s3_server: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ref = _published(monkeypatch)
    with FlakyS3(_s3_server, seed=1, share=0) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
        server.other_etag = True
        with pytest.raises(IntegrityError, match="was replaced while it was read"):
            artifacts.fetch(ref)
    assert [path.name for path in (home / "cache").rglob("*") if path.is_file()] == ["lock"]


@pytest.mark.parametrize("other", [CONTENT[::-1], CONTENT[:10]])
def test_an_object_that_is_replaced_while_it_is_read_is_not_mixed(
    s3: Any, monkeypatch: pytest.MonkeyPatch, other: bytes
) -> None:
    monkeypatch.setattr(speaking, "RANGE", 50_000)
    s3.put_object(Bucket="bucket", Key="x", Body=CONTENT)
    ranges = speaking.ranges("bucket", "x")
    assert next(ranges) == CONTENT[:50_000]
    s3.put_object(Bucket="bucket", Key="x", Body=other)
    with pytest.raises(StorageError, match="was replaced while it was read"):
        next(ranges)
