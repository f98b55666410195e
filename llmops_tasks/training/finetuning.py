"""Fine-tuning: every method and strategy of a use case, from a dataset to an adapter or weights.

Interrupted at any step, a rerun continues from the newest verified checkpoint to the same bytes. Newer code goes on
with the same checkpoints, where it takes the same records in the same steps, and the result says from where on. What this
does not do: push to a hub, read pickles, or register anything.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llmops_tasks import config, tracking
from llmops_tasks.config import Finetune, UseCase
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.prompts.interface import of_usecase
from llmops_tasks.store import artifacts, digests
from llmops_tasks.store.sources import code_digest
from llmops_tasks.training import (
    checkpoints,
    groups,
    loop,
    preflight,
    prepared,
    processes,
    seen,
    trainable,
    training_plan,
)
from llmops_tasks.training.prepared import Prepared, check_options, prepare_run, with_settings
from llmops_tasks.training.progress import Progress
from llmops_tasks.training.stopwatch import Stopwatch
from llmops_tasks.training.trainable import State
from llmops_tasks.training.training_plan import Sources

log = logging.getLogger(__name__)


def finetune(
    *,
    usecase: str,
    dataset: ArtifactRef,
    start: ArtifactRef,
    control: str = "none",
    max_steps: int | None = None,
    settings: dict[str, Any] | None = None,
    others: dict[str, ArtifactRef] | None = None,
) -> ArtifactRef:
    """Fine-tune on the dataset's train split.

    Args:
        usecase: name or YAML path.
        dataset: from `build_dataset`.
        start: weights to start from: from `fetch_base_model` or `find_starting_point`.
        control: "shuffled_labels" trains a negative control, which the gate must refuse.
        max_steps: a smoke run; its result is marked and can never be promoted.
        settings: override the use case's `finetune`, as found by a search.
        others: datasets of the use cases in `mix` and `domain`, from `find_mixed_datasets`; by default the newest.

    Returns:
        A reference of kind "adapter" (LoRA) or "weights" (full), safetensors; with several members, a folder each.
        `meta` has the figures, estimated and actual cost.

    Raises:
        DataError: if the dataset was rendered with another template, no record is held out, or the release that training
            starts from does not record what it was trained on.
        TrainingError: if loss or gradient are out of bounds, or the data cannot be trained on.
        BudgetError: if the estimate exceeds `finetune.budget`.

    Example:
        >>> adapter = finetune(usecase="triage", dataset=dataset, start=base)
    """
    check_options(control, max_steps)
    case, name = with_settings(config.load(usecase), settings), config.usecase_name(usecase)
    training_plan.check_rendered(case, dataset)
    for carried in (groups, seen):
        carried.check(start)
    found = training_plan.sources(case, name, dataset, start, others)
    inputs = {
        **found.digests(),
        "start": start["sha256"],
        "interface": of_usecase(case).digest(),
        "settings": prepared.digested(case.finetune),
        "control": control,
        "max_steps": max_steps,
    }
    code = code_digest(__name__)
    job = Job(case, name, digests.digest(inputs), code, found, start, control, max_steps)
    kind, inputs = "weights" if case.finetune.method == "full" else "adapter", {**inputs, "code": code}
    ref = artifacts.publish(usecase=name, kind=kind, inputs=inputs, build=partial(_train, job))
    for member in range(case.finetune.members):
        checkpoints.clear(usecase=name, run=job.run(member))
    return ref


@dataclass(frozen=True)
class Job:
    """One training run, before it starts."""

    case: UseCase
    name: str
    key: str  # of all that is asked for; a run that is gone on with by newer code has the same
    code: str
    sources: Sources
    start: ArtifactRef
    control: str
    max_steps: int | None

    def run(self, member: int) -> str:
        """What identifies a member's checkpoints."""
        return digests.digest({"job": self.key, "member": member})

    def began(self) -> str:
        """Key of the MLflow run: of the attempt that was begun first, whatever code goes on with it."""
        begun = checkpoints.newest(usecase=self.name, run=self.run(0))
        return str(begun.get("began") or digests.digest({"job": self.key, "code": self.code}))

    def progress(self, member: int, mlflow_run: str, ready: Prepared) -> Progress:
        """The progress of a member."""
        return Progress(
            usecase=self.name,
            run=self.run(member),
            mlflow_run=mlflow_run,
            total=len(ready.plan.batches),
            checkpoint_every=self.case.finetune.checkpoint_every,
            fits=ready.fits(),
            code=self.code,
            began=self.began(),
            checkpoint_minutes=self.case.finetune.checkpoint_minutes,
            prefix="" if self.case.finetune.members == 1 else f"member_{member}.",
        )


def _train(job: Job, out: Path) -> dict[str, Any]:
    settings = job.case.finetune
    with tracking.run(usecase=job.name, name=f"finetune {job.key[:8]}", key=job.began()) as run:
        run.params(_params(job))
        run.dataset(name=job.name, sha256=job.sources.own["sha256"], uri=job.sources.own["uri"], context="training")
        run.tags({"llmops.data_docs": str(job.sources.own["meta"].get("data_docs", ""))})
        found = [_run_member(job, member, out, run.id) for member in range(settings.members)]
        figures = _together(found)
        learnt_from = groups.write(out, job.start, job.sources.datasets())
        seen.write(out, job.start, [job.sources.own])
        of_usecase(job.case).write(out)
        run.metrics({name: value for name, value in figures.items() if isinstance(value, int | float)})
    stamp = {"control": job.control, "smoke": job.max_steps is not None, "mlflow_run": run.id}
    figures |= {"learnt_from": learnt_from, "members": settings.members}
    return {**figures, **stamp, "parents": [artifacts.parent(job.sources.own)]}


def _params(job: Job) -> dict[str, Any]:
    return (
        prepared.params(job.case.finetune)
        | job.sources.digests()
        | {"start": job.start["sha256"], "control": job.control}
    )


def _together(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Costs add up, losses are averaged, of memory the most counts, the rest is the same for all members."""
    result = dict(found[0])
    for name in result:
        values = [figures[name] for figures in found]
        if name.endswith("loss"):
            result[name] = sum(values) / len(values)
        elif name.endswith(("seconds", "price", "_per_1000_records")):
            result[name] = round(sum(values), 4)
        elif name.endswith("memory_mib"):
            result[name] = max(values)
    return result


# ---------------------------------------------------------------- one member


def _run_member(job: Job, member: int, out: Path, run_id: str) -> dict[str, Any]:
    settings = job.case.finetune
    folder = out if settings.members == 1 else out / "members" / str(member)
    folder.mkdir(parents=True, exist_ok=True)
    work = partial(_train_member, job, member, folder, run_id)
    found: dict[str, Any] = processes.together(settings.processes, work)
    return found


def _train_member(job: Job, member: int, out: Path, run_id: str) -> dict[str, Any]:
    case = with_settings(job.case, {"seed": job.case.finetune.seed + member})
    ready = prepare_run(case, job.name, job.sources, job.start, job.control, job.max_steps)
    progress = job.progress(member, run_id, ready)
    expected = _preflight(job, member, progress, ready)
    figures = _train_steps(progress, ready)
    _save(job, ready.state, out)
    return {**figures, **expected}


def _preflight(job: Job, member: int, progress: Progress, ready: Prepared) -> dict[str, float]:
    """Estimate before the first step; what was begun goes on, whatever it costs."""
    if member or checkpoints.newest(usecase=job.name, run=progress.run, fits=progress.fits):
        return preflight.estimate(ready.state, ready.settings, ready.plan, job.name).figures("estimated")
    return preflight.admit(ready.state, ready.settings, ready.plan, job.name).figures("estimated")


def _train_steps(progress: Progress, ready: Prepared) -> dict[str, Any]:
    state = ready.state
    state.meter = Stopwatch()  # of the frozen layers' pass and the steps, as estimated
    training_set = ready.training_set()
    done = progress.resume(state)
    if not _has_stopped(state, ready.settings):
        loop.run(state, ready.settings, training_set, done, partial(_after_step, progress, ready))
    state.writer.finish()
    made, spent = len(state.losses), state.meter.spent()
    state.held_out.restore(state.trained)
    loss = ready.held_out_loss()
    log.info("held-out loss %.4f after %d steps", loss, made)
    recent, records = state.losses[-10:], sum(map(len, ready.plan.batches[:made]))
    return {
        "rows": ready.plan.counts.get("own", len(ready.plan.examples)),
        "steps": made,
        "best_step": state.held_out.best()[0] if state.held_out.losses else made,
        "records_seen": records,
        "taught": ready.plan.counts,
        "train_loss": sum(recent) / len(recent),
        "held_out_loss": loss,
        "resumed_after": done,
        "code_changed_after": trainable.code_changes(state),
        "lora": state.lora,
        **preflight.cost(records, spent),
    }


def _after_step(progress: Progress, ready: Prepared, made: int, speed: float, left: float) -> bool:
    """Evaluate first, so that a checkpoint knows what was found. One process decides for all."""
    stop = ready.state.held_out.evaluate(ready.settings, made, ready.state.trained, ready.held_out_loss)
    progress.after_step(ready.state, made, speed, left)
    return processes.total(float(stop and not processes.rank())) > 0


def _has_stopped(state: State, settings: Finetune) -> bool:
    """Whether the checkpoint that a run continues from is one after which it had stopped already."""
    return bool(state.held_out.losses) and state.held_out.is_over(settings)


def _save(job: Job, state: State, out: Path) -> None:
    trainable.save(state, out, job.start, {"control": job.control, "smoke": job.max_steps is not None})
