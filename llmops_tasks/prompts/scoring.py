"""Label probabilities of many prompts, kept in shards."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from llmops_tasks.config.server import Server
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.models.chat import Prompt
from llmops_tasks.models.generator import Generator
from llmops_tasks.prompts import answering, opening, shards
from llmops_tasks.prompts.interface import Interface
from llmops_tasks.store import artifacts, digests
from llmops_tasks.store.sources import code_digest

FILE = "scores.json"


def kept_scores(
    usecase: str,
    model: ArtifactRef,
    opened: Callable[[], Generator],
    asked: Interface,
    prompts: list[Prompt],
    batch_size: int,
    server: Server | None = None,
) -> tuple[list[list[float]], int]:
    """Probabilities (prompts, labels) as the model gives them, not calibrated; and how many prompts were cut.

    Args:
        usecase: in whose part of the store shards are kept.
        model: a release or base model.
        opened: gives it, and is only asked if a shard is missing.
        asked: how.
        prompts: rendered.
        batch_size: prompts at once.
        server: that scores; None: this process does.
    """
    inputs = {
        "model": model["sha256"],
        "answers": asked.answers,
        "rule": vars(asked.rule),
        "max_length": asked.max_length,
        "engine": opening.engine(asked.number_format, server),
        "code": code_digest(__name__),
    }
    build = partial(_build, opened, asked, batch_size)
    result: list[list[float]] = []
    cut = 0
    for ref in shards.kept(usecase=usecase, kind="scores", items=prompts, inputs=inputs, build=build):
        result += json.loads((artifacts.fetch(ref) / FILE).read_bytes())
        cut += ref["meta"]["cut_prompts"]
    return result, cut


def _build(
    opened: Callable[[], Generator], asked: Interface, batch_size: int, prompts: Sequence[Prompt], out: Path
) -> dict[str, Any]:
    generator = opened()
    before = generator.cut
    scores = answering.scores(asked, generator, list(prompts), batch_size)
    (out / FILE).write_bytes(digests.canonical(scores))
    return {"rows": len(scores), "cut_prompts": generator.cut - before}
