"""Starts and stops everything on this machine: Airflow (`standalone`, SQLite) and MLflow's UI.

    python scripts/stack.py up | down | status | token USER

State is kept in `<LLMOPS_HOME>/stack.json`; ports are the first free ones from 8080 and 5000. Servers listen on
loopback only, and run in their own process groups.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
USERS = {"admin": "admin", "operator": "op", "approver": "user", "viewer": "viewer"}
START_TIMEOUT = 300  # seconds; a busy small machine takes 100
NEEDED_GIB = 6


class StackError(Exception):
    """The stack cannot be started; the message says what to do."""


def home() -> Path:
    """LLMOPS_HOME, default `var/` of this project."""
    return Path(os.environ.get("LLMOPS_HOME", ROOT / "var")).absolute()


def check_machine() -> None:
    """Check the requirements before anything is started."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        raise StackError(f"Python {sys.version.split()[0]} is not supported. Use 3.11, 3.12 or 3.13.")
    home().mkdir(mode=0o700, parents=True, exist_ok=True)
    free = shutil.disk_usage(home()).free / 2**30
    if free < NEEDED_GIB:
        raise StackError(
            f"{free:.1f} GiB are free at {home()}; {NEEDED_GIB} are needed. Free some, or set LLMOPS_HOME."
        )
    if not shutil.which("airflow", path=_path()):
        raise StackError("Airflow is not installed here. Run 'make install' first.")


def free_port(first: int) -> int:
    """The first free port from `first` upwards."""
    for port in range(first, first + 50):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise StackError(f"No free port between {first} and {first + 49}. Stop something, or set LLMOPS_PORT.")


def _path() -> str:
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def environment(port: int) -> dict[str, str]:
    """The settings of a stack on SQLite; existing variables take precedence over the defaults."""
    place = home()
    fixed = {
        "PATH": _path(),
        "PYTHONPATH": str(ROOT),
        "LLMOPS_HOME": str(place),
        "AIRFLOW_HOME": str(place / "airflow"),
        "AIRFLOW__CORE__DAGS_FOLDER": os.environ.get("LLMOPS_DAGS", str(ROOT / "dags")),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        # SQLite has one writer at a time; at the default of 5 s others give up while all DAGs are first written
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{place / 'airflow' / 'airflow.db'}?timeout=120",
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "3",  # more lock SQLite, and two cores have no use for them
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{user}:{role}" for user, role in USERS.items()),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "30",
        "AIRFLOW__EXECUTION_API__JWT_EXPIRATION_TIME": "86400",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # its ten helper processes are not used here
        "GX_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
    }
    defaults = {
        "MLFLOW_TRACKING_URI": f"sqlite:///{place / 'mlflow.db'}",
        "HF_HUB_OFFLINE": "1",
        "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "120",
        "AIRFLOW__SCHEDULER__SCHEDULER_IDLE_SLEEP_TIME": "0.2",  # by default a second passes between any two tasks
        # a worker that misses its task's end looks again after so many seconds: till then its slot is taken (5 by default)
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "LLMOPS_USECASES": str(ROOT / "include" / "usecases"),
    }
    return {**defaults, **os.environ, **fixed}


def up(quiet: bool = False) -> dict[str, Any]:
    """Start Airflow and MLflow unless they run, wait until Airflow is healthy, and return the state."""
    check_machine()
    state = status()
    if state["running"]:
        return state
    port = free_port(int(os.environ.get("LLMOPS_PORT", "8080")))
    env = environment(port)
    # MLflow's database is made once, before tasks use it in parallel.
    command = [sys.executable, "-m", "llmops_tasks", "tracking", "initialize"]
    subprocess.run(command, env=env, check=True, stdout=subprocess.DEVNULL)
    mlflow_port = free_port(int(os.environ.get("LLMOPS_MLFLOW_PORT", "5000")))
    mlflow = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(mlflow_port), "--workers", "1"]
    mlflow += ["--backend-store-uri", env["MLFLOW_TRACKING_URI"]]
    env["LLMOPS_MLFLOW_UI"] = f"http://127.0.0.1:{mlflow_port}"
    groups = {"airflow": _start(["airflow", "standalone"], env, "airflow"), "mlflow": _start(mlflow, env, "mlflow")}
    state = {"airflow": f"http://127.0.0.1:{port}", "mlflow": env["LLMOPS_MLFLOW_UI"], "groups": groups}
    (home() / "stack.json").write_text(json.dumps(state), encoding="utf-8")
    _wait_for_airflow(state)
    return status()


def start_part(part: str) -> None:
    """Start one part of a running Airflow again, after it has died: scheduler, triggerer, dag-processor or api-server."""
    file = home() / "stack.json"
    state = json.loads(file.read_text(encoding="utf-8"))
    env = environment(int(state["airflow"].rpartition(":")[2])) | {"LLMOPS_MLFLOW_UI": state["mlflow"]}
    state["groups"][f"{part}.{len(state['groups'])}"] = _start(["airflow", part], env, "airflow")
    file.write_text(json.dumps(state), encoding="utf-8")


def _start(command: list[str], env: dict[str, str], name: str) -> int:
    (home() / "logs").mkdir(exist_ok=True)
    with (home() / "logs" / f"{name}.log").open("ab") as log:
        return subprocess.Popen(command, env=env, cwd=home(), stdout=log, stderr=log, start_new_session=True).pid


def _wait_for_airflow(state: dict[str, Any]) -> None:
    end = time.monotonic() + START_TIMEOUT
    while time.monotonic() < end:
        if not _alive(state["groups"]["airflow"]):
            raise StackError(f"Airflow ended while starting. See {home() / 'logs' / 'airflow.log'}.")
        try:
            with urllib.request.urlopen(f"{state['airflow']}/api/v2/monitor/health", timeout=5) as answer:
                health = json.load(answer)
            if all(
                (health[part] or {}).get("status") == "healthy"
                for part in ("metadatabase", "scheduler", "dag_processor")
            ):
                return
        except (OSError, ValueError, KeyError):
            pass
        time.sleep(1)
    down()
    raise StackError(f"Airflow did not answer in {START_TIMEOUT} s. See {home() / 'logs' / 'airflow.log'}.")


def password(user: str) -> str:
    """The password that Airflow made for a user."""
    file = home() / "airflow" / "simple_auth_manager_passwords.json.generated"
    return str(json.loads(file.read_text(encoding="utf-8"))[user])


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def status() -> dict[str, Any]:
    """What `up` wrote, and whether Airflow runs."""
    file = home() / "stack.json"
    state: dict[str, Any] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {**state, "running": bool(state) and all(_alive(state["groups"][name]) for name in ("airflow", "mlflow"))}


def down(patience: float = 20) -> None:
    """Stop all process groups: SIGTERM, and SIGKILL after so many seconds."""
    state = status()
    groups = [group for group in state.get("groups", {}).values() if _alive(group)]
    for sign, seconds in ((signal.SIGTERM, patience), (signal.SIGKILL, 5)):
        for group in groups:
            if _alive(group):
                os.killpg(group, sign)
        end = time.monotonic() + seconds
        while any(map(_alive, groups)) and time.monotonic() < end:
            _reap()
            time.sleep(0.2)
    (home() / "stack.json").unlink(missing_ok=True)


def _reap() -> None:
    """Collect ended children, so that their groups are gone for `_alive` too."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def cpu_seconds() -> float:
    """CPU time of everything that runs in the stack's process groups or was waited for there."""
    groups, ticks = set(status().get("groups", {}).values()), os.sysconf("SC_CLK_TCK")
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()
        except OSError:
            continue  # it ended while we looked
        if int(fields[3]) in groups:  # the session: a task's child may lead a group of its own
            total += sum(map(int, fields[11:15])) / ticks
    return total


def token(user: str) -> str:
    """A token for Airflow's REST API.

    Raises:
        StackError: if Airflow does not run here, or has no such user.
    """
    from api import Api

    if user not in USERS:
        raise StackError(f"No user '{user:.40}'. Users: {', '.join(USERS)}.")
    if not status()["running"]:
        raise StackError("Airflow is not running here. Run 'make up' first.")
    return Api(status()["airflow"], user, password(user)).sign_in()


def main(word: str, name: str = "admin") -> int:
    """Run one verb."""
    try:
        if word == "up":
            state = up()
            print(f"Airflow  {state['airflow']}   user admin, password {password('admin')}")
            print(f"MLflow   {state['mlflow']}")
            print("Stop both with 'make down'.")
        elif word == "down":
            down()
        elif word == "token":
            print(token(name))
        else:
            print(json.dumps(status()))
    except StackError as exc:
        print(f"Error: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*(sys.argv[1:3] or ["status"])))
