"""What can be made again goes when nobody used it, and nothing else does."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.store import artifacts, objects, retention


def records(inputs: dict[str, Any]) -> ArtifactRef:
    """An artifact of nothing."""
    return artifacts.publish(usecase="demo", kind="records", inputs=inputs, build=lambda _: {})


def _later(monkeypatch: pytest.MonkeyPatch, days: float) -> None:
    now = time.time()
    monkeypatch.setattr(retention.time, "time", lambda: now + days * 86_400)


def test_what_nobody_used_for_so_long_is_dropped_and_nothing_else(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    old, used, needed = (records({"a": number}) for number in (1, 2, 3))
    with monkeypatch.context() as patch:
        _later(patch, 29)
        retention.drop_unused(usecase="demo", kind="records", days=30)
        assert all(artifacts.at(ref["uri"]) for ref in (old, used, needed))
    if store.startswith("file"):  # on S3 the server's clock counts, and cannot be moved
        os.utime(objects.local_path(f"{old['uri']}/{artifacts.MANIFEST}"), (0, 0))
        os.utime(objects.local_path(f"{used['uri']}/{artifacts.MANIFEST}"), (0, 0))
        os.utime(objects.local_path(f"{needed['uri']}/{artifacts.MANIFEST}"), (0, 0))
        retention.mark_used(used)
    else:
        times = objects.written
        monkeypatch.setattr(
            objects, "written", lambda p: {u: t * (not u.endswith(artifacts.MANIFEST)) for u, t in times(p).items()}
        )
        retention.mark_used(used)
    retention.drop_unused(usecase="demo", kind="records", days=30, needed=[needed["uri"]])
    retention.drop_unused(usecase="demo", kind="records", days=30)  # the marks are there still
    assert artifacts.at(old["uri"]) is None
    assert artifacts.fetch(used) and artifacts.fetch(needed)  # what the work at hand needs is marked before


def test_a_mark_is_written_once_a_day(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ref, written = records({}), list[str]()
    replace = objects.replace
    monkeypatch.setattr(objects, "replace", lambda uri, data: written.append(uri) or replace(uri, data))
    for _ in range(3):
        retention.mark_used(ref)
    assert len(written) == 1
    _later(monkeypatch, 1.1)
    retention.mark_used(ref)
    assert len(written) == 2
