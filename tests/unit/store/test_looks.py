"""The last look counts, and looking twice at the same files writes nothing."""

from __future__ import annotations

from llmops_tasks.store import digests, journal, looks, objects

ONE, TWO = {"file:///a.csv": "1"}, {"file:///a.csv": "2"}


def test_the_last_look_counts_and_the_same_files_are_kept_once() -> None:
    assert looks.last("ward") is None
    for marks in (ONE, ONE, TWO, ONE):
        looks.remember("ward", marks)
        assert looks.last("ward") == digests.digest(marks)
    assert journal.last(f"{objects.store_uri()}/ward/landed") == 3
    assert looks.last("another") is None
