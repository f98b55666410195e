"""Shared fixtures: a private home for every test, no network, one tiny model for all."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tasks.data import synthetic
from tests.support import tiny
from tests.support.once import once

# Before torch is imported: a tiny model has no use for more threads, and those of two test processes would wait for
# each other. `OMP_NUM_THREADS=2 pytest` runs the same tests with more.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything a test writes goes into its own folder."""
    folder = tmp_path / "home"
    for name in ("LLMOPS_STORE", "LLMOPS_USECASES", "MLFLOW_TRACKING_URI", "LLMOPS_PSEUDONYM_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LLMOPS_HOME", str(folder))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _loopback_only() -> Iterator[None]:
    """Fail any connection to another machine: tests work offline."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = str(address[0]) if isinstance(address, tuple) else "local"
        if host not in ("127.0.0.1", "::1", "localhost", "local"):
            raise AssertionError(f"a test tried to reach {host}")
        connect(self, address)  # type: ignore[arg-type]

    socket.socket.connect = guarded  # type: ignore[method-assign]
    yield
    socket.socket.connect = connect  # type: ignore[method-assign]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A two-layer random Llama with the real tokenizer."""
    return Path(once(tmp_path_factory, "model", lambda folder: str(tiny.make_model(folder))))


@pytest.fixture(scope="session")
def notes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small synthetic world: 300 labelled notes, two days of 60."""

    def build(folder: Path) -> str:
        synthetic.write_triage(out=folder.as_uri(), notes=300, day_notes=60, reviewed_notes=120)
        return str(folder)

    return Path(once(tmp_path_factory, "notes", build))


@pytest.fixture
def tiny_usecase(tmp_path: Path, tiny_model: Path, notes: Path) -> str:
    """The triage use case over the tiny model and the small notes; a path, as verbs take it."""
    batch = {"source": {"uri": f"{notes.as_uri()}/inbox/date={{date}}/*.csv", "format": "csv", "null_values": [""]}}
    return str(tiny.usecase(tmp_path / "usecases", tiny_model, f"{notes.as_uri()}/landing/*.csv", batch=batch))
