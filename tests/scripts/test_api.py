"""The REST helper waits for a busy server, and does not wait for ever."""

from __future__ import annotations

import sys
import threading
import urllib.error
from collections.abc import Iterator
from http.client import BadStatusLine
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.support import tiny

sys.path.insert(0, str(tiny.ROOT / "scripts"))
import api


class Busy(HTTPServer):
    """Answers with these codes in turn, then with 200."""

    codes: list[int]
    seen: int = 0


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        signing_in = self.path == "/auth/token"
        code = 200 if signing_in or not self.server.codes else self.server.codes.pop(0)  # type: ignore[attr-defined]
        self.server.seen += 0 if signing_in else 1  # type: ignore[attr-defined]
        body = b'{"access_token": "t"}'
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Busy]:
    monkeypatch.setattr(api.time, "sleep", lambda _: None)
    server = Busy(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def _ask(server: Busy, codes: list[int]) -> int:
    server.codes = codes
    api.Api(f"http://127.0.0.1:{server.server_port}", "admin", "x").call("POST", "/pools", {})
    return server.seen


def test_a_locked_database_and_a_token_that_ran_out_are_waited_for(server: Busy) -> None:
    assert _ask(server, [500, 503, 401]) == 4


@pytest.mark.parametrize(("codes", "requests"), [([404], 1), ([500] * 9, len(api.PAUSES))])
def test_other_errors_are_raised_at_once_and_lasting_ones_in_the_end(
    server: Busy, codes: list[int], requests: int
) -> None:
    with pytest.raises(urllib.error.HTTPError):
        _ask(server, list(codes))
    assert server.seen == requests


def _unreachable(monkeypatch: pytest.MonkeyPatch, error: Exception, method: str, path: str) -> int:
    """How often a request is sent that always fails in this way."""
    sent: list[str] = []

    def fail(self: api.Api, *request: object) -> None:
        sent.append(str(request))
        raise error

    monkeypatch.setattr(api.time, "sleep", lambda _: None)
    monkeypatch.setattr(api.Api, "_send", fail)
    made = api.Api("http://127.0.0.1:1", "admin", "x")
    made._token = "t"
    with pytest.raises(type(error)):
        made.call(method, path)
    return len(sent)


REFUSED = urllib.error.URLError(ConnectionRefusedError())


@pytest.mark.parametrize(
    ("error", "method", "path", "again"),
    [(REFUSED, "POST", "/pools", True), (REFUSED, "GET", "/pools", True), (ConnectionResetError(), "GET", "/pools", True),
     (TimeoutError(), "GET", "/pools", True), (BadStatusLine("x"), "GET", "/pools", True),
     (ConnectionResetError(), "POST", "/dags/~/dagRuns/list", True),
     (ConnectionResetError(), "POST", "/pools", False), (TimeoutError(), "POST", "/pools", False)],
)  # fmt: skip
def test_a_server_that_restarts_is_waited_for_and_nothing_is_sent_twice_that_may_have_arrived(
    monkeypatch: pytest.MonkeyPatch, error: Exception, method: str, path: str, again: bool
) -> None:
    assert _unreachable(monkeypatch, error, method, path) == (len(api.PAUSES) if again else 1)
