"""Ten times the rows: how much more memory, and how much more time than ten times?

10,000, 100,000 and 1,000,000 rows go through ingest, validate and version, each in a process of its own.
`memory_ratio` is peak memory at the largest size over that at a tenth of it; `slope` is time at the largest size over
ten times that at a tenth. The peer is the same code at a tenth of the rows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import records
from benchmarks.harness import calibrate, report

SIZES = (10_000, 100_000, 1_000_000)
_LEG = """
import json, resource, sys, time
from llmops_tasks.data.ingest import ingest
from llmops_tasks.data.validate import validate
from llmops_tasks.data.versions import version
usecase, seconds, started = sys.argv[1], {}, time.perf_counter()
records = ingest(usecase=usecase)
seconds["ingest"] = time.perf_counter() - started
good = validate(usecase=usecase, records=records)
seconds["validate"] = time.perf_counter() - started - seconds["ingest"]
dataset = version(usecase=usecase, records=good)
seconds["version"] = time.perf_counter() - started - seconds["ingest"] - seconds["validate"]
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps({"rows": dataset["rows"], "peak_mib": peak, **seconds}))
"""


def leg(rows: int) -> dict[str, Any]:
    """Peak memory and seconds of one size."""
    with tempfile.TemporaryDirectory() as folder:
        usecase = records.write(Path(folder) / "landing", rows)
        env = {**os.environ, "LLMOPS_HOME": f"{folder}/home", "PYTHONPATH": str(Path.cwd())}
        done = subprocess.run(
            [sys.executable, "-c", _LEG, usecase], env=env, capture_output=True, text=True, check=True
        )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """All sizes, the smallest first."""
    speed, legs = calibrate(), {rows: leg(rows) for rows in SIZES}
    seconds = {rows: sum(found[name] for name in ("ingest", "validate", "version")) for rows, found in legs.items()}
    large, small = SIZES[-1], SIZES[-2]
    figures = {
        "ratio": round(10 * seconds[small] / seconds[large], 3),
        "ours": round(seconds[large], 1),
        "theirs": round(seconds[small], 1),
        "memory_ratio": round(legs[large]["peak_mib"] / legs[small]["peak_mib"], 3),
        "slope": round(seconds[large] / seconds[small] / 10, 3),
        "legs": {str(rows): {name: round(value, 1) for name, value in found.items()} for rows, found in legs.items()},
        "n": 1,
        "calibration_gflops": round(speed, 1),
    }
    report("scale", "a_tenth_of_the_rows", f"s for {large} rows through ingest, validate and version", 0.91, figures)
