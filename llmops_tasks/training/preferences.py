"""Preference tuning on corrections: direct preference optimisation (DPO), by trl.

Where the champion's prediction was corrected, the corrected label is preferred. Training continues from the
champion; the preference rate is measured before and after, on held-out pairs.
trl computes the loss and makes the steps; order, schedule and checkpoints are ours, so that a run which was interrupted
goes on to the same bytes.
Source: Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model".
"""

from __future__ import annotations

import logging
import random
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from llmops_tasks import config, tracking
from llmops_tasks.config import Finetune, UseCase
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import BudgetError, DataError
from llmops_tasks.prompts.interface import of_start
from llmops_tasks.store import artifacts, digests
from llmops_tasks.store.sources import code_digest
from llmops_tasks.training import (
    checkpoints,
    examples,
    groups,
    loop,
    preferences_trl,
    preflight,
    prepared,
    seen,
    trainable,
)
from llmops_tasks.training.corrections import preferences_of
from llmops_tasks.training.examples import Example, Pair, pairs
from llmops_tasks.training.progress import Progress
from llmops_tasks.training.stopwatch import Stopwatch
from llmops_tasks.training.training_plan import TrainingPlan

log = logging.getLogger(__name__)


def tune_preferences(
    *, usecase: str, pairs: ArtifactRef, start: ArtifactRef, control: str = "none", max_steps: int | None = None
) -> ArtifactRef:
    """Tune on preference pairs (DPO), with LoRA over the starting weights.

    Args:
        usecase: name or YAML path, with `finetune.preferences`.
        pairs: from `collect_corrections`, or other pairs of that schema.
        start: the champion's release.
        control: "shuffled_labels" trains a negative control on random preferences, which the gate must refuse.
        max_steps: a smoke run; its result is marked and can never be promoted.

    Returns:
        A reference of kind "adapter". `meta` has `preferred.before` and `preferred.after`: the share of held-out
        pairs whose preferred answer is the likelier one.

    Raises:
        TrainingError: if loss or gradient are out of bounds.
        BudgetError: if the estimate exceeds `finetune.budget`.

    Example:
        >>> adapter = tune_preferences(usecase="triage", pairs=pairs, start=champion["release"])
    """
    prepared.check_options(control, max_steps)
    case, name = config.load(usecase), config.usecase_name(usecase)
    for carried in (groups, seen):
        carried.check(start)
    inputs = {
        "pairs": pairs["sha256"],
        "start": start["sha256"],
        "interface": of_start(case, start).digest(),
        "settings": prepared.digested(_settings(case)),
        "control": control,
        "max_steps": max_steps,
    }
    code = code_digest(__name__)
    job = Job(case, name, digests.digest(inputs), code, pairs, start, control, max_steps)
    build = partial(_tune, job)
    ref = artifacts.publish(usecase=name, kind="adapter", inputs={**inputs, "code": code}, build=build)
    checkpoints.clear(usecase=name, run=job.key)
    return ref


def _settings(case: UseCase) -> Finetune:
    """Those of the use case, with the learning rate and epochs of its preferences."""
    wanted = preferences_of(case)
    return case.finetune.model_copy(update={"learning_rate": wanted.learning_rate, "epochs": wanted.epochs})


@dataclass(frozen=True)
class Job:
    """One run, before it starts."""

    case: UseCase
    name: str
    key: str  # of all that is asked for; a run that is gone on with by newer code has the same
    code: str
    pairs: ArtifactRef
    start: ArtifactRef
    control: str
    max_steps: int | None

    def began(self) -> str:
        """Key of the MLflow run: of the attempt that was begun first, whatever code goes on with it."""
        begun = checkpoints.newest(usecase=self.name, run=self.key)
        return str(begun.get("began") or digests.digest({"job": self.key, "code": self.code}))

    def progress(self, mlflow_run: str, steps: int, fits: str) -> Progress:
        """Its progress."""
        every = self.case.finetune.checkpoint_every
        return Progress(self.name, self.key, mlflow_run, steps, every, fits, self.code, self.began())


def _tune(job: Job, out: Path) -> dict[str, Any]:
    import torch

    settings = _settings(job.case)
    loop.threads()
    torch.manual_seed(settings.seed)
    model, tokenizer = trainable.load(artifacts.fetch(job.start), settings)
    train, held_out = _read(job, tokenizer)
    longest = max(len(record.tokens) for one in [*train, *held_out] for record in one.examples())
    state = replace(trainable.prepare(model, settings, longest), cut=0)  # trl runs all layers
    plan = _plan(train, settings)[: job.max_steps]
    with tracking.run(usecase=job.name, name=f"prefer {job.key[:8]}", key=job.began()) as run:
        sources = {"pairs": job.pairs["sha256"], "start": job.start["sha256"], "control": job.control}
        run.params(prepared.params(settings) | sources)
        before = preferred(state, settings, held_out)
        cost = _learn(job, run.id, state, [[train[index] for index in batch] for batch in plan], tokenizer)
        state.writer.finish()
        figures = {"preferred.before": before, "preferred.after": preferred(state, settings, held_out)}
        run.metrics({**figures, **cost, "train_loss": state.losses[-1]})
    log.info("preferred answers: %.3f of %d held-out pairs before, %.3f after", before, len(held_out), figures["preferred.after"])  # fmt: skip
    stamp: dict[str, Any] = {"control": job.control, "smoke": job.max_steps is not None}
    trainable.save(state, out, job.start, stamp)
    of_start(job.case, job.start).write(out)
    stamp["learnt_from"] = groups.write(out, job.start, [], job.pairs)
    seen.write(out, job.start, [])
    made: dict[str, Any] = {
        "rows": len(train),
        "held_out": len(held_out),
        "steps": len(plan),
        "train_loss": state.losses[-1],
    }
    made |= {"lora": state.lora, "code_changed_after": trainable.code_changes(state)}
    lineage = {"mlflow_run": run.id, "parents": [artifacts.parent(job.pairs)]}
    return {**made, **figures, **cost, **stamp, **lineage, "members": 1}


def _read(job: Job, tokenizer: Any) -> tuple[list[Pair], list[Pair]]:
    """Pairs to learn from, and those held out."""
    import pandas as pd

    frame = pd.read_parquet(artifacts.fetch(job.pairs) / "pairs.parquet")
    parts = (frame[frame["split"] == split].to_dict("records") for split in ("train", "validation"))
    train, held_out = (pairs(of_start(job.case, job.start), tokenizer, part) for part in parts)
    if not train or not held_out:
        raise DataError(f"{len(train)} pairs to train on and {len(held_out)} held out: both are needed. Wait for more.")
    if job.control == "shuffled_labels":
        rng = random.Random(job.case.finetune.seed)  # noqa: S311  (reproducible, not secret)
        train = [Pair(one.prompt, *rng.sample([one.chosen, one.rejected], 2)) for one in train]
    return train, held_out


def _plan(train: list[Pair], settings: Finetune) -> list[list[int]]:
    """Batches of pairs of like length, all of one size but the last; each epoch in an order of its own."""
    size, lengths = preferences_trl.batch_size(settings), [len(one.prompt) for one in train]
    epochs = [examples.batch_plan(lengths, size, settings.seed, epoch) for epoch in range(settings.epochs)]
    order = [index for batches in epochs for batch in batches for index in batch]
    return [order[at : at + size] for at in range(0, len(order), size)]


def _learn(
    job: Job, run_id: str, state: trainable.State, batches: list[list[Pair]], tokenizer: Any
) -> dict[str, float]:
    settings, expected = _settings(job.case), {}
    state.meter = Stopwatch()
    told, plan = _records(settings, batches)
    progress = job.progress(run_id, len(batches), trainable.fits(state, plan.digest()))
    begun = checkpoints.newest(usecase=job.name, run=job.key, fits=progress.fits)

    def probed(seconds: float) -> None:
        found = preflight.needs(state, told, plan, seconds)
        expected.update(found.figures("estimated"))
        if not begun:  # else it goes on, whatever it costs
            _check(found, settings, progress)

    probed(0)  # memory and disk are known before the first step, time after a few
    pair_plan = preferences_trl.PairPlan(batches, progress, probed)
    done = preferences_trl.run(state, settings, preferences_of(job.case), pair_plan, tokenizer)
    cost = preflight.cost(sum(map(len, batches)), state.meter.spent())
    return {**expected, **cost, "resumed_after": done}


def _check(found: preflight.Estimate, settings: Finetune, progress: Progress) -> None:
    try:
        preflight.check(found, settings.budget)
    except BudgetError:
        progress.clear()  # or another attempt would go on from the probe
        raise


def _records(settings: Finetune, batches: list[list[Pair]]) -> tuple[Finetune, TrainingPlan]:
    """The same as training on records: both answers of a pair are one."""
    records: list[Example] = []
    plan: list[list[int]] = []
    for batch in batches:
        both = [record for one in batch for record in one.examples()]
        plan.append(list(range(len(records), len(records) + len(both))))
        records += both
    return settings.model_copy(update={"batch_size": 2 * settings.batch_size}), TrainingPlan(records, plan, {})


def preferred(state: trainable.State, settings: Finetune, pairs: list[Pair]) -> float:
    """The share of pairs whose chosen answer is likelier than the rejected one (0 to 1)."""
    losses = loop.record_losses(state, settings, [record for one in pairs for record in one.examples()])
    return sum(chosen < rejected for chosen, rejected in zip(losses[::2], losses[1::2], strict=True)) / len(pairs)
