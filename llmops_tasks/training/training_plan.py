"""The training records and the order of their batches, by the strategies of a use case.

Task-specific: its own records. Domain: texts without labels first. Multi-task: records of other use cases mixed in,
each with its own prompt. Continual: records the champion was not trained on, and a replay of others.
"""

from __future__ import annotations

import hashlib
import logging
import random
from array import array
from dataclasses import dataclass
from functools import partial
from typing import Any

from llmops_tasks import config
from llmops_tasks.config import Finetune, UseCase
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import DataError, InputError, TrainingError
from llmops_tasks.prompts.interface import of_usecase
from llmops_tasks.store import artifacts, digests
from llmops_tasks.training import seen
from llmops_tasks.training.examples import Example, batch_plan, blocks, encode

log = logging.getLogger(__name__)
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Sources:
    """The datasets that a run trains on."""

    own: ArtifactRef
    seen: ArtifactRef | None  # the release that training continues from; None: all records are new
    others: dict[str, ArtifactRef]  # by use case
    asked: dict[str, str]  # by use case of the mix: digest of its prompt interface

    def datasets(self) -> list[ArtifactRef]:
        """All datasets whose train splits are used."""
        return [self.own, *self.others.values()]

    def digests(self) -> dict[str, Any]:
        """What identifies them."""
        others = {name: ref["sha256"] for name, ref in self.others.items()}
        return {"dataset": self.own["sha256"], "others": others, "asked": self.asked}


@dataclass(frozen=True)
class TrainingPlan:
    """Records as tokens, and the batches in which they are used."""

    examples: list[Example]
    batches: list[list[int]]  # of indices into examples
    counts: dict[str, int]  # records by origin

    def digest(self) -> str:
        """SHA-256 of all steps: input tokens, targets, and their order."""
        whole = hashlib.sha256(digests.canonical(self.batches))
        for example in self.examples:
            whole.update(array("q", [len(example.tokens), *example.tokens, *example.labels]).tobytes())
        return whole.hexdigest()


def find_mixed_datasets(*, usecase: str) -> dict[str, ArtifactRef]:
    """Find the newest datasets of the use cases named by `mix` and `domain`, once for all tasks of a run.

    Args:
        usecase: name or YAML path.

    Raises:
        InputError: if a use case is mixed with itself.
        DataError: if one of them has no dataset yet.

    Example:
        >>> find_mixed_datasets(usecase="triage")
    """
    return _others(config.load(usecase).finetune, config.usecase_name(usecase))


def _others(settings: Finetune, me: str) -> dict[str, ArtifactRef]:
    found = {}
    if me in settings.mix:
        raise InputError(f"finetune.mix of '{me}' names itself. Its own records are always included: remove it.")
    for name in sorted({*settings.mix, *(settings.domain.usecases if settings.domain else [])} - {"own", me}):
        newest = artifacts.newest(name, "dataset")
        if newest is None:
            raise DataError(f"'{name}' has no dataset yet, but '{me}' trains on it. Run {name}.prepare_data.")
        found[name] = newest
    return found


def sources(
    case: UseCase, usecase: str, dataset: ArtifactRef, start: ArtifactRef, found: dict[str, ArtifactRef] | None = None
) -> Sources:
    """All datasets that a use case's strategies name; the other use cases' as `others` found them, or finds them now.

    Raises:
        DataError: if one is missing.
    """
    found = _others(case.finetune, usecase) if found is None else found
    asked = {name: _asked(config.load(name)) for name in case.finetune.mix}
    goes_on = case.finetune.continual and start["kind"] == "release"
    return Sources(dataset, start if goes_on else None, found, asked)


def check_rendered(case: UseCase, dataset: ArtifactRef) -> None:
    """Refuse a dataset rendered with another template: the release would be prompted differently than it was trained.

    Raises:
        DataError: if so.
    """
    if dataset["meta"].get("text_sha256") != of_usecase(case).text_digest():
        raise DataError(
            f"The dataset {dataset['sha256'][:12]} was made with another data.text or data.curate.normalise than the use "
            "case has now. Run prepare_data again, and train on the new version."
        )


def _asked(other: UseCase) -> str:
    """What a mixed record's tokens follow from, beside the record."""
    return of_usecase(other).digest()


def rows(dataset: ArtifactRef, split: str) -> Rows:
    """Text, completion and id of a split's records."""
    import pandas as pd

    columns = ["record_id", "text", "completion"]
    frame = pd.read_parquet(artifacts.fetch(dataset) / "data.parquet", columns=[*columns, "split"])
    found: Rows = frame.loc[frame["split"] == split, columns].to_dict("records")
    return found


def shuffled(records: Rows, seed: int) -> Rows:
    """The same records with shuffled labels: a negative control."""
    answers = [record["completion"] for record in records]
    random.Random(seed).shuffle(answers)  # noqa: S311  (reproducible, not secret)
    return [{**record, "completion": answer} for record, answer in zip(records, answers, strict=True)]


def build_plan(case: UseCase, tokenizer: Any, found: Sources, control: str) -> TrainingPlan:
    """The records and batches of a run.

    Raises:
        TrainingError: if there are no new records.
        DataError: if the champion does not record what it was trained on.
    """
    settings = case.finetune
    own = rows(found.own, "train")
    if control == "shuffled_labels":
        own = shuffled(own, settings.seed)
    counts = {"own": len(own)}
    if found.seen is not None and settings.continual:
        own, counts = _with_replay(own, seen.of_release(found.seen), settings.continual.replay, settings.seed)
    task = encode(of_usecase(case), tokenizer, own, settings.turns)
    for name, weight in settings.mix.items():
        other = config.load(name)
        chosen = _sample(rows(found.others[name], "train"), round(weight * len(own)), settings.seed)
        task += encode(of_usecase(other), tokenizer, chosen)
        counts[name] = len(chosen)
    texts = _domain(case, tokenizer, found)
    counts |= {"texts": len(texts)} if texts else {}
    plan = _plan(case, texts, task)
    log.info("training records: %s, %d steps", counts, len(plan))
    return TrainingPlan(texts + task, plan, counts)


def _with_replay(own: Rows, known: set[str], share: float, seed: int) -> tuple[Rows, dict[str, int]]:
    """New records, and a replay of others that makes up the given share."""
    parts: tuple[Rows, Rows] = ([], [])
    for record in own:
        parts[seen.digest_of(record["text"], record["completion"]) in known].append(record)
    new, old = parts
    if not new:
        raise TrainingError(
            "The champion was trained on all of these records. Wait for new ones, or set start to 'base'."
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
