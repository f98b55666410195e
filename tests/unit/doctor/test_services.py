"""Store, MLflow and Airflow: what is unreachable or wrong is named, with what to do, and no secret is told."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import tracking
from llmops_tasks.doctor import Finding, services
from llmops_tasks.store import files, objects
from llmops_tasks.store import s3 as s3_client

# ---------------------------------------------------------------- the store


def _store() -> Finding:
    (found,) = services.store()
    return found


def test_a_store_that_works_is_left_as_it_was(home: Path) -> None:
    assert _store()["status"] == "ok"
    assert list((home / "store").iterdir()) == []


def test_a_store_on_s3_that_works_is_left_as_it_was(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    found = _store()
    assert (found["status"], found["found"]) == ("ok", "s3://bucket/store: written, read, not overwritten, removed")
    assert "Contents" not in s3.list_objects_v2(Bucket="bucket")


def test_a_store_that_cannot_be_written_is_a_problem(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    (home / "store").write_text("a file where a folder must be")
    found = _store()
    assert found["status"] == "problem" and "LLMOPS_STORE" in found["fix"]


def test_an_address_of_another_kind_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_STORE", "ftp://host/store")
    found = _store()
    assert found["status"] == "problem" and "LLMOPS_STORE" in found["fix"]


def test_a_bucket_that_is_not_there_is_a_problem(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_STORE", "s3://no-such-bucket/store")
    found = _store()
    assert found["status"] == "problem" and "AWS_*" in found["fix"]


def test_an_s3_that_is_unreachable_is_a_problem_asked_once(
    closed_endpoint: str, waits: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    assert _store()["status"] == "problem"
    assert len(waits) < s3_client.ATTEMPTS


def test_a_store_that_overwrites_is_a_problem(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "create", lambda uri, data: objects.replace(uri, data))
    found = _store()
    assert found["status"] == "problem" and "was overwritten" in found["found"]
    assert list((home / "store").iterdir()) == []


def test_an_s3_that_ignores_the_condition_is_a_problem(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    monkeypatch.setattr(services.objects.s3, "create", services.objects.s3.put)
    found = _store()
    assert found["status"] == "problem" and "If-None-Match" in found["found"]
    assert "Contents" not in s3.list_objects_v2(Bucket="bucket")


def test_a_store_that_gives_back_other_bytes_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "read_bytes", lambda uri: b"else")
    assert "other bytes" in _store()["found"]


# ---------------------------------------------------------------- MLflow


def _mlflow() -> Finding:
    (found,) = services.mlflow()
    return found


def test_a_database_that_nobody_began_is_a_warning_and_stays_so(home: Path) -> None:
    assert _mlflow()["status"] == "warning"
    assert not (home / "mlflow.db").exists()


def test_a_database_answers(mlflow: Path) -> None:
    assert _mlflow()["status"] == "ok"


def test_a_damaged_database_is_a_problem(home: Path) -> None:
    files.home()
    (home / "mlflow.db").write_bytes(b"no database " * 1000)
    assert _mlflow()["status"] == "problem"


def test_a_server_that_is_unreachable_is_a_problem_reported_without_its_password(
    closed_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "PAUSE", 0.0)
    monkeypatch.setattr(tracking, "_resting", {})
    monkeypatch.setenv("MLFLOW_TRACKING_URI", closed_endpoint.replace("://", "://me:s3cret@"))
    found = _mlflow()
    assert found["status"] == "problem" and "MLFLOW_TRACKING_URI" in found["fix"]
    assert "127.0.0.1" in found["found"] and "s3cret" not in str(found)


# ---------------------------------------------------------------- Airflow


class _Airflow(ThreadingHTTPServer):
    """As much of Airflow's REST API as is asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.parts: dict[str, Any] = {name: {"status": "healthy"} for name in services._PARTS}
        self.users, self.pools = {"admin": "right"}, {"compute": {"slots": 2}}
        self.asked: list[dict[str, str]] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Airflow

    def do_GET(self) -> None:
        if self.path == "/api/v2/monitor/health":
            self._answer(200, self.server.parts)
        elif self.headers["Authorization"] != "Bearer token":
            self._answer(401, {})
        else:
            pool = self.server.pools.get(self.path.removeprefix("/api/v2/pools/"))
            self._answer(200 if pool else 404, pool or {})

    def do_POST(self) -> None:
        login = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(login)
        known = self.server.users.get(login["username"]) == login["password"]
        self._answer(201 if known and self.path == "/auth/token" else 401, {"access_token": "token"} if known else {})

    def _answer(self, code: int, body: Any) -> None:
        self.send_response(code)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Airflow]:
    """Airflow, known by its address; nobody has signed in."""
    for name in ("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "LLMOPS_AIRFLOW_USER", "LLMOPS_AIRFLOW_PASSWORD"):
        monkeypatch.delenv(name, raising=False)
    with _Airflow() as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", _address(running))
        yield running
        running.shutdown()


def _address(server: _Airflow) -> str:
    return f"http://127.0.0.1:{server.server_address[1]}"


def _airflow() -> list[tuple[str, str]]:
    return [(found["check"], found["status"]) for found in services.airflow()]


def _sign_in(monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    monkeypatch.setenv("LLMOPS_AIRFLOW_USER", "admin")
    monkeypatch.setenv("LLMOPS_AIRFLOW_PASSWORD", password)


def test_an_airflow_that_nobody_named_is_not_checked(server: _Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__API__BASE_URL")
    assert _airflow() == [("airflow", "not checked")]
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "file:///etc/passwd")
    assert _airflow() == [("airflow", "not checked")]


def test_an_airflow_that_does_not_answer_is_a_problem(server: _Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "http://127.0.0.1:1")
    assert _airflow() == [("airflow", "problem")]


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-x\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\n[]", b"HTTP/1.0 200 OK\r\n\r\n<html>"]
)
def test_a_stranger_at_its_address_is_a_problem(
    server: _Airflow, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:

        def say() -> None:
            call, _ = stranger.accept()
            with call:
                call.recv(4096)
                call.sendall(answer)

        threading.Thread(target=say, daemon=True).start()
        monkeypatch.setenv("AIRFLOW__API__BASE_URL", f"http://127.0.0.1:{stranger.getsockname()[1]}")
        assert _airflow() == [("airflow", "problem")]


def test_an_address_with_a_password_is_shown_without_it(server: _Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", _address(server).replace("://", "://me:s3cret@"))
    healthy, _ = services.airflow()
    assert healthy["status"] == "ok" and "s3cret" not in str(healthy)


@pytest.mark.parametrize("ill", [{"status": "unhealthy"}, None, {}])
def test_a_part_that_is_ill_is_named(server: _Airflow, ill: Any) -> None:
    server.parts["scheduler"] = ill
    found = next(services.airflow())
    assert found["status"] == "problem" and found["found"].endswith("not healthy: scheduler")


def test_a_healthy_airflow_with_its_pool_is_well(server: _Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    _sign_in(monkeypatch, "right")
    healthy, pool = services.airflow()
    assert (healthy["status"], pool["status"], pool["found"]) == ("ok", "ok", "'compute' has 2 slot(s)")


def test_a_missing_pool_is_a_problem_with_the_command_that_makes_it(
    server: _Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    _sign_in(monkeypatch, "right")
    server.pools.clear()
    *_, pool = services.airflow()
    assert pool["status"] == "problem" and "airflow pools set compute 1" in pool["fix"]


def test_without_credentials_the_pool_is_not_checked(server: _Airflow) -> None:
    assert _airflow() == [("airflow", "ok"), ("pool", "not checked")]
    assert server.asked == []


def test_a_wrong_password_is_said_and_not_shown(server: _Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    _sign_in(monkeypatch, "wr0ng")
    *_, pool = services.airflow()
    assert (pool["status"], pool["found"]) == ("not checked", "Airflow answers 401")
    assert "wr0ng" not in str(pool)


def test_workers_know_the_address_too(server: _Airflow, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__API__BASE_URL")
    monkeypatch.setenv("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", f"{_address(server)}/execution/")
    assert _airflow()[0] == ("airflow", "ok")


@pytest.fixture
def started(home: Path, server: _Airflow) -> Path:
    """What `make up` leaves."""
    (home / "airflow").mkdir(parents=True)
    (home / "stack.json").write_text(json.dumps({"airflow": _address(server)}))
    (home / "airflow" / services.PASSWORDS).write_text('{"admin": "right"}')
    return home


def test_what_make_up_started_is_asked_with_the_password_that_it_made(
    started: Path, server: _Airflow, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIRFLOW__API__BASE_URL")
    assert _airflow() == [("airflow", "ok"), ("pool", "ok")]


def test_and_nobody_else_is(started: Path, server: _Airflow) -> None:
    (started / "stack.json").write_text(json.dumps({"airflow": "http://127.0.0.1:1"}))
    assert _airflow() == [("airflow", "ok"), ("pool", "not checked")]
    assert server.asked == []
