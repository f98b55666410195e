"""Fine-tuning: LoRA on the top layers over a trunk that is run once, or all weights.

Loss falls on the completion only, and the vocabulary head is computed only there. Interrupted at any
step, a rerun continues from the newest verified checkpoint to the same bytes. What this does not do:
push to a hub, read pickles, or register anything.
"""

from __future__ import annotations

import inspect
import logging
import math
import os
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks import artifacts, config, storage, tracking, trunk
from llmops_tasks.config import Finetune, UseCase
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import InputError, TrainingError
from llmops_tasks.prompts import templates
from llmops_tasks.training import checkpoints
from llmops_tasks.training.examples import IGNORED, Example, batch_plan, encode, label_tokens, pad

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
CONTROLS = ("none", "shuffled_labels")
LOG_EVERY = 10  # steps


def finetune(
    *, usecase: str, dataset: ArtifactRef, base: ArtifactRef, control: str = "none", max_steps: int | None = None
) -> ArtifactRef:
    """Train on the dataset's train split.

    Args:
        usecase: name or YAML path.
        dataset: from `versions`.
        base: from `base_model`.
        control: "shuffled_labels" trains on labels that mean nothing, to show that the gate notices.
        max_steps: a smoke run; its result is marked and can never be promoted.

    Returns:
        A reference of kind "adapter" (LoRA) or "weights" (full), safetensors. `meta` has the figures.

    Raises:
        TrainingError: if the loss is no number, or nothing can be learnt from the data.
    """
    if control not in CONTROLS:
        raise InputError(f"control='{control:.40}' is unknown. Allowed: {list(CONTROLS)}.")
    if max_steps is not None and max_steps < 1:
        raise InputError(f"max_steps={max_steps} trains nothing. Allowed: 1 or more, or none for all steps.")
    case, name = config.load(usecase), config.usecase_name(usecase)
    inputs = {
        "dataset": dataset["sha256"],
        "base": base["sha256"],
        "config": case.digest("task", "prompt", "finetune"),
        "control": control,
        "max_steps": max_steps,
        "code": storage.code_digest(__file__, templates.__file__, trunk.__file__, inspect.getfile(Example)),
    }
    job = Job(case, name, storage.digest(inputs), dataset, base, control, max_steps)
    kind = "adapter" if case.finetune.method == "lora" else "weights"
    ref = artifacts.publish(usecase=name, kind=kind, inputs=inputs, build=partial(_train, job))
    checkpoints.clear(usecase=name, run=job.key)
    return ref


@dataclass(frozen=True)
class Job:
    """One training run, before it starts."""

    case: UseCase
    name: str
    key: str
    dataset: ArtifactRef
    base: ArtifactRef
    control: str
    max_steps: int | None


@dataclass
class State:
    """A training run under way."""

    model: Any  # transformers' causal LM, with or without LoRA inside
    trained: dict[str, torch.Tensor]  # name -> parameter
    optimizer: Any
    cut: int  # layers below run once
    losses: list[float] = field(default_factory=list)


def _train(job: Job, out: Path) -> dict[str, Any]:
    import torch

    torch.manual_seed(job.case.finetune.seed)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    model, tokenizer = load_base(artifacts.fetch(job.base))
    if job.case.task.type == "classification":
        label_tokens(job.case, tokenizer)  # before anything is spent: can the labels be told apart?
    train, held_out = (encode(job.case, tokenizer, _rows(job, split)) for split in ("train", "validation"))
    state = _prepare(model, job.case.finetune)
    with tracking.run(usecase=job.name, name=f"finetune {job.key[:8]}", key=job.key) as run:
        run.params(_params(job, train))
        run.dataset(name=job.name, sha256=job.dataset["sha256"], uri=job.dataset["uri"], context="training")
        run.tags({"llmops.data_docs": str(job.dataset["meta"].get("data_docs", ""))})
        figures = _loop(job, state, train, held_out, run)
        run.metrics({name: value for name, value in figures.items() if isinstance(value, int | float)})
    _save(job, state, out)
    stamp = {"control": job.control, "smoke": job.max_steps is not None, "mlflow_run": run.id}
    return {"rows": len(train), **figures, **stamp}


def load_base(folder: Path) -> tuple[Any, Any]:
    """A model in fp32 and its tokenizer, from a verified folder: safetensors only, nothing downloaded."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
    )
    trunk.check_architecture(model)
    return model, AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _rows(job: Job, split: str) -> list[dict[str, Any]]:
    import pandas as pd

    frame = pd.read_parquet(artifacts.fetch(job.dataset) / "data.parquet", filters=[("split", "==", split)])
    if job.control == "shuffled_labels":
        frame["completion"] = frame["completion"].sample(frac=1, random_state=job.case.finetune.seed).to_numpy()
    rows: list[dict[str, Any]] = frame[["text", "completion"]].to_dict("records")
    return rows


def _prepare(model: Any, settings: Finetune) -> State:
    """Decide what is trained: LoRA matrices in the top layers, or everything."""
    import torch

    cut = 0
    if settings.method == "lora":
        from peft import LoraConfig, get_peft_model

        layers = model.config.num_hidden_layers
        first = max(0, layers - settings.top_layers)
        cut = 0 if model.config.attention_dropout else first  # a layer that draws masks gives no output to keep
        lora = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=settings.target_modules,
            layers_to_transform=list(range(first, layers)),
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(model, lora)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=settings.learning_rate, weight_decay=0.0, fused=True)
    return State(model, trained, optimizer, cut)


def _params(job: Job, train: list[Example]) -> dict[str, Any]:
    settings = {f"finetune.{name}": value for name, value in job.case.finetune.model_dump(mode="json").items()}
    tokens = sum(len(example.tokens) for example in train)
    origin = {"dataset": job.dataset["sha256"], "base": job.base["sha256"], "control": job.control}
    return settings | origin | {"train_rows": len(train), "train_tokens": tokens}


# ---------------------------------------------------------------- the loop


def _loop(job: Job, state: State, train: list[Example], held_out: list[Example], run: tracking.Run) -> dict[str, Any]:
    settings = job.case.finetune
    hidden = _inputs(job, state, train)
    hidden_held_out = _inputs(job, state, held_out)
    plan = [
        batch
        for epoch in range(settings.epochs)
        for batch in batch_plan([len(e.tokens) for e in train], settings.batch_size, settings.seed, epoch)
    ]
    plan = plan[: job.max_steps]
    done, state.losses = checkpoints.resume(
        usecase=job.name, run=job.key, trained=state.trained, optimizer=state.optimizer
    )
    started, tokens = time.monotonic(), 0
    for step in range(done, len(plan)):
        batch = plan[step]
        state.losses.append(_step(state, settings, step, len(plan), [train[i] for i in batch], _pick(hidden, batch)))
        tokens += sum(len(train[i].tokens) for i in batch)
        _report(run, state, step, len(plan), tokens, started)
        if (step + 1) % settings.checkpoint_every == 0 and step + 1 < len(plan):
            checkpoints.save(
                usecase=job.name,
                run=job.key,
                step=step + 1,
                trained=state.trained,
                optimizer=state.optimizer,
                losses=state.losses,
            )
    held_out_loss = evaluate_loss(state, held_out, hidden_held_out, settings.batch_size)
    log.info("held-out loss %.4f after %d steps", held_out_loss, len(plan))
    return {
        "steps": len(plan),
        "train_loss": sum(state.losses[-10:]) / len(state.losses[-10:]),
        "held_out_loss": held_out_loss,
    }


def _pick(hidden: list[torch.Tensor] | None, batch: list[int]) -> list[torch.Tensor] | None:
    return None if hidden is None else [hidden[index] for index in batch]


def _inputs(job: Job, state: State, examples: list[Example]) -> list[torch.Tensor] | None:
    """What enters the trained layers; None where there is no frozen trunk."""
    if state.cut == 0:
        return None
    return trunk.activations(
        model=state.model.get_base_model(),
        shared=trunk.Shared(job.name, state.cut),
        sequences=[example.tokens for example in examples],
        batch_size=job.case.finetune.batch_size,
    )


def answer_logits(
    state: State, batch: list[Example], hidden: list[torch.Tensor] | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (answers, vocabulary) and targets (answers,) at the positions that carry loss."""
    from torch.nn.utils.rnn import pad_sequence

    model = state.model.get_base_model() if hasattr(state.model, "get_base_model") else state.model
    tokens, labels = pad(batch)
    states = model.model.embed_tokens(tokens) if hidden is None else pad_sequence(hidden, batch_first=True)
    counted = labels != IGNORED
    states = trunk.run_layers_at(model.model, states, model.model.layers[state.cut :], counted)
    return model.lm_head(model.model.norm(states)), labels[counted]


def _step(
    state: State, settings: Finetune, step: int, total: int, batch: list[Example], hidden: list[torch.Tensor] | None
) -> float:
    """One optimizer step; dropout follows from seed and step, so a resumed run draws the same masks."""
    import torch

    torch.manual_seed(settings.seed * 1_000_003 + step)
    state.model.train()
    for group in state.optimizer.param_groups:
        group["lr"] = settings.learning_rate * schedule(step, total, settings.warmup)
    logits, targets = answer_logits(state, batch, hidden)
    loss = torch.nn.functional.cross_entropy(logits, targets)
    if targets.numel() == 0 or not math.isfinite(loss.item()):
        raise TrainingError(
            f"Loss is {loss.item()} at step {step + 1}: stopped, nothing is registered. Lower the learning rate."
        )
    state.optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(state.trained.values(), 1.0)
    state.optimizer.step()
    return float(loss.item())


def schedule(step: int, total: int, warmup: float) -> float:
    """Factor on the learning rate: a linear rise over the warm-up share, then a linear fall to 0."""
    rise = max(1, round(total * warmup))
    return min((step + 1) / rise, (total - step) / max(1, total - rise))


def _report(run: tracking.Run, state: State, step: int, total: int, tokens: int, started: float) -> None:
    if (step + 1) % LOG_EVERY and step + 1 != total:
        return
    seconds = time.monotonic() - started
    recent = sum(state.losses[-LOG_EVERY:]) / len(state.losses[-LOG_EVERY:])
    left = (total - step - 1) * seconds / max(1, len(state.losses) - (len(state.losses) - step - 1))
    log.info("step %d/%d loss %.4f %.0f tokens/s, %.0f s left", step + 1, total, recent, tokens / seconds, left)
    run.metrics({"loss": recent, "tokens_per_second": tokens / seconds}, step=step + 1)


def evaluate_loss(state: State, examples: list[Example], hidden: list[torch.Tensor] | None, batch_size: int) -> float:
    """Mean loss per answer token over examples (nats)."""
    import torch

    state.model.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for at in range(0, len(examples), batch_size):
            batch = list(range(at, min(at + batch_size, len(examples))))
            logits, targets = answer_logits(state, [examples[i] for i in batch], _pick(hidden, batch))
            total += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
            count += targets.numel()
    return total / max(1, count)


def _save(job: Job, state: State, out: Path) -> None:
    state.model.save_pretrained(out, safe_serialization=True)
    (out / "README.md").unlink(missing_ok=True)  # peft's empty model card; `release.package` writes a true one
    losses = {
        "losses": [round(loss, 6) for loss in state.losses],
        "control": job.control,
        "smoke": job.max_steps is not None,
    }
    (out / "training.json").write_bytes(storage.canonical(losses))
