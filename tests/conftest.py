"""Shared fixtures: a private home for every test, no network, one tiny model for all."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from llmops_tasks.data import synthetic
from tests.support import offline, tiny, warm
from tests.support.once import once

# Before torch is imported: a tiny model has no use for more threads, and those of two test processes would wait for
# each other. `OMP_NUM_THREADS=2 pytest` runs the same tests with more.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"  # before huggingface_hub is imported, which reads it once


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
def _offline(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Tests work offline, and so does every process that they start."""
    offline.begin(tmp_path_factory.mktemp("network"))


@pytest.fixture(autouse=True)
def _nothing_was_refused(_offline: None) -> Iterator[None]:
    """An attempt to reach another machine fails the test, also if nobody minded that it was refused."""
    before = len(offline.refused())
    yield
    assert offline.refused()[before:] == []


@pytest.fixture(scope="session")
def python(_offline: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """The words that run Python programs in forks of a process that has made the heavy imports."""
    address = str(tmp_path_factory.mktemp("warm") / "socket")
    environment = {**os.environ, "PYTHONPATH": str(tiny.ROOT)}
    server = subprocess.Popen([sys.executable, warm.__file__, "serve", address], env=environment)
    yield [sys.executable, "-S", warm.__file__, address]
    server.kill()
    server.wait()


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
