"""Training steps: gradient accumulation, stop conditions, bit-exact resume.

Loss falls on the answers only, and the vocabulary head is computed only there. Dropout masks and the order of
records follow from seed and step, so a resumed run continues bit for bit on a CPU.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmops_tasks.config import Finetune
from llmops_tasks.errors import TrainingError
from llmops_tasks.models import hardware, layers
from llmops_tasks.training import processes, sharding
from llmops_tasks.training.batches import assemble
from llmops_tasks.training.examples import IGNORED, Example
from llmops_tasks.training.optimizer import schedule
from llmops_tasks.training.trainable import State

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
CHUNK = 2**26  # logits held at once: 256 MiB in fp32


@dataclass(frozen=True)
class TrainingSet:
    """Records, their cached activations, and the batches in which they are used."""

    examples: list[Example]
    hidden: list[torch.Tensor] | None
    batches: list[list[int]]  # one per step


def run(
    state: State,
    settings: Finetune,
    training_set: TrainingSet,
    done: int,
    after_step: Callable[[int, float, float], bool | None],
) -> None:
    """Make the steps from `done` on, until all are made or `after_step` says so; it gets the number of steps made, tokens/s
    and seconds left."""
    started, tokens, total = time.monotonic(), 0, len(training_set.batches)
    for number in range(done, total):
        batch = training_set.batches[number]
        examples = [training_set.examples[index] for index in batch]
        state.losses.append(step(state, settings, number, total, examples, pick(training_set.hidden, batch)))
        tokens += sum(len(example.tokens) for example in examples)
        seconds = time.monotonic() - started
        if after_step(number + 1, tokens / seconds, (total - number - 1) * seconds / (number + 1 - done)):
            break


def pick(hidden: list[torch.Tensor] | None, batch: list[int]) -> list[torch.Tensor] | None:
    """The states of some records."""
    return None if hidden is None else [hidden[index] for index in batch]


def step(
    state: State,
    settings: Finetune,
    number: int,
    total: int,
    examples: list[Example],
    hidden: list[torch.Tensor] | None,
) -> float:
    """One optimizer step on one batch.

    Returns:
        The batch's mean loss per answer token (nats).

    Raises:
        TrainingError: if there is nothing to learn, or loss or gradient are out of bounds; no weight has changed then.
    """
    import torch

    for group in state.optimizer.param_groups:
        group["lr"] = settings.learning_rate * schedule(number, total, settings)
    state.model.train()
    loss = _gradients_or_less(state, settings, number, examples, hidden)
    length = float(sharding.whole(torch.nn.utils.clip_grad_norm_(state.trained.values(), settings.clip)))
    stop_if_ill(loss, length, number, settings)
    state.optimizer.step()
    return loss


def stop_if_ill(loss: float, length: float, number: int, settings: Finetune) -> None:
    """Raise TrainingError where loss or gradient's length are out of bounds at a step (counted from 0)."""
    found = f"Loss is {loss:.4g} and the gradient's length {length:.4g} at step {number + 1}"
    if not math.isfinite(loss) or not math.isfinite(length):
        raise TrainingError(f"{found}: training stopped, nothing is registered. Lower the learning rate.")
    if length > settings.max_gradient:
        raise TrainingError(
            f"{found}, at most {settings.max_gradient:g} is allowed: training stopped, nothing is registered. "
            "Lower the learning rate, or raise max_gradient."
        )


def _gradients_or_less(
    state: State, settings: Finetune, number: int, examples: list[Example], hidden: list[torch.Tensor] | None
) -> float:
    """The gradients of a batch; where memory runs out, once in parts half as large, from then on."""
    try:
        return _gradients(state, settings, number, examples, hidden)
    except (RuntimeError, MemoryError) as exc:
        if not is_out_of_memory(exc):
            raise
    smaller = 2 * state.parts
    if state.sharded or state.parts > settings.accumulate or smaller > settings.batch_size:
        raise TrainingError(
            f"Memory ran out at step {number + 1}, a batch of {settings.batch_size} in {state.parts} parts. "
            "Lower batch_size or max_length, raise accumulate, or set recompute."
        )
    log.warning("memory ran out at step %d: batches are computed in %d parts from here on", number + 1, smaller)
    state.parts = smaller
    return _gradients_or_less(state, settings, number, examples, hidden)


def is_out_of_memory(exc: Exception) -> bool:
    """Whether torch or Python says so."""
    import torch

    told = ("can't allocate memory", "not enough memory")  # of torch's allocator on CPUs, which has no class of its own
    return isinstance(exc, MemoryError | torch.OutOfMemoryError) or any(words in str(exc) for words in told)


def _gradients(
    state: State, settings: Finetune, number: int, examples: list[Example], hidden: list[torch.Tensor] | None
) -> float:
    import torch

    targets = sum(label != IGNORED for example in examples for label in example.labels)
    if not targets:
        raise TrainingError(f"No position carries loss at step {number + 1}: stopped. Check the records' answers.")
    torch.manual_seed(settings.seed * 1_000_003 + number + processes.rank() * 7_919)
    state.optimizer.zero_grad()
    total = 0.0
    for part in _my_parts(len(examples), state):
        loss = _loss(state, settings, [examples[i] for i in part.records], pick(hidden, part.records)) / targets
        (loss * part.counts).backward()
        total += float(loss.detach()) * part.counts
    return processes.total(total) if state.sharded else processes.summed(total, state.trained.values())


@dataclass(frozen=True)
class _Part:
    """Records that are computed at once, and whether they count: 1 or 0."""

    records: list[int]
    counts: int


def _my_parts(count: int, state: State) -> list[_Part]:
    """This process's share of a batch. Over split weights all processes must make equally many passes: one that has
    no more records repeats one that does not count."""
    mine = list(range(processes.rank(), count, processes.count()))
    most = math.ceil(count / processes.count())
    size = math.ceil(most / state.parts) or 1
    found = [_Part(mine[at : at + size], 1) for at in range(0, len(mine), size)]
    passes = math.ceil(most / size) if state.sharded else len(found)
    return found + [_Part([0], 0)] * (passes - len(found))


def _loss(state: State, settings: Finetune, examples: list[Example], hidden: list[torch.Tensor] | None) -> Any:
    """The sum over answer tokens. Of many answers, the logits are made and dropped chunk by chunk, forward and backward:
    those of 4,096 tokens over a vocabulary of 128,256 would take 2 GiB. Source: Wijmans et al. 2024, "Cut Your Losses in
    Large-Vocabulary Language Models", of which this is the plain form."""
    import torch
    from torch.utils.checkpoint import checkpoint

    answers = answer_states(state, settings, examples, hidden)
    chunk = max(1, CHUNK // state.base.config.get_text_config().vocab_size)
    if answers.final or len(answers.targets) <= chunk:
        return _cross_entropy(state, answers, answers.states, answers.targets)
    parts = zip(torch.split(answers.states, chunk), torch.split(answers.targets, chunk), strict=True)
    return torch.stack([checkpoint(_cross_entropy, state, answers, *part, use_reentrant=False) for part in parts]).sum()


def _cross_entropy(state: State, answers: Answers, states: torch.Tensor, targets: torch.Tensor) -> Any:
    import torch

    return torch.nn.functional.cross_entropy(answers.logits(state, states).float(), targets, reduction="sum")


@dataclass(frozen=True)
class Answers:
    """The positions that carry loss."""

    states: torch.Tensor  # (answers, width), or the logits (answers, vocabulary)
    targets: torch.Tensor  # (answers,)
    final: bool  # these are logits: the model was run whole

    def logits(self, state: State, states: torch.Tensor) -> torch.Tensor:
        """Logits (some answers, vocabulary) of some of the states."""
        import torch

        if self.final:
            return states
        with torch.autocast(hardware.device_type(), torch.bfloat16, enabled=state.bf16):
            return state.base.lm_head(state.base.model.norm(states))  # type: ignore[no-any-return]


def answer_states(
    state: State, settings: Finetune, examples: list[Example], hidden: list[torch.Tensor] | None
) -> Answers:
    """What the last layer gives at the positions that carry loss.

    Without the frozen layers' output in `hidden` the records go through all layers. A model that is run whole is given one
    record a row: what packs records together is a mask that only single layers are known to heed.
    """
    import torch

    model, capacity = state.base, settings.max_length if settings.packing and state.layerwise else None
    batch = assemble(examples, hidden, capacity, hardware.device(), masked=not state.varlen)
    counted = batch.labels != IGNORED
    with torch.autocast(hardware.device_type(), torch.bfloat16, enabled=state.bf16):
        if not state.layerwise:
            return Answers(layers.logits_at(model, batch.tokens, counted), batch.labels[counted], True)
        states = model.model.embed_tokens(batch.tokens) if batch.states is None else batch.states
        above = model.model.layers[0 if batch.states is None else state.cut :]
        layout = layers.Layout(batch.positions, batch.mask, batch.bounds, settings.recompute)
        states = layers.run_layers_at(model.model, states, above, counted, layout)
        return Answers(states, batch.labels[counted], False)


def mean_loss(state: State, settings: Finetune, examples: list[Example], hidden: list[torch.Tensor] | None) -> float:
    """Mean loss per answer token over records (nats)."""
    import torch

    state.model.eval()
    total, count = 0.0, 0
    with torch.inference_mode():
        for part in _parts(len(examples), settings.batch_size):
            chosen = [examples[index] for index in part]
            total += float(_loss(state, settings, chosen, pick(hidden, part)))
            count += sum(label != IGNORED for example in chosen for label in example.labels)
    return total / max(1, count)


def record_losses(state: State, settings: Finetune, examples: list[Example]) -> list[float]:
    """The loss of every record, summed over its answer tokens (nats)."""
    import torch

    state.model.eval()
    alone, found = settings.model_copy(update={"packing": False}), []
    with torch.inference_mode():
        for part in _parts(len(examples), settings.batch_size):
            chosen = [examples[index] for index in part]
            answers = answer_states(state, alone, chosen, None)
            logits = answers.logits(state, answers.states).float()
            losses = torch.nn.functional.cross_entropy(logits, answers.targets, reduction="none")
            lengths = [sum(label != IGNORED for label in example.labels) for example in chosen]
            found += [float(own.sum()) for own in torch.split(losses, lengths)]
    return found


def _parts(count: int, size: int) -> list[list[int]]:
    return [list(range(at, min(at + size, count))) for at in range(0, count, size)]


def threads() -> None:
    """Give torch what OMP_NUM_THREADS says, by default every CPU."""
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
