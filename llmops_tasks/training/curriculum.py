"""What a model is taught, in which order: the strategies of a use case.

Task-specific: its own records. Domain: texts without answers first. Multi-task: other use cases' records among its
own, each with its own prompt. Continual: what the champion has not seen, and a replay of what it has.
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass
from functools import partial
from typing import Any

from llmops_tasks import artifacts, config
from llmops_tasks.config import UseCase
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import DataError, TrainingError
from llmops_tasks.training.examples import Example, batch_plan, blocks, encode

log = logging.getLogger(__name__)
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Sources:
    """The datasets that a run learns from."""

    own: ArtifactRef
    seen: ArtifactRef | None  # the champion's, where training goes on from it
    others: dict[str, ArtifactRef]  # by use case

    def digests(self) -> dict[str, Any]:
        """What identifies them."""
        others = {name: ref["sha256"] for name, ref in self.others.items()}
        return {"dataset": self.own["sha256"], "seen": self.seen and self.seen["sha256"], "others": others}


@dataclass(frozen=True)
class Curriculum:
    """Records as tokens, and the batches in which they are taken."""

    examples: list[Example]
    plan: list[list[int]]
    counts: dict[str, int]  # records by origin


def sources(case: UseCase, usecase: str, dataset: ArtifactRef, start: ArtifactRef) -> Sources:
    """Find the other datasets that a use case's strategies name.

    Raises:
        DataError: if one of them has none yet, or what the champion has seen cannot be told.
    """
    settings = case.finetune
    names = sorted({*settings.mix, *(settings.domain.usecases if settings.domain else [])} - {"own", usecase})
    others = {}
    for name in names:
        newest = artifacts.newest(name, "dataset")
        if newest is None:
            raise DataError(
                f"'{name}' has no dataset yet, but '{usecase}' is to learn from it. Run {name}.prepare_data."
            )
        others[name] = newest
    return Sources(dataset, _seen(start) if settings.continual else None, others)


def _seen(start: ArtifactRef) -> ArtifactRef | None:
    """The dataset of the release that training goes on from; None where it begins at a base model."""
    if start["kind"] != "release":
        return None
    above = next((above for above in start["meta"].get("parents", []) if above["kind"] == "dataset"), None)
    if above is None or (found := artifacts.at(above["uri"])) is None:
        raise DataError(
            "The champion's dataset is not known or gone, so nobody can tell what it has seen. Set finetune.start to "
            "'base' and remove continual, or restore the dataset."
        )
    return found


def rows(dataset: ArtifactRef, split: str) -> Rows:
    """Text, completion and id of a split's records."""
    import pandas as pd

    columns = ["record_id", "text", "completion"]
    frame = pd.read_parquet(artifacts.fetch(dataset) / "data.parquet", columns=[*columns, "split"])
    found: Rows = frame.loc[frame["split"] == split, columns].to_dict("records")
    return found


def shuffled(records: Rows, seed: int) -> Rows:
    """The same records with each other's answers: from them nothing can be learnt."""
    answers = [record["completion"] for record in records]
    random.Random(seed).shuffle(answers)  # noqa: S311  (reproducible, not secret)
    return [{**record, "completion": answer} for record, answer in zip(records, answers, strict=True)]


def curriculum(case: UseCase, tokenizer: Any, found: Sources, control: str) -> Curriculum:
    """Everything that is taught, in order.

    Raises:
        TrainingError: if there is nothing new to learn.
    """
    settings = case.finetune
    own = rows(found.own, "train")
    if control == "shuffled_labels":
        own = shuffled(own, settings.seed)
    counts = {"own": len(own)}
    if found.seen is not None and settings.continual:
        own, counts = _with_replay(own, found.seen, settings.continual.replay, settings.seed)
    task = encode(case, tokenizer, own)
    for name, weight in settings.mix.items():
        other = config.load(name)
        chosen = _sample(rows(found.others[name], "train"), round(weight * len(own)), settings.seed)
        task += encode(other, tokenizer, chosen)
        counts[name] = len(chosen)
    texts = _domain(case, tokenizer, found)
    counts |= {"texts": len(texts)} if texts else {}
    plan = _plan(case, texts, task)
    log.info("taught: %s, %d steps", counts, len(plan))
    return Curriculum(texts + task, plan, counts)


def _with_replay(own: Rows, seen: ArtifactRef, share: float, seed: int) -> tuple[Rows, dict[str, int]]:
    known = {record["record_id"] for record in rows(seen, "train")}
    new = [record for record in own if record["record_id"] not in known]
    old = [record for record in own if record["record_id"] in known]
    if not new:
        raise TrainingError(
            "The champion has seen all records: nothing is new. Wait for new ones, or set start to 'base'."
        )
    again = _sample(old, round(len(new) * share / (1 - share)), seed)
    return new + again, {"new": len(new), "replayed": len(again)}


def _sample(records: Rows, count: int, seed: int) -> Rows:
    rng = random.Random(seed)  # noqa: S311  (reproducible, not secret)
    return records if count >= len(records) else rng.sample(records, count)


def _domain(case: UseCase, tokenizer: Any, found: Sources) -> list[Example]:
    if (domain := case.finetune.domain) is None:
        return []
    refs = [found.others.get(name, found.own) for name in domain.usecases]
    texts = [record["text"] for ref in refs for record in rows(ref, "train")]
    return blocks(tokenizer, texts, domain.block)


def _plan(case: UseCase, texts: list[Example], task: list[Example]) -> list[list[int]]:
    """Texts first, then the task; within each, batches of like length in random order."""
    settings, plan = case.finetune, []
    batches = partial(batch_plan, batch_size=settings.batch_size, seed=settings.seed)
    for epoch in range(settings.domain.epochs if settings.domain else 0):
        plan += batches([len(example.tokens) for example in texts], epoch=epoch)
    for epoch in range(settings.epochs):
        taken = batches([len(example.tokens) for example in task], epoch=epoch)
        plan += [[len(texts) + index for index in batch] for batch in taken]
    return plan
