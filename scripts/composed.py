"""docker-compose.yaml, read as Compose reads it, and its services as plain processes on loopback.

What it does not do: volumes, users, limits and networks. A container's folders and host names are replaced by ours, by
text; nothing but a service's own environment reaches its process.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?:(:-|:\?)([^}]*))?\})")
PORTS = ("5432", "8080", "5000", "8974", "8793", "8794")  # PostgreSQL, Airflow, MLflow, scheduler's health, two of logs


def interpolated(value: Any, env: dict[str, str]) -> Any:
    """The tree with `${NAME:-default}` and `${NAME:?message}` replaced, and `$$` by `$`."""
    if isinstance(value, dict):
        return {key: interpolated(each, env) for key, each in value.items()}
    if isinstance(value, list):
        return [interpolated(each, env) for each in value]
    return VARIABLE.sub(lambda match: _value(match, env), value) if isinstance(value, str) else value


def _value(match: re.Match[str], env: dict[str, str]) -> str:
    dollar, name, operator, word = match.groups()
    if dollar:
        return "$"
    if operator == ":?" and not env.get(name):
        raise SystemExit(f"docker-compose.yaml: {name} is not set: {word}")
    return env.get(name) or (word or "" if operator == ":-" else "")


def read(env: dict[str, str]) -> dict[str, Any]:
    """The file with these variables."""
    return dict(interpolated(yaml.safe_load((ROOT / "docker-compose.yaml").read_text(encoding="utf-8")), env))


def free_ports() -> dict[str, str]:
    """For each port of a container one that nobody listens on."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in PORTS]
    ports = {port: str(probe.getsockname()[1]) for port, probe in zip(PORTS, probes, strict=True)}
    for probe in probes:
        probe.close()
    return ports


class Machine:
    """Stands in for Docker: a folder, ports, and the processes that were started."""

    def __init__(self, folder: Path, env: dict[str, str]) -> None:
        self.folder, self.ports, self.env = folder, free_ports(), env
        self.services: dict[str, Any] = read(env)["services"]
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("airflow", "var", "mlartifacts", "logs", "bin"):
            (folder / name).mkdir()
        for name in ("airflow", "mlflow"):  # of this interpreter, whatever else is on PATH
            program = folder / "bin" / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {name} "$@"\n')
            program.chmod(0o755)

    def here(self, text: str) -> str:
        """A container's folders, hosts and ports as they are on this machine."""
        for name in ("var", "mlartifacts", "logs"):
            text = text.replace(f"/opt/airflow/{name}", str(self.folder / name))
        text = text.replace("/opt/airflow", str(ROOT)).replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        for port, ours in self.ports.items():
            text = re.sub(rf"\b(?:postgres|airflow-apiserver|mlflow):{port}\b", f"127.0.0.1:{ours}", text)
            text = re.sub(rf"(localhost:|127\.0\.0\.1:|--port ){port}\b", rf"\g<1>{ours}", text)
        return text

    def environment(self, name: str) -> dict[str, str]:
        """A service's environment, and what its image and network add to it."""
        given = self.services[name].get("environment", {})
        values = {key: self.env.get(key) if value is None else str(value) for key, value in given.items()}
        ours = {key: self.here(value) for key, value in values.items() if value is not None}
        image = {
            "PATH": os.pathsep.join([str(self.folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "HOME": str(self.folder), "LANG": "C.UTF-8", "HOSTNAME": socket.gethostname(),
        }  # fmt: skip
        return {**image, **(self._of_airflow() if name.startswith("airflow-") else {}), **ours}

    def _of_airflow(self) -> dict[str, str]:
        """Where the image keeps things; and the ports that every container has to itself."""
        return {
            "AIRFLOW_HOME": str(self.folder / "airflow"),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
            "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(self.folder / "logs"),
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": self.ports["8080"],
            "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_SERVER_PORT": self.ports["8974"],
            "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": self.ports["8793"],
            "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": self.ports["8794"],
        }

    def command(self, name: str) -> list[str]:
        """A service's command, as the image's entrypoint takes it: what is no program is a command of Airflow."""
        command = self.services[name]["command"]
        words = command.split() if isinstance(command, str) else command
        return [self.here(word) for word in (words if words[0] == "bash" else ["airflow", *words])]

    def run(self, name: str) -> None:
        """A service that ends, to its end."""
        self.start(name)
        if code := self.processes.pop(name).wait(timeout=600):
            raise SystemExit(f"{name} ended with {code}: {self.log(name)[-3000:]}")

    def start(self, name: str) -> None:
        """A service, in a process group of its own."""
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                self.command(name), env=self.environment(name), cwd=self.folder / "airflow",
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def log(self, name: str) -> str:
        """What a service has said."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def healthy(self, name: str, seconds: float = 300) -> None:
        """Wait until the service's own health check says so."""
        kind, *words = [self.here(word) for word in self.services[name]["healthcheck"]["test"]]
        command = ["sh", "-c", words[0]] if kind == "CMD-SHELL" else words
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if (code := self.processes[name].poll()) is not None:
                raise SystemExit(f"{name} ended with {code}: {self.log(name)[-3000:]}")
            if not subprocess.run(command, env=self.environment(name), check=False, capture_output=True).returncode:
                return
            time.sleep(2)
        raise SystemExit(f"{name} is not healthy after {seconds:.0f} s: {self.log(name)[-3000:]}")

    def down(self) -> None:
        """End all that was started, by process group."""
        for sign, patience in ((signal.SIGTERM, 30), (signal.SIGKILL, 10)):
            for process in self.processes.values():
                with_group(process.pid, sign)
            end = time.monotonic() + patience
            while any(with_group(process.pid, 0) for process in self.processes.values()) and time.monotonic() < end:
                for process in self.processes.values():
                    process.poll()
                time.sleep(0.2)


def with_group(group: int, sign: int) -> bool:
    """Send a signal to a process group; whether it is there."""
    try:
        os.killpg(group, sign)
    except ProcessLookupError:
        return False
    return True
