"""Answers of a generation: rows of text, tokens, why it ended, and bits; kept in shards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks.config.server import Server
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.models.chat import Prompt
from llmops_tasks.models.decoding import FINISHED as FINISHED
from llmops_tasks.models.decoding import Answer
from llmops_tasks.models.generator import Generator
from llmops_tasks.prompts import opening, shards
from llmops_tasks.prompts.interface import Interface
from llmops_tasks.store import artifacts
from llmops_tasks.store.sources import code_digest

if TYPE_CHECKING:
    import pandas as pd

# An answer's columns. error: class of the error, for records that could not be answered; their answer is empty.
COLUMNS = {"answer": "string", "tokens": "int64", "finish_reason": "string", "error": "string", "bits": "float64"}
FILE = "answers.parquet"


def answer(asked: Interface, generator: Generator, texts: list[str], batch_size: int) -> pd.DataFrame:
    """One row for each rendered text, with COLUMNS; a text that cannot be answered has a row with its error."""
    prompts = [asked.render_prompt(text) for text in texts]
    return _table(asked, generator.generate(prompts, asked.task.decoding, batch_size, asked.max_length))


def _table(asked: Interface, answers: list[Answer]) -> pd.DataFrame:
    import pandas as pd

    rows = [(asked.render_answer(one.text), one.tokens, one.finish_reason, one.error, one.bits) for one in answers]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)  # also without rows


def kept_answers(
    usecase: str,
    model: ArtifactRef,
    opened: Callable[[], Generator],
    asked: Interface,
    texts: list[str],
    batch_size: int,
    server: Server | None = None,
) -> tuple[pd.DataFrame, int]:
    """The same from a model in the store, shard by shard; and how many prompts were cut.

    Args:
        usecase: in whose part of the store shards are kept.
        model: a release or base model.
        opened: gives it, and is only asked if a shard is missing.
        asked: how.
        texts: rendered.
        batch_size: prompts at once.
        server: that answers; None: this process does.
    """
    import pandas as pd

    inputs = {
        "model": model["sha256"],
        "decoding": asked.task.decoding.model_dump(mode="json"),
        "thinking": asked.prompt.thinking,
        "max_length": asked.max_length,
        "engine": opening.engine(asked.number_format, server),
        "code": code_digest(__name__),
    }
    prompts, build = [asked.render_prompt(text) for text in texts], partial(_build, opened, asked, batch_size)
    frames, cut = [_table(asked, [])], 0
    for ref in shards.kept(usecase=usecase, kind="answers", items=prompts, inputs=inputs, build=build):
        frames.append(pd.read_parquet(artifacts.fetch(ref) / FILE))
        cut += ref["meta"]["cut_prompts"]
    return pd.concat(frames, ignore_index=True).astype(COLUMNS), cut


def _build(
    opened: Callable[[], Generator], asked: Interface, batch_size: int, prompts: Sequence[Prompt], out: Path
) -> dict[str, Any]:
    generator = opened()
    before = generator.cut
    found = _table(asked, generator.generate(prompts, asked.task.decoding, batch_size, asked.max_length))
    found.to_parquet(out / FILE, index=False)
    return {"rows": len(found), "cut_prompts": generator.cut - before}
