"""Estimate of a run before it starts: memory and disk from the model's settings, time from a probe.

The probe makes steps on three of the run's batches, then restores weights and optimizer.
"""

from __future__ import annotations

import logging
import time
from dataclasses import asdict, dataclass
from typing import Any

from llmops_tasks.config import Finetune
from llmops_tasks.config.training import Budget
from llmops_tasks.errors import BudgetError
from llmops_tasks.models import frozen_layers, hardware, layers
from llmops_tasks.training import checkpoints, loop, processes
from llmops_tasks.training.batches import assemble
from llmops_tasks.training.trainable import State
from llmops_tasks.training.training_plan import TrainingPlan

log = logging.getLogger(__name__)
PROBES = 3  # batches
MIB = 2**20
PROCESS_MIB = 900  # Python with torch, transformers, peft and MLflow, before any weight
# Numbers kept for the backward pass, per token, layer and unit of width; the inner width counts 5 times.
KEPT_PER_LAYER = 16


@dataclass(frozen=True)
class Estimate:
    """What one member of a run will need."""

    steps: int
    tokens: int
    seconds: float
    memory_mib: float
    disk_mib: float
    price: float
    frozen_seconds: float = 0.0  # of `seconds`: what only the first member of an ensemble takes

    def __str__(self) -> str:
        time = f"{self.seconds:.0f} s, " * (self.seconds > 0)
        return f"{self.steps} steps, {time}{self.memory_mib:.0f} MiB of memory, {self.disk_mib:.0f} MiB of disk"

    def figures(self, prefix: str) -> dict[str, float]:
        """As metrics."""
        return {f"{prefix}.{name}": float(value) for name, value in asdict(self).items()}


def admit(state: State, settings: Finetune, plan: TrainingPlan, usecase: str) -> Estimate:
    """`estimate` for a run that may be begun: memory and disk are looked at before the first step of the probe.

    Raises:
        BudgetError: if the estimate exceeds `finetune.budget`.
    """
    needed = needs(state, settings, plan, 0.0, _once(state, plan, usecase))
    check(needed, settings.budget, settings.members)
    check_device(needed, weights(state))
    found = estimate(state, settings, plan, usecase)
    check(found, settings.budget, settings.members)
    return found


def check_device(found: Estimate, loaded_mib: float) -> None:
    """Refuse what the GPU has no memory for, before the first step would find out.

    Args:
        found: with all memory of the run.
        loaded_mib: weights that lie there already.

    Raises:
        BudgetError: with both numbers.
    """
    free = hardware.free_mib()
    needed = found.memory_mib - PROCESS_MIB - loaded_mib
    if free is not None and needed > free:
        raise BudgetError(
            f"The run would need {needed / 1024:.1f} GiB beside the weights, the GPU has {free / 1024:.1f} GiB free. Nothing was "
            "started. Lower batch_size or max_length, raise accumulate, set recompute, or use the method 'qlora'."
        )


def weights(state: State) -> float:
    """MiB that all weights take as they are loaded."""
    total = sum(value.numel() * value.element_size() for value in state.model.parameters()) / MIB
    return float(total / (processes.count() if state.sharded else 1))  # each process holds its share


def estimate(state: State, settings: Finetune, plan: TrainingPlan, usecase: str) -> Estimate:
    """Measure steps on three batches and add up.

    Args:
        state: as prepared; it is the same afterwards.
        settings: of the run.
        plan: the run's records and batches.
        usecase: whose store may hold the frozen layers' output already.
    """
    once = _once(state, plan, usecase)
    frozen_speed, step_speed = _probe(state, settings, plan)
    frozen_seconds = once / frozen_speed
    return needs(state, settings, plan, frozen_seconds + _tokens(plan) / step_speed, once, frozen_seconds)


def needs(
    state: State, settings: Finetune, plan: TrainingPlan, seconds: float, once: int = 0, frozen_seconds: float = 0.0
) -> Estimate:
    """What a run of so many seconds needs, `frozen_seconds` of them for the frozen layers' pass over `once` tokens."""
    found = Estimate(
        steps=len(plan.batches),
        tokens=_tokens(plan),
        seconds=round(seconds, 3),
        memory_mib=round(_memory(state, settings, plan)),
        disk_mib=round(_disk(state, settings, once)),
        price=round(seconds / 3600 * settings.budget.price_per_hour * settings.processes, 4),
        frozen_seconds=round(frozen_seconds, 3),
    )
    log.info("expected: %s", found)
    return found


def _tokens(plan: TrainingPlan) -> int:
    return sum(len(plan.examples[index].tokens) for batch in plan.batches for index in batch)


def check(found: Estimate, budget: Budget, members: int = 1) -> None:
    """Refuse what would cost more than it may: all members of an ensemble together, of which one runs the frozen layers.

    Raises:
        BudgetError: with the numbers.
    """
    seconds = found.frozen_seconds + members * (found.seconds - found.frozen_seconds)
    asked = {
        "minutes": (seconds / 60, budget.minutes),
        "memory_gib": (found.memory_mib / 1024, budget.memory_gib),
        "disk_gib": (members * found.disk_mib / 1024, budget.disk_gib),
        "price": (found.price * seconds / max(found.seconds, 1e-9), budget.price),
    }
    over = [
        f"{name} {need:.3g} of {limit:g}" for name, (need, limit) in asked.items() if limit is not None and need > limit
    ]
    if over:
        raise BudgetError(
            f"The run would exceed finetune.budget: {', '.join(over)}. Nothing was started. "
            "Train less (epochs, top_layers, rows), or raise the budget."
        )


def cost(records: int, spent: dict[str, float]) -> dict[str, float]:
    """What the run took: this process's memory peak, and processor time of all processes per 1,000 records.

    Args:
        records: taken, repetitions included.
        spent: {seconds, cpu_seconds} of this process, earlier attempts included; a GPU is taken for all the seconds.
    """
    seconds, cpu = spent["seconds"], processes.total(spent["cpu_seconds"])
    found = {
        "actual.memory_mib": round(hardware.peak_mib()),
        "actual.seconds": round(seconds, 3),
        "cpu_seconds_per_1000_records": round(1000 * cpu / records, 1),
    }
    if hardware.device_type() != "cpu":
        found["gpu_seconds_per_1000_records"] = round(1000 * seconds * processes.count() / records, 1)
    return found


# ---------------------------------------------------------------- the probe


def _probe(state: State, settings: Finetune, plan: TrainingPlan) -> tuple[float, float]:
    """Tokens per second of the frozen layers and of a step; every batch comes twice, as kernels are made at the first."""
    chosen, before = _typical(plan), {name: value.detach().clone() for name, value in state.trained.items()}
    frozen_seconds = step_seconds = 0.0
    for number, batch in enumerate(batch for batch in chosen for _ in range(2)):
        examples = [plan.examples[index] for index in batch]
        started = time.perf_counter()
        hidden = _hidden(state, examples)
        between = time.perf_counter()
        loop.step(state, settings, number, max(2, len(plan.batches)), examples, hidden)
        if number % 2:
            frozen_seconds += between - started
            step_seconds += time.perf_counter() - between
    _put_back(state, before)
    tokens = sum(len(plan.examples[index].tokens) for batch in chosen for index in batch)
    return tokens / max(frozen_seconds, 1e-9), tokens / step_seconds


def _typical(plan: TrainingPlan) -> list[list[int]]:
    """Batches from the first, second and third part of all, in order of size: short, middling and long ones."""
    size = {at: sum(len(plan.examples[index].tokens) for index in batch) for at, batch in enumerate(plan.batches)}
    order = sorted(size, key=size.__getitem__)
    return [plan.batches[order[(2 * part + 1) * len(order) // (2 * PROBES)]] for part in range(PROBES)]


def _hidden(state: State, examples: list[Any]) -> list[Any] | None:
    import torch

    if state.cut == 0 or not state.cached:
        return None
    tokens = assemble(examples, None, device=hardware.device()).tokens
    with torch.inference_mode():
        decoder = state.base.model
        states = layers.run_layers(decoder, decoder.embed_tokens(tokens), decoder.layers[: state.cut]).cpu()
    return [row[: len(example.tokens)].clone() for row, example in zip(states, examples, strict=True)]


def _put_back(state: State, before: dict[str, Any]) -> None:
    import torch

    with torch.no_grad():
        for name, value in state.trained.items():
            value.copy_(before[name])
            value.grad = None
    state.optimizer.state.clear()


# ---------------------------------------------------------------- memory and disk


def _memory(state: State, settings: Finetune, plan: TrainingPlan) -> Any:
    """MiB at the peak: weights, what AdamW keeps, and what the largest part of a batch keeps for its backward pass."""
    model = state.base.config.get_text_config()
    held = weights(state) * MIB
    held *= 1.5 if state.bf16 and settings.method == "full" else 1  # copies in bf16 of those that are trained in fp32
    trained = _copies(state, settings)
    rows = max(1, settings.batch_size // settings.accumulate // settings.processes)
    longest = max(len(example.tokens) for example in plan.examples)
    kept_layers = 1 if settings.recompute else model.num_hidden_layers - state.cut
    kept = rows * longest * kept_layers * (KEPT_PER_LAYER * model.hidden_size + 5 * _inner_width(model))
    kept *= 2 if state.bf16 else 4
    answers = max(sum(label >= 0 for label in example.labels) for example in plan.examples)
    logits = 4 * rows * answers * model.vocab_size * 4
    return PROCESS_MIB + (held + trained + kept + logits) / MIB


def _copies(state: State, settings: Finetune) -> float:
    """Bytes beside the trained weights: gradients, two moments, and the probe's copy or the best weights so far; on a
    CPU also what is copied of all but the gradients while a checkpoint is written."""
    size, checkpoint = _trained(state), _checkpoint(state, settings) if hardware.device_type() == "cpu" else 0
    return 4 * size / (processes.count() if state.sharded else 1) + checkpoint


def _trained(state: State) -> int:
    """Bytes of the trained weights, in fp32."""
    return sum(value.numel() for value in state.trained.values()) * 4


def _checkpoint(state: State, settings: Finetune) -> int:
    """Bytes of a checkpoint: trained weights, AdamW's two moments, and the best weights so far if they are kept."""
    return _trained(state) * (3 + (settings.evaluate_every is not None))


def _inner_width(model: Any) -> int:
    """Of a layer's feed-forward part, all experts that a token meets together; four times the outer where none is named."""
    named = (getattr(model, name, None) for name in ("moe_intermediate_size", "intermediate_size", "ffn_dim"))
    width = next((size for size in named if size), 4 * model.hidden_size)
    return int(width) * (getattr(model, "num_experts_per_tok", None) or 1)


def _disk(state: State, settings: Finetune, once: int) -> Any:
    """MiB that are written: the frozen layers' output, the checkpoints that are kept and one being written, the result."""
    written = _checkpoint(state, settings) * (checkpoints.KEEP + 1) + _trained(state)
    return frozen_layers.gib(state.base, once) * 1024 + written / MIB


def _once(state: State, plan: TrainingPlan, usecase: str) -> int:
    """Tokens that the frozen layers must still be run over."""
    if state.cut == 0 or not state.cached:
        return 0
    sequences = [example.tokens for example in plan.examples]
    return frozen_layers.missing(model=state.base, shared=frozen_layers.Shared(usecase, state.cut), sequences=sequences)
