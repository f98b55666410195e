"""The harness of all benchmarks.

Ours and a peer alternate in one process tree, so that other load on the machine affects both. Before each
leg a 0.3 s matrix product measures the machine's current speed. The claim is the median of the paired
ratios; absolute times are only for orientation. One JSON line per peer, appended to `benchmarks/results/`.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def calibrate(seconds: float = 0.3) -> float:
    """GFLOP/s of single-precision matrix products right now."""
    import numpy as np

    size = 768
    left, right = (np.random.default_rng(seed).standard_normal((size, size), dtype=np.float32) for seed in (1, 2))
    left @ right  # warm up
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        left @ right
        count += 1
    return count * 2 * size**3 / (time.perf_counter() - started) / 1e9


def paired(
    ours: Callable[[int], float], theirs: Callable[[int], float], n: int, peer_first: bool = False
) -> dict[str, Any]:
    """Run both n times in turn; each gets the repetition's number and returns its figure (less is better).

    The peer goes first in even repetitions and second in odd ones, so that neither profits from the order;
    always first where its result is our target.
    """
    rows: list[dict[str, float]] = []
    speeds: list[float] = []
    for repetition in range(n):
        row: dict[str, float] = {}
        for name, leg in (("theirs", theirs), ("ours", ours))[:: 1 if peer_first or repetition % 2 == 0 else -1]:
            speeds.append(calibrate())
            row[name] = leg(repetition)
        rows.append(row)
    return {
        "ratio": round(statistics.median(row["theirs"] / row["ours"] for row in rows), 2),
        "ours": short(statistics.median(row["ours"] for row in rows)),
        "theirs": short(statistics.median(row["theirs"] for row in rows)),
        "pairs": [[short(row["ours"]), short(row["theirs"])] for row in rows],
        "n": n,
        "calibration_gflops": round(statistics.median(speeds), 1),
    }


def short(figure: float) -> float:
    """Three decimals, and of what is smaller three digits."""
    return round(figure, 3) if figure >= 0.1 else float(f"{figure:.3g}")


def report(bench: str, peer: str, unit: str, goal: float, figures: dict[str, Any]) -> None:
    """Print the line and keep it."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)  # noqa: S607
    stamp = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit.stdout.strip()}
    line = json.dumps({"bench": bench, "peer": peer, **figures, "unit": unit, "goal": goal, **stamp})
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{bench}.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    print(line, flush=True)
