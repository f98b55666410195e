"""What Airflow costs: seconds to import all DAG files beyond `airflow.sdk`, and seconds of overhead per task in a row.

Peer `naive`: the same tasks in a DAG file with torch, transformers, mlflow and pandas imported at its top. Task
children import their DAG file again, so what stands there is paid at every parse and every task.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.harness import paired, report

ROOT = Path(__file__).parent.parent
DEADLINE = 180  # seconds for five tasks, or for a DAG to appear
DAGS = Path(__file__).parent / "dags"
sys.path.insert(0, str(ROOT / "scripts"))
_IMPORT = """
import importlib.util, pathlib, sys, time
import airflow.sdk
sys.path[:0] = {paths!r}
started = time.perf_counter()
for path in {files!r}:
    spec = importlib.util.spec_from_file_location(pathlib.Path(path).stem, path)
    spec.loader.exec_module(importlib.util.module_from_spec(spec))
print(time.perf_counter() - started)
"""


def import_seconds(files: list[Path]) -> float:
    """Seconds to execute these DAG files in a fresh process that has `airflow.sdk` loaded."""
    paths = [str(ROOT / "dags"), str(ROOT / "plugins"), str(ROOT)]
    code = _IMPORT.format(paths=paths, files=[str(file) for file in files])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def overhead_seconds(dag: str) -> float:
    """(Wall time of a run of five tasks that do nothing) / 5, on a running Airflow."""
    import stack
    from api import Api

    api = Api(stack.status()["airflow"], "admin", stack.password("admin"))
    run, end = api.trigger(dag), time.monotonic() + DEADLINE
    while (found := next(item for item in api.runs(dag) if item["dag_run_id"] == run))["state"] != "success":
        if found["state"] == "failed" or time.monotonic() > end:
            raise RuntimeError(f"the run of '{dag}' is {found['state']} after {DEADLINE} s at most")
        time.sleep(0.5)
    start, end = (datetime.fromisoformat(found[name]) for name in ("start_date", "end_date"))
    return (end - start).total_seconds() / 5


def main() -> None:
    """Both figures."""
    files = sorted((ROOT / "dags").glob("*.py"))
    figures = paired(lambda _: import_seconds(files), lambda _: import_seconds([DAGS / "naive.py"]), 5)
    report("airflow", "naive", "s to import all DAG files beyond airflow.sdk", 10.0, figures)
    _overhead()


def _wait_for_dags(api: Any) -> None:
    end = time.monotonic() + DEADLINE
    while not {"light", "naive"} <= set(api.dags()):
        if time.monotonic() > end:
            raise RuntimeError(f"the bench's DAGs did not appear in {DEADLINE} s: {api.import_errors()}")
        time.sleep(2)


def _overhead() -> None:
    import stack
    from api import Api

    os.environ["LLMOPS_DAGS"] = str(DAGS)
    try:
        state = stack.up()
        api = Api(state["airflow"], "admin", stack.password("admin"))
        _wait_for_dags(api)
        overhead_seconds("light"), overhead_seconds("naive")  # the first task of a fresh worker costs seconds more
        figures = paired(lambda _: overhead_seconds("light"), lambda _: overhead_seconds("naive"), 3)
    finally:
        stack.down()
        del os.environ["LLMOPS_DAGS"]
    report("airflow", "naive", "s of overhead per sequential task", 4.0, figures)
