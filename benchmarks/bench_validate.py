"""Row validation: seconds for the same 8 rules on the same 200,000 rows, from Parquet to the list of bad rows.

Peer `great_expectations`: its suite on a pandas frame, with the index of every unexpected row; both must find the
same rows. Peer `ingest`: reading the same rows from CSV, as validation should cost little beside it (goal 10).
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import records
from benchmarks.harness import paired, report
from llmops_tasks import artifacts, config
from llmops_tasks.data import expectations, ingest, rules, validate

ROWS, N = 200_000, 5


class World:
    """The rows, as ingest left them."""

    def __init__(self, folder: Path) -> None:
        self.usecase = records.write(folder, ROWS)
        self.case = config.load(self.usecase)
        started = time.perf_counter()
        self.ref = ingest.ingest(usecase=self.usecase)
        self.ingest_seconds = time.perf_counter() - started
        self.path = artifacts.fetch(self.ref) / "records.parquet"
        self.labels = [value for label in self.case.task.labels for value in label.values]
        self.found: dict[str, set[int]] = {}


def ours(world: World) -> float:
    """Seconds of the streaming pass, duplicate ids included."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    started = time.perf_counter()
    judge, bad, at = rules.Rules(world.case.data.columns, world.labels), set[int](), 0
    with pq.ParquetFile(world.path) as file:
        for batch in file.iter_batches(batch_size=10_000):
            _, reasons = judge.check(pa.Table.from_batches([batch]))
            bad |= {at + row for row, reason in enumerate(reasons.is_valid().to_pylist()) if reason}
            at += batch.num_rows
    bad |= validate._duplicates(world.path, "visit")
    world.found["ours"] = bad
    return time.perf_counter() - started


def great_expectations(world: World) -> float:
    """Seconds of the suite on the typed frame, made from the same file."""
    started = time.perf_counter()
    frame = pd.read_parquet(world.path)
    bad: set[int] = set()
    for name, column in world.case.data.columns.items():
        if column.type == "number":
            numbers = pd.to_numeric(frame[name], errors="coerce")
            bad |= set(frame.index[numbers.isna() & frame[name].notna()])
            frame[name] = numbers
    frame[expectations.ROW] = range(len(frame))
    suite = expectations.suite(world.case.data.columns, world.labels)
    assert len(suite) == records.RULES
    result: Any = expectations._checked(frame, [rule for _, rule in suite])
    for item in result.results:
        bad |= set(expectations._rows("", item) or [])
    world.found["theirs"] = bad
    return time.perf_counter() - started


def main() -> None:
    """Both peers."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        ours(world), great_expectations(world)  # imports are nobody's rows
        figures = paired(lambda _: ours(world), lambda _: great_expectations(world), N)
        assert world.found["ours"] == world.found["theirs"], "both must find the same rows"
        report("validate", "great_expectations", f"s for {records.RULES} rules on {ROWS} rows", 10.0, figures)
        figures = paired(lambda _: ours(world), lambda _: world.ingest_seconds, 1)
        report("validate", "ingest", "s beside the reading of the same rows", 10.0, figures)
