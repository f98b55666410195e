"""A model of the store, opened to answer: in this process, or behind a server that has loaded it."""

from __future__ import annotations

from llmops_tasks.config.server import Server
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.models.frozen_layers import Shared
from llmops_tasks.models.generator import Generator, open_generator
from llmops_tasks.store import artifacts


def open_model(
    model: ArtifactRef, number_format: str, server: Server | None = None, shared: Shared | None = None
) -> Generator:
    """Open a release or base model; every byte is checked first.

    Args:
        model: as referred to.
        number_format: that it computes in, where it is loaded here.
        server: that has loaded it; None: it is loaded here.
        shared: where its lower layers' output is kept.
    """
    folder = artifacts.fetch(model)
    if server is None:
        return open_generator("transformers", folder, shared, number_format)
    from llmops_tasks.models.server import ServedModel

    return ServedModel(folder, model["sha256"], server)


def engine(number_format: str, server: Server | None) -> str:
    """What computes: answers of one engine are not taken for another's."""
    return number_format if server is None else "server"
