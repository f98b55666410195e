"""A verb in a process of its own: the same result, the same errors, and no orphan."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llmops_tasks import process
from llmops_tasks.data.ingestion import ingest
from llmops_tasks.data.synthetic import write_triage
from llmops_tasks.errors import ConfigError, InputError, LLMOpsError, SourceError
from llmops_tasks.release.ledger import verify_ledger
from tests.support import small
from tests.support.tiny import ROOT


def test_an_isolated_verb_returns_its_result_and_what_it_cost(tmp_path: Path) -> None:
    sizes = {"notes": 20, "day_notes": 3, "reviewed_notes": 3}
    result = process.isolated(write_triage)(out=(tmp_path / "a").as_uri(), **sizes)
    cost = result.pop("cost")
    assert result == {**write_triage(out=(tmp_path / "b").as_uri(), **sizes), "uri": (tmp_path / "a").as_uri()}
    assert (tmp_path / "a" / "landing" / "history.csv").read_bytes() == (
        tmp_path / "b" / "landing" / "history.csv"
    ).read_bytes()
    assert cost["wall_seconds"] > 0 and cost["cpu_seconds"] >= 0 and cost["peak_mib"] > 0


def test_errors_keep_their_kind_and_their_words(tmp_path: Path) -> None:
    usecase = small.usecase(tmp_path, {"uri": f"file://{tmp_path}/none.csv"})
    with pytest.raises(SourceError) as here:
        ingest(usecase=usecase)
    with pytest.raises(SourceError) as there:
        process.isolated(ingest)(usecase=usecase)
    assert str(there.value) == str(here.value)
    Path(usecase).write_text("version: 3\nowners: me\n")
    with pytest.raises(ConfigError, match=r"mistake\(s\):\n  - "):
        process.isolated(ingest)(usecase=usecase)


def test_an_unknown_verb_is_refused_even_with_large_arguments() -> None:
    with pytest.raises(InputError, match=r"No verb 'os\.system'"):
        process.call("os.system", {"command": "x" * 1_000_000})


def test_an_isolated_verb_keeps_its_name() -> None:
    assert process.isolated(verify_ledger).__name__ == "verify_ledger"


@pytest.fixture
def hanging(s3_settings: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A store that takes calls and never answers; wait until somebody has called."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(60)
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
        calls: list[socket.socket] = []
        yield lambda: calls.append(server.accept()[0])
        for call in calls:
            call.close()


def _children(pid: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(stat.parent.name))
    return found


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (signal.SIGKILL, "ended with signal SIGKILL and no result. Most likely memory ran out: lower the batch size"),
        (signal.SIGTERM, "ended with signal SIGTERM and no result. See the log above"),
    ],
)
def test_a_killed_child_is_a_clear_error(hanging: Callable[[], None], how: signal.Signals, message: str) -> None:
    def kill() -> None:
        hanging()
        for pid in set(_children(os.getpid())) - before:
            os.kill(pid, how)

    before = set(_children(os.getpid()))
    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(LLMOpsError) as caught:
        process.isolated(verify_ledger)(usecase="triage")
    killer.join()
    assert "The process of 'release.verify_ledger'" in str(caught.value)
    assert message in str(caught.value)


def test_the_child_dies_with_its_parent_even_by_sigkill(hanging: Callable[[], None]) -> None:
    code = "from llmops_tasks import process; process.call('release.verify_ledger', {'usecase': 'triage'})"
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    try:
        hanging()
        children = _children(parent.pid)
        assert len(children) == 1
    finally:
        parent.kill()
        parent.wait()
    until = time.monotonic() + 10
    while _alive(children[0]) and time.monotonic() < until:
        time.sleep(0.05)
    assert not _alive(children[0])


def test_what_a_library_prints_does_not_spoil_the_result(tmp_path: Path) -> None:
    """The result is the only thing on standard output; log lines go to standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "llmops_tasks", "release", "verify-ledger", "triage", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert json.loads(done.stdout)["entries"] == 0
