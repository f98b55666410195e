"""Nothing that a test starts reaches another machine: what the guard refuses, and that children carry it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from llmops_tasks import process
from tests.support import offline

AWAY = {
    "an address": "import socket; socket.create_connection(('192.0.2.1', 80), timeout=5)",
    "an address of version 6": "import socket; socket.socket(socket.AF_INET6).connect(('2001:db8::1', 80))",
    "a name": "import socket; socket.getaddrinfo('example.org', 80)",
    "a name, the old way": "import socket; socket.gethostbyname('example.org')",
    "a datagram": "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
    "a page": "import urllib.request; urllib.request.urlopen('http://example.org')",
    "an event loop": "import asyncio; asyncio.run(asyncio.open_connection('192.0.2.1', 80))",
    "a grandchild": "import subprocess, sys; subprocess.run([sys.executable, '-c', "
    "'import socket; socket.getaddrinfo(\"example.org\", 80)'], check=True)",
}


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A record of the test's own: what is tried here is tried on purpose."""
    monkeypatch.setenv(offline.RECORD, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("env", [None, {"PATH": os.environ["PATH"]}], ids=["inherited", "its own"])
@pytest.mark.parametrize("code", AWAY.values(), ids=AWAY.keys())
def test_a_child_that_tries_is_refused_and_written_down(record: Path, code: str, env: dict[str, str] | None) -> None:
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "tests work offline" in done.stderr
    assert [line for line in offline.refused() if "192.0.2.1" in line or "2001:db8" in line or "example.org" in line]


def test_this_process_is_refused_too(record: Path) -> None:
    with pytest.raises(PermissionError, match="offline"):
        socket.socket().connect(("192.0.2.1", 80))
    assert offline.refused()[0].startswith("socket.connect '192.0.2.1' at unit/test_offline.py:")


def test_what_stays_on_this_machine_is_let_through(record: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, server.getsockname()[1]), timeout=5).close()
    assert offline.refused() == []


def test_a_verb_in_a_process_of_its_own_carries_the_guard(record: Path) -> None:
    assert process.call("release.verify_ledger", {"usecase": "triage"})["entries"] == 0
    assert [line for line in offline.started() if "llmops_tasks release.verify_ledger" in line]
