"""trl's `DPOTrainer`, with our order of records, and callbacks at every step.

It gets tokens, not texts: it would put a token of its own after every answer, cut long prompts at the wrong end, and
quote them in warnings. It writes no checkpoints: those of `checkpoints` are verified before they are resumed from.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llmops_tasks.config import Finetune
from llmops_tasks.config.training import Preferences
from llmops_tasks.errors import TrainingError
from llmops_tasks.models import hardware
from llmops_tasks.store import artifacts
from llmops_tasks.training import loop
from llmops_tasks.training.examples import Pair
from llmops_tasks.training.optimizer import schedule
from llmops_tasks.training.progress import Progress
from llmops_tasks.training.trainable import State

PROBES = 3  # steps


def batch_size(settings: Finetune) -> int:
    """Pairs a step: `batch_size`, rounded up to equal parts."""
    return -(-settings.batch_size // settings.accumulate) * settings.accumulate


@dataclass(frozen=True)
class PairPlan:
    """Pairs in their batches, and the run's progress."""

    batches: list[list[Pair]]
    progress: Progress
    probed: Callable[[float], None]  # gets the seconds that all steps will take, after the first few; may raise

    def tokens(self) -> list[int]:
        """Of every step, both answers with their prompts."""
        return [sum(len(record.tokens) for pair in batch for record in pair.examples()) for batch in self.batches]


def run(state: State, settings: Finetune, wanted: Preferences, pair_plan: PairPlan, tokenizer: Any) -> int:
    """Make the steps that are left.

    Returns:
        The number of steps that had been made before.

    Raises:
        TrainingError: if loss or gradient are out of bounds, or memory runs out.
    """
    from torch.optim.lr_scheduler import LambdaLR

    with artifacts.scratch() as folder:
        trainer = _trainer(state, _arguments(state, settings, wanted, str(folder)), pair_plan.batches, tokenizer)
        done = pair_plan.progress.resume(state)  # only now: the trainer compares with the model as it was given
        total, pairs = len(pair_plan.batches), trainer.train_dataset
        trainer.train_dataset = pairs.select(range(done * batch_size(settings), len(pairs)))
        trainer.lr_scheduler = LambdaLR(state.optimizer, lambda made: schedule(done + made, total, settings))
        trainer.add_callback(_watch(state, settings, pair_plan, done))
        if done < total:
            _train(trainer, settings)
    return done


def _train(trainer: Any, settings: Finetune) -> None:
    try:
        trainer.train()
    except (RuntimeError, MemoryError) as exc:
        if not loop.is_out_of_memory(exc):
            raise
        raise TrainingError(
            f"Memory ran out with {settings.batch_size} pairs a step in {settings.accumulate} part(s). "
            "Lower batch_size or max_length, raise accumulate, or set recompute."
        ) from exc


def _arguments(state: State, settings: Finetune, wanted: Preferences, folder: str) -> Any:
    from trl.trainer.dpo_config import DPOConfig

    arguments = DPOConfig(
        output_dir=folder,
        beta=wanted.beta,
        num_train_epochs=1,  # the batches of all epochs come as one
        per_device_train_batch_size=batch_size(settings) // settings.accumulate,
        gradient_accumulation_steps=settings.accumulate,
        activation_checkpointing=settings.recompute,
        train_sampling_strategy="sequential",
        max_length=None,
        bf16=state.bf16,
        max_grad_norm=settings.clip,
        use_cpu=hardware.device_type() == "cpu",
        seed=settings.seed,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would put the mean of the losses in place of one that is not a number
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    arguments._n_gpu = min(1, arguments.n_gpu)  # else it would be spread over all devices that can be seen
    return arguments


def _trainer(state: State, arguments: Any, batches: list[list[Pair]], tokenizer: Any) -> Any:
    from datasets import Dataset
    from transformers.trainer_callback import PrinterCallback
    from trl.trainer.dpo_trainer import DPOTrainer

    class Trainer(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
            return dataset  # tokens already

    logging.getLogger("trl").setLevel(logging.ERROR)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    rows = [
        {"prompt_ids": pair.prompt, "chosen_ids": pair.chosen, "rejected_ids": pair.rejected}
        for batch in batches
        for pair in batch
    ]
    trainer = Trainer(
        model=state.model,
        args=arguments,
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
        optimizers=(state.optimizer, None),
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _watch(state: State, settings: Finetune, pair_plan: PairPlan, done: int) -> Any:
    """Called by the trainer after every step: checks the loss, reports, writes checkpoints."""
    from transformers import TrainerCallback

    tokens, times = pair_plan.tokens(), [time.monotonic()]  # of the beginning, and when each step was made
    total = len(tokens)

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_log(self, args: Any, trainer: Any, control: Any, logs: Any = None, **_: Any) -> None:
            if "loss" not in logs:
                return
            made = done + trainer.global_step
            loop.stop_if_ill(float(logs["loss"]), float(logs["grad_norm"]), made - 1, settings)
            state.losses.append(float(logs["loss"]))
            times.append(time.monotonic())
            seconds = times[-1] - times[0]
            if trainer.global_step == min(PROBES, total - done):
                later = tokens[min(done + 1, made - 1) : made]  # the first step is slower than all others
                speed = sum(later) / (times[-1] - times[-1 - len(later)])
                pair_plan.probed(seconds + (sum(tokens[:done]) + sum(tokens[made:])) / speed)
            left = (total - made) * seconds / trainer.global_step
            pair_plan.progress.after_step(state, made, sum(tokens[done:made]) / seconds, left)

    return Watch()
