"""An S3 server that stands before another one and fails a share of all requests, in a seeded order."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FAULTS = ("500", "503", "409", "silent", "lost", "cut", "slow")
_XML = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>try again</Message></Error>"
_CODES = {"500": "InternalError", "503": "SlowDown", "409": "ConditionalRequestConflict"}


class FlakyS3:
    """A context manager; `url` is where it listens, `seen` counts what it did.

    silent: no answer until the client gives up. lost: done, but the answer never leaves. cut: the answer ends in
    its middle. slow: it comes in drops.

    Args:
        upstream: address of the server that does the work.
        share: of requests that fail.
        silence: seconds; longer than the client waits.
        other_etag: answer all but the first range with another ETag.
    """

    def __init__(self, upstream: str, seed: int, share: float = 0.3, silence: float = 0.3) -> None:
        self.upstream, self.share, self.silence = upstream.removeprefix("http://"), share, silence
        self.other_etag = False
        self.seen: Counter[str] = Counter()
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.flaky = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def fault(self) -> str:
        """What happens to the next request; empty if nothing does."""
        with self._lock:
            fault = self._random.choice(FAULTS) if self._random.random() < self.share else ""
            self.seen[fault] += 1
            return fault

    def __enter__(self) -> FlakyS3:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    flaky: FlakyS3


class _Handler(BaseHTTPRequestHandler):
    disable_nagle_algorithm = True  # head and body are two writes
    protocol_version = "HTTP/1.1"
    server: _Server

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        fault = self.server.flaky.fault()
        if fault in _CODES:
            self._send(int(fault), {}, _XML.format(code=_CODES[fault]).encode(), "")
        elif fault == "silent":
            self.close_connection = True
            time.sleep(self.server.flaky.silence)
        else:
            self._forward(body, fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any

    def _forward(self, body: bytes, fault: str) -> None:
        connection = http.client.HTTPConnection(self.server.flaky.upstream)
        hop = ("host", "expect", "connection", "content-length")
        connection.request(self.command, self.path, body, _without(self.headers.items(), hop))
        answer = connection.getresponse()
        content = answer.read()
        if fault == "lost":
            self.close_connection = True
            return
        headers = _without(answer.getheaders(), ("connection", "transfer-encoding", "date"))
        if self.server.flaky.other_etag and not self.headers.get("Range", "bytes=0-").startswith("bytes=0-"):
            headers = {name: '"another"' if name.lower() == "etag" else value for name, value in headers.items()}
        self._send(answer.status, headers, content, fault)

    def _send(self, status: int, headers: dict[str, str], content: bytes, fault: str) -> None:
        length = next((value for name, value in headers.items() if name.lower() == "content-length"), len(content))
        self.send_response_only(status)
        for name, value in (_without(headers.items(), ("content-length",)) | {"Content-Length": str(length)}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self._say(content, fault)

    def _say(self, content: bytes, fault: str) -> None:
        if fault == "cut" and content:
            self.wfile.write(content[: len(content) // 2])
            self.close_connection = True
            return
        drop = len(content) // 4 + 1 if fault == "slow" else len(content) + 1
        for start in range(0, len(content), drop):
            self.wfile.write(content[start : start + drop])
            time.sleep(0.01 if fault == "slow" else 0)

    def log_message(self, *_: Any) -> None:
        pass


def _without(headers: Iterable[tuple[str, str]], names: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in headers if name.lower() not in names}
