"""A running Airflow, as the live tests look at it: by REST, by its home, and by its processes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support import tiny

sys.path.insert(0, str(tiny.ROOT / "scripts"))
import stack
from api import Api


class World:
    """A running stack, seen by an administrator and by one who approves."""

    def __init__(self, home: Path) -> None:
        self.home = home
        state = stack.up()
        self.api, self.approver = (Api(state["airflow"], user, stack.password(user)) for user in ("admin", "approver"))
        self.viewer, self.operator = (
            Api(state["airflow"], user, stack.password(user)) for user in ("viewer", "operator")
        )
        self.base = state["airflow"]
        # models that have one thread each: two of them keep two cores busy
        pool = {"pool": "compute", "slots": 2, "description": "two", "include_deferred": False}
        self.api.call("PATCH", "/pools/compute", pool)

    def wait(self, ready: Callable[[], Any], seconds: float, what: str, every: float = 0.5) -> Any:
        """Poll until something is there; twice as long, as other tests may run on the same cores."""
        end = time.monotonic() + 2 * seconds
        while time.monotonic() < end:
            if found := ready():
                return found
            time.sleep(every)
        raise AssertionError(f"waited {2 * seconds:.0f} s for {what}")

    def parse_again(self) -> None:
        """Have all DAG files parsed now, as after a deployment: Airflow looks at their times of change."""
        for path in (tiny.ROOT / "dags").glob("*.py"):
            path.touch()

    def finished(self, dag: str, run: str, seconds: float = 400) -> dict[str, str]:
        """Wait for a run's end; the states of its tasks."""

        def done() -> bool:
            return self.api.call("GET", f"/dags/{dag}/dagRuns/{quote(run, safe='')}")["state"] in ("success", "failed")

        self.wait(done, seconds, f"{dag} {run}")
        return {task["task_id"]: task["state"] for task in self.api.tasks(dag, run)}

    def started_by_asset(self, dag: str, known: int) -> str:
        """Wait for a run number `known` + 1 of a DAG."""
        return str(self.wait(lambda: (self.api.runs(dag)[known:] or [None])[0], 90, f"a run of {dag}")["dag_run_id"])

    def seen_by_watcher(self, asset: str) -> list[dict[str, Any]]:
        """What the triggerer remembers of a watched place."""
        (found,) = self.api.call("GET", f"/assets?name_pattern={asset}")["assets"]
        return list(self.api.call("GET", f"/assets/{found['id']}/state-store")["asset_state_store"])

    def question(self, dag: str) -> dict[str, Any]:
        """Wait until a question is put."""

        def waiting() -> Any:
            asked = [found for found in self.approver.approvals() if found["task_instance"]["dag_id"] == dag]
            return next((q for q in asked if q["task_instance"]["state"] in ("awaiting_input", "deferred")), None)

        return dict(self.wait(waiting, 400, f"a question of {dag}", every=0.1))

    def answer(self, dag: str, choice: str) -> str:
        """Answer a question the moment that it is put: Airflow may not have heard yet that its worker has ended.

        Returns:
            What was asked.
        """
        question = self.question(dag)
        instance = question["task_instance"]
        self.approver.answer(dag, instance["dag_run_id"], instance["task_id"], choice)
        return str(question["body"])

    def open_questions(self, dag: str) -> list[dict[str, Any]]:
        """All that wait for an answer, by run."""
        asked = [found for found in self.approver.approvals() if found["task_instance"]["dag_id"] == dag]
        return [one for one in asked if one["task_instance"]["state"] in ("awaiting_input", "deferred")]

    def clear(self, dag: str, run: str, *tasks: str) -> None:
        """Let tasks of a run go through again, and nothing else."""
        what = {"dry_run": False, "dag_run_id": run, "task_ids": list(tasks), "only_failed": False}
        self.api.call("POST", f"/dags/{dag}/clearTaskInstances", what)

    def restart(self, part: str) -> None:
        """Kill a part of Airflow, as a machine that loses power would, and start it again."""
        mine = self._processes(f"airflow {part.replace('-', '[-_]')}")  # processes name themselves, each in its way
        assert mine, f"no {part} runs"
        for pid in mine:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        stack.start_part(part)

    def kill_a_worker(self) -> None:
        """Kill the process that supervises a task, if one runs."""
        for pid in self._processes("airflow worker -- ")[:1]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _processes(self, name: str) -> list[int]:
        """This stack's own, by what they call themselves."""
        found = subprocess.run(["pgrep", "-f", name], capture_output=True, text=True, check=False).stdout
        sessions = set(stack.status()["groups"].values())  # whoever names itself may have written over its environment
        return [pid for pid in map(int, found.split()) if _session(pid) in sessions]

    def stop_training(self, usecase: str, sign: signal.Signals) -> None:
        """Send a signal to a use case's fine-tuning as soon as there is a checkpoint."""
        self.wait(lambda: self.checkpoints(usecase), 300, "a checkpoint", every=0.1)
        processes = self.trainings(usecase)
        assert processes, "the training ended before it could be stopped"
        for pid in processes:
            os.kill(pid, sign)

    def checkpoints(self, usecase: str) -> list[Path]:
        """All that are whole."""
        return list((self.home / "store" / usecase / "checkpoints").glob("*/step-*/_manifest.json"))

    def trainings(self, usecase: str) -> list[int]:
        """The processes that fine-tune this world's use case; there may be others on the machine."""
        command = ["pgrep", "-f", "llmops_tasks training.finetune"]
        found = map(int, subprocess.run(command, capture_output=True, text=True, check=False).stdout.split())
        mine = {f"LLMOPS_HOME={self.home}", f"AIRFLOW_CTX_DAG_ID={usecase}.train"}
        return [pid for pid in found if mine <= set(_environment(pid))]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:  # it has ended meanwhile
        return -1


def _environment(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/environ").read_text(encoding="utf-8", errors="replace").split("\0")
    except OSError:  # it has ended meanwhile
        return []
