"""Label probabilities of many prompts, in shards kept by what they follow from.

A shard is consecutive prompts of one model: a retry, another evaluation or another day that asks the same finds it, and
a process that is killed loses one shard.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from llmops_tasks.config.server import Server
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.models.chat import Prompt
from llmops_tasks.models.generator import Generator
from llmops_tasks.prompts import answering, opening
from llmops_tasks.prompts.interface import Interface
from llmops_tasks.store import artifacts, digests
from llmops_tasks.store.sources import code_digest

log = logging.getLogger(__name__)
SHARD = 128  # prompts that are scored and kept together
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
    result: list[list[float]] = []
    cut, started = 0, time.monotonic()
    for start in range(0, len(prompts), SHARD):
        shard = prompts[start : start + SHARD]
        inputs = {
            "model": model["sha256"],
            "prompts": digests.digest(shard),
            "answers": asked.answers,
            "rule": vars(asked.rule),
            "max_length": asked.max_length,
            "engine": opening.engine(asked.number_format, server),
            "code": code_digest(__name__),
        }
        build = partial(_score_shard, opened, shard, asked, batch_size)
        ref = artifacts.publish(usecase=usecase, kind="scores", inputs=inputs, build=build)
        result += json.loads((artifacts.fetch(ref) / FILE).read_bytes())
        cut += ref["meta"]["cut_prompts"]
        log_pace(len(result), len(prompts), time.monotonic() - started)
    return result, cut


def log_pace(done: int, total: int, seconds: float) -> None:
    """Log how far it is, records a second and the time left."""
    pace = done / max(seconds, 1e-9)
    log.info("%d of %d records, %.1f records/s, %.0f s left", done, total, pace, (total - done) / pace)


def _score_shard(
    opened: Callable[[], Generator], prompts: list[Prompt], asked: Interface, batch_size: int, out: Path
) -> dict[str, Any]:
    generator = opened()
    before = generator.cut
    scores = answering.scores(asked, generator, prompts, batch_size)
    (out / FILE).write_bytes(digests.canonical(scores))
    return {"rows": len(scores), "cut_prompts": generator.cut - before}
