"""Airflow with FAB's auth manager, as the tests of roles look at it: api-server, scheduler and triggerer on SQLite.

FAB is none of the project's own requirements. It is taken from the environment that docker-compose.yaml is checked with.
"""

from __future__ import annotations

import json
import os
import secrets
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
from api import PATIENCE, Api

PYTHON = tiny.ROOT / "var" / "compose" / "bin" / "python"
MANAGER = "airflow.providers.fab.auth_manager.fab_auth_manager.FabAuthManager"


class Fab:
    """A running Airflow, and everybody who has an account there."""

    def __init__(self, home: Path, people: dict[str, list[str]]) -> None:
        assert PYTHON.exists(), "FAB is not installed: 'make fab' makes its environment"
        port = stack.free_port(8280)
        self.env = stack.environment(port) | {
            "AIRFLOW__CORE__AUTH_MANAGER": MANAGER,
            "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(
                32
            ),  # all parts must share these, or no task is let in
            "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
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
        """Each part in a process group of its own; the triggerer finds an answer that came too soon for the scheduler."""
        for part in ("api-server", "scheduler", "triggerer"):
            command = [str(PYTHON), "-m", "airflow", part]
            with (self.home / f"{part}.log").open("ab") as log:
                began = subprocess.Popen(
                    command, env=self.env, cwd=self.home, stdout=log, stderr=log, start_new_session=True
                )
            self.groups.append(began.pid)

    def stop(self) -> None:
        """End what was started; nobody needs what they would tidy up."""
        for sign in (signal.SIGTERM, signal.SIGKILL):
            for group in self.groups:
                if stack._alive(group):
                    os.killpg(group, sign)
            end = time.monotonic() + 5
            while any(map(stack._alive, self.groups)) and time.monotonic() < end:
                stack._reap()
                time.sleep(0.1)

    def code(self, name: str, method: str, path: str, body: Any = None) -> int:
        """What a person is answered with, or somebody without an account; `path` is of the API, or a whole address.

        Where SQLite was locked for longer than Airflow waits (500), the request is sent again.
        """
        for _ in range(3):
            try:
                with urllib.request.urlopen(self._request(name, method, path, body), timeout=PATIENCE) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as exc:
                if exc.code != 500:
                    return exc.code
        return 500

    def _request(self, name: str, method: str, path: str, body: Any = None) -> urllib.request.Request:
        headers = {"Content-Type": "application/json"}
        if name in self.people:
            if not self.people[name]._token:
                self.people[name].call("GET", "/version")
            headers["Authorization"] = f"Bearer {self.people[name]._token}"
        url = path if path.startswith("http") else f"{self.base}/api/v2{path}"
        return urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers, method=method)

    def rights(self) -> dict[str, set[tuple[str, str]]]:
        """Of all roles, as FAB tells an administrator."""
        request = self._request("admin", "GET", f"{self.base}/auth/fab/v1/roles?limit=100")
        with urllib.request.urlopen(request, timeout=60) as answer:
            roles = json.load(answer)["roles"]
        return {
            role["name"]: {(one["action"]["name"], one["resource"]["name"]) for one in role["actions"]}
            for role in roles
        }

    def up(self) -> bool:
        """Whether it answers."""
        try:
            return self.code("stranger", "GET", "/monitor/health") == 200
        except OSError:
            return False

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

    def asked(self, dag: str, run: str) -> None:
        """Wait until a run's question is put."""

        def waiting() -> bool:
            states = self.states(dag, run)
            assert "failed" not in states.values(), states
            return states["approve"] in ("awaiting_input", "deferred")

        self.wait(waiting, 120, f"the question of {run}")
