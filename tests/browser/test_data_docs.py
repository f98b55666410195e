"""Data Docs in a real browser: they are laid out, and nothing in them asks another server for anything."""

from __future__ import annotations

import http.server
import shutil
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tasks.data.ingestion import ingest
from llmops_tasks.data.validation import validate
from llmops_tasks.store import artifacts
from tests.support import small

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")


class Proxy(http.server.BaseHTTPRequestHandler):
    """Every request of the page to another server comes by here."""

    asked: list[str] = []  # noqa: RUF012  (one list for all requests)

    def do_CONNECT(self) -> None:
        self.asked.append(self.path)
        self.send_error(502)

    do_GET = do_CONNECT

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def proxy() -> Iterator[str]:
    Proxy.asked.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def _chromium(profile: Path, proxy: str, *words: str) -> str:
    quiet = [
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-first-run",
        "--disable-background-networking",
    ]
    quiet += ["--disable-component-update", "--disable-sync", "--window-size=1200,1400", f"--user-data-dir={profile}"]
    command = [str(CHROMIUM), *quiet, f"--proxy-server={proxy}", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def test_data_docs_are_laid_out_without_any_other_server(tmp_path: Path, proxy: str) -> None:
    lines = [small.row(n, age="-1" if n % 5 == 0 else "40") for n in range(20)]
    usecase = small.usecase(tmp_path, {"uri": small.csv(tmp_path, lines)})
    ref = validate(usecase=usecase, records=ingest(usecase=usecase))
    page = (artifacts.fetch(ref) / "data_docs" / "index.html").as_uri()
    shot = tmp_path / "page.png"
    dom = _chromium(tmp_path / "profile", proxy, "--dump-dom", page)
    _chromium(tmp_path / "profile", proxy, f"--screenshot={shot}", page)
    assert "<h1>small: 20 rows</h1>" in dom and "4 unexpected values found" in dom
    width, height = struct.unpack(">II", shot.read_bytes()[16:24])
    assert (width, height) == (1200, 1400) and shot.stat().st_size > 30_000  # a blank page is 5 kB
    assert [name for name in Proxy.asked if "google" not in name] == []  # the browser's own start page asks its maker
