"""Power cuts: a verb that is killed at any moment leaves nothing half, and is repeated byte for byte (T1)."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data.anonymization import anonymize
from llmops_tasks.data.dataset import build_dataset, render_day
from llmops_tasks.data.ingestion import ingest
from llmops_tasks.data.validation import validate
from llmops_tasks.prompts import interface
from llmops_tasks.store import artifacts, digests
from tests.support import small, tiny

# Starts the same verb in one fresh child after another and kills each, with no warning, at a seeded moment of its
# own work: after so much processor time, as on a busy machine the clock says little about how far a child is.
# Heavy imports are made before: what is killed is the work.
_KILLER = """
import json, os, random, signal, sys, time
import duckdb, pyarrow.compute, pyarrow.parquet
from llmops_tasks.data import anonymize, build_dataset, ingest, render_day, validate

verbs = {verb.__name__: verb for verb in (ingest, validate, anonymize, build_dataset, render_day)}
if sys.argv[1] == "validate":
    import great_expectations.expectations, pandas
verb, arguments, home, points = verbs[sys.argv[1]], json.loads(sys.argv[2]), sys.argv[3], int(sys.argv[4])

def child(name):
    pid = os.fork()
    if pid == 0:
        os.environ["LLMOPS_HOME"] = f"{home}/{name}"
        verb(**arguments)
        os._exit(0)
    return pid

def work_until(pid, moment):
    clock = ~pid << 3 | 2  # clock_getcpuclockid(3) of a process
    while os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None and time.clock_gettime(clock) < moment:
        time.sleep(0.001)

_, status, used = os.wait4(child("whole"), 0)
assert status == 0
killed = 0
for number in range(points):
    pid = child(number)
    work_until(pid, random.Random(number).uniform(0.05, 1) * (used.ru_utime + used.ru_stime))
    os.kill(pid, signal.SIGKILL)
    killed += os.waitpid(pid, 0)[1] == signal.SIGKILL
print(killed)
"""
_VERBS: dict[str, Callable[..., Any]] = {
    verb.__name__: verb for verb in (ingest, validate, anonymize, build_dataset, render_day)
}
_BEFORE: dict[str, list[str]] = {"ingest": [], "validate": ["ingest"], "anonymize": ["ingest", "validate"]}


@pytest.mark.parametrize(
    ("verb", "mode", "rows", "points"),
    [
        ("ingest", "none", 4000, 10),
        ("ingest", "objects", 4000, 10),
        ("validate", "none", 100, 20),
        ("anonymize", "none", 1000, 12),
        ("build_dataset", "none", 500, 20),
        ("render_day", "none", 1000, 12),
    ],
)
def test_a_run_that_is_killed_leaves_nothing_half_and_is_repeated_byte_for_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, mode: str, rows: int, points: int
) -> None:
    monkeypatch.setenv("LLMOPS_PSEUDONYM_KEY", "one")  # homes would have a key each
    arguments, homes = _arguments(tmp_path, verb, mode, rows), tmp_path / "homes"
    done = subprocess.run(
        [sys.executable, "-c", _KILLER, verb, json.dumps(arguments), str(homes), str(points)],
        cwd=tiny.ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout.splitlines()[-1]) > points // 2
    whole = _everything(homes / "whole")
    for number in range(points):
        left = _everything(homes / str(number))
        assert left.items() <= whole.items()  # whatever stands under a final name is whole
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LLMOPS_HOME", str(homes / str(number)))
            assert _VERBS[verb](**arguments)["rows"] == 3 * rows
        assert _everything(homes / str(number)) == whole


def _arguments(folder: Path, verb: str, mode: str, rows: int) -> dict[str, Any]:
    """Three files, and what the verbs before made of them."""
    (folder / "in").mkdir()
    for place, name in enumerate("abc"):
        numbers = range(place * rows, (place + 1) * rows)
        small.csv(folder / "in", [small.row(n, note=f"sore throat {n} " * 9) for n in numbers], f"{name}.csv")
    usecase = small.usecase(folder, {"uri": f"file://{folder}/in/*.csv", "incremental": mode})
    arguments: dict[str, Any] = {"usecase": usecase}
    for earlier in _BEFORE.get(verb, ["ingest", "validate", "anonymize"]):
        arguments = {"usecase": usecase, "records": _VERBS[earlier](**arguments)}
    if verb == "render_day":
        arguments |= {"date": "2026-01-01", "champion": {"version": "1", "release": _release(usecase)}}
    return arguments


def _release(usecase: str) -> ArtifactRef:
    """Of a release only what says how it is asked."""

    def build(out: Path) -> dict[str, Any]:
        interface.of_usecase(config.load(usecase)).write(out)
        return {}

    return artifacts.publish(usecase="small", kind="release", inputs={}, build=build)


def _everything(home: Path) -> dict[str, str]:
    """Digests of all that stands under a final name; addresses in manifests begin with the home.

    Numbers that artifacts are ordered by may have gaps: a killed run takes one with it.
    """
    store = home / "store"
    found = [path for path in store.rglob("*") if path.is_file() and "/." not in str(path.relative_to(home))]
    return {
        str(path.relative_to(store)): digests.digest(
            re.sub(rb'"number":\d+', b"", path.read_bytes()).replace(str(home).encode(), b"~")
        )
        for path in found
        if "_order/" not in str(path)
    }
