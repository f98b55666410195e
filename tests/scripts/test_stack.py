"""The local stack tells what is missing before it starts anything."""

from __future__ import annotations

import socket
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from tests.support import tiny

sys.path.insert(0, str(tiny.ROOT / "scripts"))
import stack

Usage = namedtuple("Usage", "total used free")


def test_a_taken_port_is_passed_over() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert stack.free_port(port) > port


def test_an_unsupported_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack.sys, "version_info", (3, 9, 1, "final", 0))
    with pytest.raises(stack.StackError, match=r"Use 3\.11, 3\.12 or 3\.13"):
        stack.check_machine()


def test_a_full_disk_is_named_with_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack.shutil, "disk_usage", lambda _: Usage(1, 1, 2**30))
    with pytest.raises(stack.StackError, match=r"1\.0 GiB are free .* 6 are needed"):
        stack.check_machine()


def test_missing_airflow_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack.shutil, "which", lambda *_, **__: None)
    with pytest.raises(stack.StackError, match="make install"):
        stack.check_machine()


def test_nothing_runs_before_up(home: Path) -> None:
    assert stack.status() == {"running": False}
    stack.down()  # and stopping nothing is no error


def test_secrets_and_telemetry_of_the_stack(home: Path) -> None:
    settings = stack.environment(8080)
    assert settings["AIRFLOW__API__HOST"] == "127.0.0.1"
    assert int(settings["AIRFLOW__CORE__PARALLELISM"]) <= 4
    assert settings["HF_HUB_OFFLINE"] == settings["DO_NOT_TRACK"] == "1"
