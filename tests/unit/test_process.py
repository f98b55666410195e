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


GIVEN = {  # to a task by Airflow, Kubernetes and whoever runs them; what the child needs, and what it must not see
    "LLMOPS_CACHE_GIB": "7", "AIRFLOW_CTX_DAG_ID": "triage.train", "CUDA_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": "1",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/var/run/token", "HTTPS_PROXY": "http://proxy:1", "LC_ALL": "C.UTF-8", "TZ": "UTC",
    "MLFLOW_TRACKING_TOKEN": "t", "HF_TOKEN": "t", "REQUESTS_CA_BUNDLE": "/ca.pem", "PYTORCH_ALLOC_CONF": "x", "TMPDIR": "/scratch",
    "LD_LIBRARY_PATH": "/usr/local/cuda", "MLFLOW_REGISTRY_URI": "http://mlflow:1", "CUBLAS_WORKSPACE_CONFIG": ":4096:8",
}  # fmt: skip
SECRETS = (
    "AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY", "AIRFLOW_CONN_DB",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN_CMD", "AIRFLOW_ADMIN_PASSWORD", "FERNET_KEY",
    "AIRFLOW_DB_PASSWORD", "POSTGRES_PASSWORD", "PGPASSWORD", "DATABASE_URL", "MLFLOW_BACKEND_STORE_URI", "MLFLOW_DB_PASSWORD",
    "MLFLOW_REGISTRY_STORE_URI",
    "MLFLOW_FLASK_SERVER_SECRET_KEY", "LLMOPS_AIRFLOW_PASSWORD", "AIRFLOW_VAR_X", "GITHUB_TOKEN", "SLACK_WEBHOOK",
)  # fmt: skip


def _environment_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(line.split("=", 1) for line in lines if line)


def test_a_child_is_given_what_it_needs_and_no_secret(
    hanging: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**GIVEN, **dict.fromkeys(SECRETS, "hush-4711")}.items():
        monkeypatch.setenv(name, value)
    before, seen = set(_children(os.getpid())), []

    def look() -> None:
        hanging()
        for pid in set(_children(os.getpid())) - before:
            seen.append(_environment_of(pid))
            os.kill(pid, signal.SIGKILL)

    watcher = threading.Thread(target=look)
    watcher.start()
    with pytest.raises(LLMOpsError, match="SIGKILL"):
        process.isolated(verify_ledger)(usecase="triage")
    watcher.join()
    (environment,) = seen
    assert {name: environment.get(name) for name in GIVEN} == GIVEN
    assert [name for name in SECRETS if name in environment] == []
    assert "hush-4711" not in str(environment)
    assert {"PATH", "HOME", "LLMOPS_HOME", "AWS_SECRET_ACCESS_KEY", "LLMOPS_PARENT", *process.SETTINGS} <= set(
        environment
    )


def test_what_is_set_outside_goes_before_our_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "info")
    assert process.environment()["TRANSFORMERS_VERBOSITY"] == "info"


def test_several_processes_are_given_no_more_than_the_one_that_starts_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "hush-4711")
    code = (
        "from llmops_tasks.training import processes\n"
        "from tests.support.waiting import tells_its_environment\n"
        "if __name__ == '__main__':\n"
        "    print(processes.together(2, tells_its_environment))"
    )
    environment = {**process.environment(), "LLMOPS_PARENT": str(os.getpid())}
    script = Path(os.environ["LLMOPS_HOME"]) / "together.py"
    script.parent.mkdir(parents=True, exist_ok=True)
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script], env=environment, capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "LOCAL_RANK" in done.stdout and "LLMOPS_HOME" in done.stdout
    assert "hush-4711" not in done.stdout and not [name for name in SECRETS if f"'{name}'" in done.stdout]


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
