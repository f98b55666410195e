"""What the check of docker-compose.yaml stands on: variables as Compose reads them, and nothing of ours in a service."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support import tiny

sys.path.insert(0, str(tiny.ROOT / "scripts"))
import composed
import init_env


@pytest.mark.parametrize(
    ("text", "value"),
    [("${A}", "1"), ("x${A:-2}y", "x1y"), ("${B:-2}", "2"), ("${B:-}", ""), ("$$A", "$A"), ("$${A}", "${A}"), ("${A:?no}", "1"),
     ("$1 costs", "$1 costs"), ("${EMPTY:-2}", "2")],
)  # fmt: skip
def test_variables_are_those_of_compose(text: str, value: str) -> None:
    assert composed.interpolated({"k": [text]}, {"A": "1", "EMPTY": ""}) == {"k": [value]}


def test_a_missing_variable_is_told_with_its_hint() -> None:
    with pytest.raises(SystemExit, match="SECRET is not set: run 'make init' first"):
        composed.interpolated("${SECRET:?run 'make init' first}", {})


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> composed.Machine:
    monkeypatch.setenv("AIRFLOW__CORE__FERNET_KEY", "of somebody else")
    monkeypatch.setenv("LLMOPS_CACHE_GIB", "7")
    text, _ = init_env.with_missing_keys("")
    return composed.Machine(tmp_path, dict(line.split("=", 1) for line in text.splitlines()))


def test_a_service_is_given_its_own_environment_alone(machine: composed.Machine) -> None:
    assert "LLMOPS_CACHE_GIB" not in machine.environment("airflow-scheduler")
    assert machine.environment("airflow-scheduler")["AIRFLOW__CORE__FERNET_KEY"] != "of somebody else"
    assert not [name for name in machine.environment("mlflow") if name.startswith("AIRFLOW")]


def test_no_service_is_sent_to_a_container(machine: composed.Machine) -> None:
    for name in ("airflow-init", "airflow-apiserver", "airflow-scheduler", "mlflow"):
        text = " ".join([*machine.command(name), *machine.environment(name).values()])
        assert not [word for word in ("/opt/airflow", "@postgres", "http://mlflow") if word in text], name
        assert not [port for port in composed.PORTS if f":{port}" in text or f"port {port}" in text], name
