"""Fine-tuning: every method and strategy of a use case, from a dataset to an adapter or weights.

Interrupted at any step, a rerun continues from the newest verified checkpoint to the same bytes. What this does
not do: push to a hub, read pickles, or register anything.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from llmops_tasks import artifacts, config, storage, tracking, trunk
from llmops_tasks.config import Finetune, UseCase
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import InputError
from llmops_tasks.prompts import templates
from llmops_tasks.training import batches, checkpoints, curriculum, examples, loop, methods, preflight, processes
from llmops_tasks.training.curriculum import Curriculum, Sources
from llmops_tasks.training.examples import Example, encode, label_tokens
from llmops_tasks.training.methods import State

log = logging.getLogger(__name__)
CONTROLS = ("none", "shuffled_labels")
_NO_MATTER = {"budget", "resources", "checkpoint_every"}  # settings that the result does not follow from
_CODE = (__file__, *(str(room.__file__) for room in (templates, trunk, batches, curriculum, examples, loop, methods)))


def finetune(
    *,
    usecase: str,
    dataset: ArtifactRef,
    base: ArtifactRef,
    control: str = "none",
    max_steps: int | None = None,
    settings: dict[str, Any] | None = None,
) -> ArtifactRef:
    """Train on the dataset's train split.

    Args:
        usecase: name or YAML path.
        dataset: from `versions`.
        base: weights to start from: from `base_model`, or a release, as `registry.starting_point` says.
        control: "shuffled_labels" trains on labels that mean nothing, to show that the gate notices.
        max_steps: a smoke run; its result is marked and can never be promoted.
        settings: in place of those of the use case's `finetune`, as a search found them.

    Returns:
        A reference of kind "adapter" (LoRA) or "weights" (full), safetensors; with several members, a folder each.
        `meta` has the figures, estimated and actual cost.

    Raises:
        TrainingError: if loss or gradient are out of bounds, or nothing can be learnt from the data.
        BudgetError: if it would cost more than `finetune.budget` allows.
    """
    if control not in CONTROLS:
        raise InputError(f"control='{control:.40}' is unknown. Allowed: {list(CONTROLS)}.")
    if max_steps is not None and max_steps < 1:
        raise InputError(f"max_steps={max_steps} trains nothing. Allowed: 1 or more, or none for all steps.")
    case, name = with_settings(config.load(usecase), settings), config.usecase_name(usecase)
    found = curriculum.sources(case, name, dataset, base)
    inputs = {
        **found.digests(),
        "base": base["sha256"],
        "config": case.digest("task", "prompt"),
        "settings": case.finetune.model_dump(mode="json", exclude=_NO_MATTER),
        "control": control,
        "max_steps": max_steps,
        "code": storage.code_digest(*_CODE),
    }
    job = Job(case, name, storage.digest(inputs), found, base, control, max_steps)
    kind = "weights" if case.finetune.method == "full" else "adapter"
    ref = artifacts.publish(usecase=name, kind=kind, inputs=inputs, build=partial(_train, job))
    for member in range(case.finetune.members):
        checkpoints.clear(usecase=name, run=job.run(member))
    return ref


def with_settings(case: UseCase, settings: dict[str, Any] | None) -> UseCase:
    """The use case with other fine-tuning settings.

    Raises:
        InputError: if a setting is unknown or out of bounds.
    """
    try:
        changed = Finetune.model_validate({**case.finetune.model_dump(mode="json"), **(settings or {})})
    except ValidationError as exc:
        found = [".".join(map(str, error["loc"])) for error in exc.errors()]
        raise InputError(f"settings are wrong at {found}. Allowed: those of 'finetune' in the use case.") from None
    return case.model_copy(update={"finetune": changed})


@dataclass(frozen=True)
class Job:
    """One training run, before it starts."""

    case: UseCase
    name: str
    key: str
    sources: Sources
    base: ArtifactRef
    control: str
    max_steps: int | None

    def run(self, member: int) -> str:
        """What identifies a member's checkpoints."""
        return storage.digest({"job": self.key, "member": member})


def _train(job: Job, out: Path) -> dict[str, Any]:
    settings = job.case.finetune
    with tracking.run(usecase=job.name, name=f"finetune {job.key[:8]}", key=job.key) as run:
        run.params(_params(job))
        run.dataset(name=job.name, sha256=job.sources.own["sha256"], uri=job.sources.own["uri"], context="training")
        run.tags({"llmops.data_docs": str(job.sources.own["meta"].get("data_docs", ""))})
        found = []
        for member in range(settings.members):
            folder = out if settings.members == 1 else out / "members" / str(member)
            folder.mkdir(parents=True, exist_ok=True)
            work = partial(_train_member, job, member, folder, run.id)
            found.append(work() if settings.processes == 1 else processes.together(settings.processes, work))
        figures = _together(found)
        run.metrics({name: value for name, value in figures.items() if isinstance(value, int | float)})
    stamp = {"control": job.control, "smoke": job.max_steps is not None, "mlflow_run": run.id}
    return {**figures, **stamp, "members": settings.members, "parents": [artifacts.parent(job.sources.own)]}


def _params(job: Job) -> dict[str, Any]:
    settings = {f"finetune.{name}": value for name, value in job.case.finetune.model_dump(mode="json").items()}
    return settings | job.sources.digests() | {"base": job.base["sha256"], "control": job.control}


def _together(found: list[dict[str, Any]]) -> dict[str, Any]:
    """Costs add up, losses are averaged, the rest is the same for all members."""
    result = dict(found[0])
    for name in result:
        values = [figures[name] for figures in found]
        if name.endswith("loss"):
            result[name] = sum(values) / len(values)
        elif name.endswith(("seconds", "price")):
            result[name] = round(sum(values), 4)
    return result


# ---------------------------------------------------------------- one member


def _train_member(job: Job, member: int, out: Path, run_id: str) -> dict[str, Any]:
    import torch

    settings = job.case.finetune.model_copy(update={"seed": job.case.finetune.seed + member})
    loop.threads()
    torch.manual_seed(settings.seed)
    model, tokenizer = methods.load_base(artifacts.fetch(job.base), settings.method)
    if job.case.task.type == "classification":
        label_tokens(job.case, tokenizer)  # before anything is spent: can the labels be told apart?
    case = job.case.model_copy(update={"finetune": settings})
    taught = curriculum.curriculum(case, tokenizer, job.sources, job.control)
    taught = Curriculum(taught.examples, taught.plan[: job.max_steps], taught.counts)
    held_out = encode(case, tokenizer, curriculum.rows(job.sources.own, "validation"))
    state = methods.prepare(model, settings)
    expected = _preflight(job, member, state, settings, taught)
    figures = _teach(job, member, state, settings, taught, held_out, run_id)
    _save(job, state, out)
    return {**figures, **expected, **_cost(figures)}


def _preflight(job: Job, member: int, state: State, settings: Finetune, taught: Curriculum) -> dict[str, float]:
    """Estimate before the first step; what was begun goes on without."""
    found = preflight.estimate(state, settings, taught, job.name)
    if not checkpoints.exist(usecase=job.name, run=job.run(member)):
        preflight.check(found, settings.budget, settings.members)
    log.info("expected: %.0f s, %.0f MiB of memory, %.0f MiB of disk", found.seconds, found.memory_mib, found.disk_mib)
    return found.figures("estimated")


def _cost(figures: dict[str, Any]) -> dict[str, float]:
    used = preflight.spent()
    thousands = max(1, figures["records_seen"]) / 1000
    return {
        "actual.memory_mib": used["memory_mib"],
        "cpu_seconds_per_1000_records": round(used["cpu_seconds"] / thousands, 1),
    }


def _teach(
    job: Job,
    member: int,
    state: State,
    settings: Finetune,
    taught: Curriculum,
    held_out: list[Example],
    run_id: str,
) -> dict[str, Any]:
    began = time.monotonic()
    lesson = loop.Lesson(taught.examples, hidden_states(job.name, state, settings, taught.examples), taught.plan)
    seen = hidden_states(job.name, state, settings, held_out)
    resume = partial(checkpoints.resume, trained=state.trained, optimizer=state.optimizer)
    done, state.losses = processes.first_then_others(partial(resume, usecase=job.name, run=job.run(member)))
    loop.run(state, settings, lesson, done, partial(_after_step, job, member, state, settings, lesson, run_id))
    seconds = time.monotonic() - began  # of the trunk's pass and the steps, as estimated
    loss = loop.mean_loss(state, settings, held_out, seen)
    log.info("held-out loss %.4f after %d steps", loss, len(taught.plan))
    return {
        "rows": taught.counts.get("own", len(taught.examples)),
        "steps": len(taught.plan),
        "records_seen": sum(map(len, taught.plan)),
        "taught": taught.counts,
        "train_loss": sum(state.losses[-10:]) / len(state.losses[-10:]),
        "held_out_loss": loss,
        "actual.seconds": round(seconds, 3),
        "resumed_after": done,
    }


def hidden_states(usecase: str, state: State, settings: Finetune, records: list[Example]) -> Any:
    """What enters the trained layers; None where there is no frozen trunk."""
    if state.cut == 0:
        return None
    compute = partial(
        trunk.activations,
        model=state.base,
        shared=trunk.Shared(usecase, state.cut),
        sequences=[example.tokens for example in records],
        batch_size=settings.batch_size,
    )
    return processes.first_then_others(compute)


def _after_step(
    job: Job,
    member: int,
    state: State,
    settings: Finetune,
    lesson: loop.Lesson,
    run_id: str,
    made: int,
    speed: float,
    left: float,
) -> None:
    """Tell how far it is, and keep a checkpoint; the first process does it for all."""
    if processes.rank():
        return
    total = len(lesson.plan)
    if made % loop.LOG_EVERY == 0 or made == total:
        recent = sum(state.losses[-loop.LOG_EVERY :]) / len(state.losses[-loop.LOG_EVERY :])
        log.info("step %d/%d loss %.4f %.0f tokens/s, %.0f s left", made, total, recent, speed, left)
        prefix = "" if settings.members == 1 else f"member_{member}."
        tracking.Run(tracking.client(), run_id).metrics(
            {f"{prefix}loss": recent, f"{prefix}tokens_per_second": speed}, step=made
        )
    if made % settings.checkpoint_every == 0 and made < total:
        checkpoints.save(
            usecase=job.name,
            run=job.run(member),
            step=made,
            trained=state.trained,
            optimizer=state.optimizer,
            losses=state.losses,
        )


def _save(job: Job, state: State, out: Path) -> None:
    if processes.rank():
        return
    state.model.save_pretrained(out, safe_serialization=True)
    (out / "README.md").unlink(missing_ok=True)  # peft's empty model card; `release.package` writes a true one
    told = {"losses": state.losses, "control": job.control, "smoke": job.max_steps is not None}
    (out / "training.json").write_bytes(storage.canonical(told))
