"""Airflow with FAB's auth manager, as the tests of roles look at it: an api-server and a scheduler on SQLite.

FAB is none of the project's own requirements. It is taken from the environment that docker-compose.yaml is checked with.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import tiny

sys.path.insert(0, str(tiny.ROOT / "scripts"))
import stack
from api import Api

PYTHON = tiny.ROOT / "var" / "compose" / "bin" / "python"
MANAGER = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"


class Fab:
    """A running Airflow, and everybody who has an account there."""

    def __init__(self, home: Path, people: dict[str, list[str]]) -> None:
        assert PYTHON.exists(), "FAB is not installed: 'make fab' makes its environment"
        port = stack.free_port(8280)
        self.env = stack.environment(port) | {
            "AIRFLOW__CORE__AUTH_MANAGER": MANAGER,
            "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",
        }
        self.home, self.base, self.groups = home, f"http://127.0.0.1:{port}", list[int]()
        (home / "airflow").mkdir(parents=True)
        self.seen = self._set_up(people)
        self.people = {name: Api(self.base, name, name) for name in people}

    def _set_up(self, people: dict[str, list[str]]) -> dict[str, list[str]]:
        command = [str(PYTHON), "-m", "tests.support.fab_setup", json.dumps(people)]
        done = subprocess.run(command, env=self.env, cwd=self.home, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def start(self) -> None:
        """Both parts, each in a process group of its own."""
        for part in ("api-server", "scheduler"):
            with (self.home / f"{part}.log").open("ab") as log:
                self.groups.append(
                    subprocess.Popen(
                        [str(PYTHON), "-m", "airflow", part], env=self.env, cwd=self.home, stdout=log, stderr=log, start_new_session=True
                    ).pid
                )  # fmt: skip
        self.wait(lambda: self.code("", "GET", "/monitor/health") == 200, 120, "the api-server")

    def stop(self) -> None:
        """End what was started."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for group in self.groups:
                if stack._alive(group):
                    os.killpg(group, sign)
            end = time.monotonic() + 20
            while any(map(stack._alive, self.groups)) and time.monotonic() < end:
                stack._reap()
                time.sleep(0.1)

    def code(self, name: str, method: str, path: str, body: Any = None) -> int:
        """The status that a person gets, or somebody without an account; `path` is of the API, or begins with the server."""
        headers = {"Content-Type": "application/json"}
        if name in self.people:
            self.people[name]._token or self.people[name].call("GET", "/version")
            headers["Authorization"] = f"Bearer {self.people[name]._token}"
        url = path if path.startswith("http") else f"{self.base}/api/v2{path}"
        data = None if body is None else json.dumps(body).encode()
        try:
            with urllib.request.urlopen(urllib.request.Request(url, data, headers, method=method), timeout=60) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as exc:
            return exc.code
        except OSError:
            return 0

    def wait(self, ready: Callable[[], Any], seconds: float, what: str) -> Any:
        """Poll until something is there."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := ready():
                return found
            time.sleep(0.3)
        raise AssertionError(f"waited {seconds:.0f} s for {what}")

    def states(self, dag: str, run: str) -> dict[str, str]:
        """A run's tasks."""
        return {task["task_id"]: task["state"] for task in self.people["op"].tasks(dag, run)}

    def asked(self, dag: str, run: str, tries: int = 1) -> Any:
        """Wait until a run's question is put, for so many times."""

        def waiting() -> Any:
            found = self.people["op"].tasks(dag, run)
            return [t for t in found if t["task_id"] == "approve" and t["state"] in ("awaiting_input", "deferred")]

        return self.wait(waiting, 120, f"the question of {run}")
