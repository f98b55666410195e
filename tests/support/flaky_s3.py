"""An S3 server that stands before another one and fails a share of all requests, in a seeded order."""

from __future__ import annotations

import http.client
import random
import threading
import time
from collections import Counter
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

    def __init__(self, upstream: str, seed: int, share: float = 0.3, silence: float = 0.6) -> None:
        self.upstream, self.share, self.silence = upstream.removeprefix("http://"), share, silence
        self.other_etag = False
        self.seen: Counter[str] = Counter()
        self._random, self._lock = random.Random(seed), threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def fault(self) -> str:
        """What happens to the next request; empty if nothing does."""
        with self._lock:
            fault = self._random.choice(FAULTS) if self._random.random() < self.share else ""
            self.seen[fault] += 1
            return fault

    def __enter__(self) -> FlakyS3:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(flaky: FlakyS3) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            fault = flaky.fault()
            if fault in _CODES:
                self._send(int(fault), {}, _XML.format(code=_CODES[fault]).encode(), "")
            elif fault == "silent":
                self.close_connection = True
                time.sleep(flaky.silence)
            else:
                self._forward(body, fault)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _any  # noqa: N815

        def _forward(self, body: bytes, fault: str) -> None:
            connection = http.client.HTTPConnection(flaky.upstream)
            hop = ("host", "expect", "connection", "content-length")
            headers = {name: value for name, value in self.headers.items() if name.lower() not in hop}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            if fault == "lost":
                self.close_connection = True
                return
            kept = {
                n: v for n, v in answer.getheaders() if n.lower() not in ("connection", "transfer-encoding", "date")
            }
            if flaky.other_etag and not self.headers.get("Range", "bytes=0-").startswith("bytes=0-"):
                kept = {n: '"another"' if n.lower() == "etag" else v for n, v in kept.items()}
            self._send(answer.status, kept, content, fault)

        def _send(self, status: int, headers: dict[str, str], content: bytes, fault: str) -> None:
            self.send_response_only(status)
            for name, value in headers.items():
                if name.lower() != "content-length":
                    self.send_header(name, value)
            length = next((v for n, v in headers.items() if n.lower() == "content-length"), str(len(content)))
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command == "HEAD":
                return
            if fault == "cut" and content:
                self.wfile.write(content[: len(content) // 2])
                self.close_connection = True
            elif fault == "slow":
                for start in range(0, len(content), len(content) // 4 + 1):
                    self.wfile.write(content[start : start + len(content) // 4 + 1])
                    time.sleep(0.01)
            else:
                self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
