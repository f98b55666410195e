"""A mail server and a webhook on loopback that keep what they are sent."""

from __future__ import annotations

import json
import socketserver
import threading
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Sinks:
    """Both, until they are closed.

    Attributes:
        mails: subject and text of each mail.
        posts: each JSON object that was posted.
    """

    def __init__(self) -> None:
        self.mails: list[tuple[str, str]] = []
        self.posts: list[dict[str, Any]] = []
        self._mail = _MailServer(self.mails)
        self._web = ThreadingHTTPServer(("127.0.0.1", 0), _webhook(self.posts))
        for server in (self._mail, self._web):
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

    def connections(self) -> dict[str, str]:
        """Airflow's connections to them, as variables of its environment."""
        extra = {"disable_ssl": True, "disable_tls": True, "from_email": "llmops@example.com", "retry_limit": 1}
        mail = {"conn_type": "smtp", "host": "127.0.0.1", "port": self._mail.server_address[1], "extra": extra}
        web = {"conn_type": "http", "host": "127.0.0.1", "port": self._web.server_address[1], "schema": "http"}
        return {"AIRFLOW_CONN_SMTP_DEFAULT": json.dumps(mail), "AIRFLOW_CONN_WEBHOOK": json.dumps(web)}

    def close(self) -> None:
        """Stop both."""
        for server in (self._mail, self._web):
            server.shutdown()
            server.server_close()


class _MailServer(socketserver.ThreadingTCPServer):
    """SMTP (RFC 5321), as much as a client needs to get rid of a mail."""

    allow_reuse_address = daemon_threads = True

    def __init__(self, mails: list[tuple[str, str]]) -> None:
        super().__init__(("127.0.0.1", 0), _Mail)
        self.mails = mails


class _Mail(socketserver.StreamRequestHandler):
    server: _MailServer

    def handle(self) -> None:
        self._say("220 sink")
        while line := self.rfile.readline().decode().strip():
            word = line.split(":")[0].split(" ")[0].upper()
            if word == "DATA":
                self._say("354 go on")
                self._keep()
            self._say("221 bye" if word == "QUIT" else "250 ok")
            if word == "QUIT":
                return

    def _keep(self) -> None:
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line)
        mail = message_from_bytes(b"".join(lines), policy=policy.default)
        parts = [part.get_content() for part in mail.walk() if part.get_content_maintype() == "text"]
        self.server.mails.append((str(mail["Subject"]), "\n".join(parts)))

    def _say(self, line: str) -> None:
        self.wfile.write(f"{line}\r\n".encode())


def _webhook(posts: list[dict[str, Any]]) -> type[BaseHTTPRequestHandler]:
    class Webhook(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            pass

    return Webhook
