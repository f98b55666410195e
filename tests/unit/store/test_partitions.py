"""A day's partition is its finished parts, in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops_tasks.store import artifacts, digests, partitions


def _part(date: str, number: int, rows: int = 1) -> Any:
    def build(out: Path) -> dict[str, Any]:
        (out / "predictions.parquet").write_text(f"{date} {number}")
        return {"rows": rows, "release_version": str(number)}

    at = f"{partitions.folder('ward', date)}/part-{number:04d}"
    return artifacts.publish(usecase="ward", kind="predictions", inputs={"d": date, "n": number}, build=build, at=at)


def test_parts_come_in_order_and_one_without_a_manifest_is_none() -> None:
    second, first = _part("2026-03-30", 2), _part("2026-03-30", 1)
    _part("2026-03-31", 1)
    broken = _part("2026-03-30", 3)
    (artifacts.fetch(broken) / artifacts.MANIFEST).unlink()
    assert partitions.parts("ward", "2026-03-30") == [first, second]
    assert partitions.parts("ward", "2026-04-01") == []
    assert partitions.dates("ward") == ["2026-03-30", "2026-03-31"]
    assert partitions.dates("another") == []


def test_together_they_are_one_table_of_the_version_that_answered_last() -> None:
    parts = [_part("2026-03-30", 1, rows=3), _part("2026-03-30", 2, rows=2)]
    whole = partitions.together("2026-03-30", parts, added=2, changed=1)
    assert (whole["rows"], whole["added"], whole["changed"], whole["release_version"]) == (5, 2, 1, "2")
    assert whole["sha256"] == digests.digest(["2026-03-30", [part["sha256"] for part in parts]])
    assert whole["sha256"] != partitions.together("2026-03-31", parts)["sha256"]  # alike, and another day
    assert whole["sha256"] != partitions.together("2026-03-30", parts[:1])["sha256"]
