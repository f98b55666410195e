"""Row validation: seconds for the same 8 rules on the same 200,000 rows in memory, to the list of bad rows.

Peer `great_expectations`: its suite on a typed pandas frame, with the index of every unexpected row; ours types the
strings of an Arrow table, too. Both must find the same rows. Peer `ingest`: reading the same rows from CSV, as
validation should cost little beside it (goal 10).
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from benchmarks import records
from benchmarks.harness import paired, report
from llmops_tasks import config
from llmops_tasks.data import gx_report, ingestion, row_checks, tables, validation
from llmops_tasks.store import artifacts

ROWS, N = 200_000, 5


class World:
    """The rows, as ingest left them."""

    def __init__(self, folder: Path) -> None:
        self.usecase = records.write(folder, ROWS)
        self.case = config.load(self.usecase)
        started = time.perf_counter()
        self.ref = ingestion.ingest(usecase=self.usecase)
        self.ingest_seconds = time.perf_counter() - started
        self.path = artifacts.fetch(self.ref) / "records.parquet"
        self.table = pq.read_table(self.path)
        self.labels = [value for label in self.case.task.labels for value in label.values]
        self.frame, self.untyped = self._typed()
        self.found: dict[str, set[int]] = {}

    def _typed(self) -> tuple[pd.DataFrame, set[int]]:
        """The rows as Great Expectations wants them, and those with a cell of another type."""
        frame, bad = self.table.to_pandas(), set[int]()
        for name, column in self.case.data.columns.items():
            if column.type == "number":
                numbers = pd.to_numeric(frame[name], errors="coerce")
                bad |= set(frame.index[numbers.isna() & frame[name].notna()])
                frame[name] = numbers
        frame[gx_report.ROW] = range(len(frame))
        return frame, bad


def ours(world: World) -> float:
    """Seconds of typing and judging in batches, and of looking for ids that repeat."""
    started = time.perf_counter()
    judge, bad = row_checks.Rules(world.case.data.columns, world.labels), list[int]()
    for at in range(0, ROWS, tables.BATCH):
        _, reasons = judge.check(world.table.slice(at, tables.BATCH))
        bad += (np.flatnonzero(reasons.is_valid()) + at).tolist()
    world.found["ours"] = {*bad, *validation.duplicates(world.path, "visit", ROWS).tolist()}
    return time.perf_counter() - started


def great_expectations(world: World) -> float:
    """Seconds of the suite."""
    started = time.perf_counter()
    suite = gx_report.suite(world.case.data.columns, world.labels)
    assert len(suite) == records.RULES
    result: Any = gx_report.checked(world.frame, [rule for _, rule in suite])
    bad = {row for item in result.results for row in gx_report.broken_rows("", item) or []}
    world.found["theirs"] = bad | world.untyped
    return time.perf_counter() - started


def main() -> None:
    """Both peers."""
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder))
        ours(world), great_expectations(world)  # imports are not part of the measurement
        figures = paired(lambda _: ours(world), lambda _: great_expectations(world), N)
        assert world.found["ours"] == world.found["theirs"], "both must find the same rows"
        report("validate", "great_expectations", f"s for {records.RULES} rules on {ROWS} rows", 10.0, figures)
        figures = paired(lambda _: ours(world), lambda _: world.ingest_seconds, 1)
        report("validate", "ingest", "s beside the reading of the same rows", 10.0, figures)
