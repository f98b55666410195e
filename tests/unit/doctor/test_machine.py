"""Each check of the machine finds what is wrong, and only that."""

from __future__ import annotations

import json
import os
import socket
import sys
from collections import namedtuple
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tasks.doctor import machine

Usage = namedtuple("Usage", "total used free")
GIB = 2**30


@pytest.mark.parametrize(
    ("version", "status"),
    [((3, 10), "problem"), ((3, 11), "ok"), ((3, 13), "ok"), ((3, 14), "problem"), ((4, 0), "problem")],
)
def test_only_a_supported_python_will_do(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int], status: str
) -> None:
    monkeypatch.setattr(sys, "version_info", (*version, 1, "final", 0))
    (found,) = machine.python()
    assert (found["status"], found["found"]) == (status, f"{version[0]}.{version[1]}")


@pytest.mark.parametrize(("gib", "status"), [(1.9, "problem"), (2, "warning"), (3.9, "warning"), (4, "ok")])
def test_memory_is_held_against_what_is_needed(monkeypatch: pytest.MonkeyPatch, gib: float, status: str) -> None:
    monkeypatch.setattr(machine, "_LIMITS", ())
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": int(gib * GIB)}.__getitem__)
    (found,) = machine.memory()
    assert (found["status"], found["found"]) == (status, f"{gib:.1f} GiB in all")


@pytest.mark.parametrize(("limit", "gib"), [(str(3 * GIB), "3.0"), ("max", "8.0"), (str(99 * GIB), "8.0")])
def test_a_containers_memory_is_what_it_may_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, gib: str
) -> None:
    (tmp_path / "memory.max").write_text(f"{limit}\n")
    monkeypatch.setattr(machine, "_LIMITS", (str(tmp_path / "memory.max"), "/no/such/file"))
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": 8 * GIB}.__getitem__)
    (found,) = machine.memory()
    assert found["found"] == f"{gib} GiB in all"


@pytest.mark.parametrize(("gib", "status"), [(0.9, "problem"), (1, "warning"), (5.9, "warning"), (6, "ok")])
def test_disk_is_measured_where_the_home_will_be(
    home: Path, monkeypatch: pytest.MonkeyPatch, gib: float, status: str
) -> None:
    asked: list[Path] = []
    usage = Usage(0, 0, int(gib * GIB))
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: asked.append(path) or usage)
    (found,) = machine.disk()
    assert found["status"] == status and str(home) in found["found"]
    assert asked == [home.parent]  # which is there already


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A port that somebody listens on, as Airflow's; MLflow's is free."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("LLMOPS_PORT", str(server.getsockname()[1]))
        monkeypatch.setenv("LLMOPS_MLFLOW_PORT", str(free.getsockname()[1]))
        yield server.getsockname()[1]


def test_a_taken_port_is_a_warning_and_a_free_one_none(taken: int) -> None:
    airflow, mlflow = machine.ports()
    assert (airflow["check"], airflow["status"]) == (f"port {taken}", "warning")
    assert "LLMOPS_PORT" in airflow["fix"]
    assert (mlflow["status"], mlflow["found"]) == ("ok", "free")


def test_a_port_that_we_have_taken_is_no_fault(home: Path, taken: int) -> None:
    home.mkdir()
    (home / "stack.json").write_text(json.dumps({"airflow": f"http://127.0.0.1:{taken}", "groups": {"airflow": 1}}))
    airflow, _ = machine.ports()
    assert (airflow["status"], airflow["found"]) == ("ok", "Airflow runs there")


@pytest.mark.parametrize("word", ["", "http", "0", "65536", "-1"])
def test_what_is_no_port_is_named(taken: int, monkeypatch: pytest.MonkeyPatch, word: str) -> None:
    monkeypatch.setenv("LLMOPS_PORT", word)
    airflow, mlflow = machine.ports()
    assert airflow["status"] == "problem" and "LLMOPS_PORT" in airflow["found"]
    assert mlflow["status"] == "ok"


@pytest.mark.parametrize(
    ("script", "torch", "status", "words"),
    [
        (None, "2.13.0", "ok", "none"),
        ("echo 'Card, 80000 MiB'; echo 'Card, 80000 MiB'", "2.13.0", "ok", "Card, 80000 MiB; Card, 80000 MiB"),
        ("echo 'Card, 80000 MiB'", "2.13.0+cpu", "warning", "build for CPUs"),
        ("exit 9", "2.13.0", "warning", "nvidia-smi fails"),
    ],
)
def test_a_gpu_wants_a_driver_and_a_torch_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str | None, torch: str, status: str, words: str
) -> None:
    if script:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(machine, "version", lambda _: torch)
    (found,) = machine.gpu()
    assert found["status"] == status and words in found["found"]
