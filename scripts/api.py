"""The part of Airflow's REST API that the demo and the live tests use."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

PAUSES = (1, 2, 4, 8, 16, 0)  # seconds between attempts
PATIENCE = 150  # seconds; longer than Airflow itself waits for a locked SQLite, so that its answer is heard


class Api:
    """A user's view of a running Airflow."""

    def __init__(self, base: str, user: str, password: str) -> None:
        self.base, self._login = base, {"username": user, "password": password}
        self._token = ""

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """One request; signs in first, again when the token has run out, and waits for a server or database that is away."""
        for pause in PAUSES:
            try:
                if not self._token:
                    self.sign_in()
                return self._send(method, f"/api/v2{path}", body)
            except urllib.error.HTTPError as exc:
                if exc.code not in (401, 500, 503) or not pause:
                    raise
                self._token = "" if exc.code == 401 else self._token
            except (OSError, http.client.HTTPException) as exc:
                if not pause or not (_reads(method, path) or _never_sent(exc)):
                    raise
            time.sleep(pause)
        raise AssertionError("the last attempt returns or raises")

    def sign_in(self) -> str:
        """Fetch a new token."""
        self._token = ""
        self._token = str(self._send("POST", "/auth/token", self._login)["access_token"])
        return self._token

    def _send(self, method: str, path: str, body: Any) -> Any:
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data=data, headers=headers, method=method)
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def dags(self) -> dict[str, Any]:
        """All DAGs by id."""
        return {dag["dag_id"]: dag for dag in self.call("GET", "/dags?limit=100")["dags"]}

    def import_errors(self) -> list[str]:
        """Import errors."""
        return [
            f"{e['filename']}: {e['stack_trace'].splitlines()[-1]}"
            for e in self.call("GET", "/importErrors")["import_errors"]
        ]

    def trigger(self, dag: str, conf: dict[str, Any] | None = None) -> str:
        """Start a run as a user would; returns its id."""
        return str(self.call("POST", f"/dags/{dag}/dagRuns", {"logical_date": None, "conf": conf or {}})["dag_run_id"])

    def runs(self, *dags: str) -> list[dict[str, Any]]:
        """The newest 100 runs of these DAGs, the oldest first."""
        body = {"dag_ids": list(dags), "order_by": "-run_after", "page_limit": 100}
        return list(reversed(self.call("POST", "/dags/~/dagRuns/list", body)["dag_runs"]))

    def tasks(self, dag: str, run: str) -> list[dict[str, Any]]:
        """The task instances of a run."""
        return list(self.call("GET", f"/dags/{dag}/dagRuns/{_quoted(run)}/taskInstances?limit=200")["task_instances"])

    def xcom(self, dag: str, run: str, task: str) -> Any:
        """What a task returned."""
        path = f"/dags/{dag}/dagRuns/{_quoted(run)}/taskInstances/{task}/xcomEntries/return_value"
        return self.call("GET", f"{path}?deserialize=true&stringify=false")["value"]

    def approvals(self) -> list[dict[str, Any]]:
        """Questions that wait for an answer."""
        return list(self.call("GET", "/dags/~/dagRuns/~/hitlDetails?response_received=false")["hitl_details"])

    def answer(self, dag: str, run: str, task: str, choice: str) -> None:
        """Answer a question as the signed-in user."""
        path = f"/dags/{dag}/dagRuns/{_quoted(run)}/taskInstances/{task}/-1/hitlDetails"
        self.call("PATCH", path, {"chosen_options": [choice], "params_input": {}})

    def log(self, dag: str, run: str, task: str, attempt: int = 1) -> str:
        """A task's log."""
        path = f"/dags/{dag}/dagRuns/{_quoted(run)}/taskInstances/{task}/logs/{attempt}"
        return json.dumps(self.call("GET", path))


def _reads(method: str, path: str) -> bool:
    """Whether the request changes nothing; lists with filters in their body are asked for by POST."""
    return method == "GET" or path.endswith("/list")


def _never_sent(exc: Exception) -> bool:
    """Nothing listened, so sending the request again cannot do anything twice."""
    return isinstance(getattr(exc, "reason", exc), ConnectionRefusedError)


def _quoted(word: str) -> str:
    return urllib.parse.quote(word, safe="")
