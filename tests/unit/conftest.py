"""Expensive state, made once: a small world's artifacts, a migrated MLflow database, an S3 server on loopback."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmops_tasks import chain, tracking
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.store import s3 as s3_client
from tests.support import tiny
from tests.support.once import once


@dataclass(frozen=True)
class World:
    """The tiny use case with everything up to its dataset and base model; refer to it, never write into it."""

    usecase: str
    home: Path
    dataset: ArtifactRef
    base: ArtifactRef


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path, notes: Path) -> World:
    """Ingest, validate, anonymize, version and base model, run once."""

    def build(folder: Path) -> list[Any]:
        batch = {"source": {"uri": f"{notes.as_uri()}/inbox/date={{date}}/*.csv", "format": "csv", "null_values": [""]}}
        path = str(tiny.usecase(folder / "usecases", tiny_model, f"{notes.as_uri()}/landing/*.csv", batch=batch))
        with _at_home(folder / "home"):
            done = chain.chain(usecase=path, until="base")
        return [path, str(folder / "home"), done["version"], done["base"]]

    usecase, home, dataset, base = once(tmp_path_factory, "world", build)
    return World(usecase, Path(home), dataset, base)


@pytest.fixture(scope="session")
def int8_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with its int8 files."""

    def build(folder: Path) -> str:
        from llmops_tasks.models import int8_export

        shutil.copytree(tiny_model, folder / "model")
        int8_export.write(folder / "model")
        return str(folder / "model")

    return Path(once(tmp_path_factory, "int8", build))


@pytest.fixture(scope="session")
def mlflow_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's empty database after its migrations, which take seconds."""

    def build(folder: Path) -> str:
        with _at_home(folder):
            tracking.initialize()
        return str(folder / "mlflow.db")

    return Path(once(tmp_path_factory, "mlflow", build))


@pytest.fixture
def mlflow(home: Path, mlflow_template: Path) -> Path:
    """The test's home with a database of its own."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    shutil.copyfile(mlflow_template, home / "mlflow.db")
    return home


@pytest.fixture(scope="session")
def trained(world: World, mlflow_template: Path, tmp_path_factory: pytest.TempPathFactory) -> ArtifactRef:
    """A LoRA adapter of the tiny model, one epoch."""

    def build(folder: Path) -> ArtifactRef:
        from llmops_tasks.training.finetuning import finetune

        shutil.copyfile(mlflow_template, folder / "mlflow.db")
        with _at_home(folder):
            return finetune(usecase=world.usecase, dataset=world.dataset, start=world.base)

    found: ArtifactRef = once(tmp_path_factory, "trained", build)
    return found


@pytest.fixture(scope="session")
def released(world: World, trained: ArtifactRef, tmp_path_factory: pytest.TempPathFactory) -> ArtifactRef:
    """That adapter, merged and packaged."""

    def build(folder: Path) -> ArtifactRef:
        from llmops_tasks.release.packaging import package_release

        with _at_home(folder):
            return package_release(usecase=world.usecase, trained=trained, base=world.base, dataset=world.dataset)

    found: ArtifactRef = once(tmp_path_factory, "released", build)
    return found


class _at_home:
    """`LLMOPS_HOME` for session fixtures, which are older than any test's own."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._patch = folder, pytest.MonkeyPatch()

    def __enter__(self) -> None:
        for name in ("LLMOPS_STORE", "LLMOPS_USECASES", "MLFLOW_TRACKING_URI", "LLMOPS_PSEUDONYM_KEY"):
            self._patch.delenv(name, raising=False)
        self._patch.setenv("LLMOPS_HOME", str(self._folder))

    def __exit__(self, *_: object) -> None:
        self._patch.undo()


@pytest.fixture(scope="session")
def _s3_server() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials for a server that does not check them."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    settings = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    for name, value in (settings | {"AWS_EC2_METADATA_DISABLED": "true"}).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def s3(_s3_server: str, s3_settings: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A boto3 client of the loopback server; the bucket `bucket` is there and empty."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", _s3_server)
    client = boto3.client("s3")
    client.create_bucket(Bucket="bucket")
    yield client
    for item in client.list_objects_v2(Bucket="bucket").get("Contents", []):
        client.delete_object(Bucket="bucket", Key=item["Key"])
    client.delete_bucket(Bucket="bucket")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds between two attempts to reach S3; they are noted, and nobody waits."""
    noted: list[float] = []
    monkeypatch.setattr(s3_client, "time", SimpleNamespace(sleep=noted.append))
    return noted


@pytest.fixture
def closed_endpoint(s3_settings: None, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> str:
    """An S3 endpoint where nobody listens."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
    return f"http://127.0.0.1:{port}"
