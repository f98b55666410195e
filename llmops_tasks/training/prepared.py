"""A run ready for its first step: model, training records, held-out records."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import ValidationError

from llmops_tasks.config import Finetune, UseCase
from llmops_tasks.contracts import CONTROLS, ArtifactRef
from llmops_tasks.errors import DataError, InputError
from llmops_tasks.models import frozen_layers, hardware
from llmops_tasks.prompts.interface import of_usecase
from llmops_tasks.store import artifacts
from llmops_tasks.training import loop, processes, trainable, training_plan
from llmops_tasks.training.examples import Example, check_prompt, encode
from llmops_tasks.training.loop import TrainingSet
from llmops_tasks.training.trainable import State
from llmops_tasks.training.training_plan import Sources, TrainingPlan

log = logging.getLogger(__name__)
_NO_MATTER = {
    "budget",
    "resources",
    "checkpoint_every",
    "checkpoint_minutes",
    "activations_gib",
}  # settings that the result does not follow from


def check_options(control: str, max_steps: int | None) -> None:
    """Refuse what the form of a run does not allow.

    Raises:
        InputError: saying what is allowed.
    """
    if control not in CONTROLS:
        raise InputError(f"control='{control:.40}' is unknown. Allowed: {list(CONTROLS)}.")
    if max_steps is not None and max_steps < 1:
        raise InputError(f"max_steps={max_steps} trains nothing. Allowed: 1 or more, or omit it for all steps.")


def digested(settings: Finetune) -> dict[str, Any]:
    """The settings that a run's result follows from; `auto` as the hardware decides it."""
    number_format = hardware.training_format(settings.precision)
    return settings.model_dump(mode="json", exclude=_NO_MATTER) | {"precision": number_format}


def params(settings: Finetune) -> dict[str, Any]:
    """The settings as MLflow shows them."""
    return {f"finetune.{name}": value for name, value in settings.model_dump(mode="json").items()}


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
class Prepared:
    """Nothing is computed yet but what stands here."""

    usecase: str
    settings: Finetune
    state: State
    plan: TrainingPlan
    held_out: list[Example]

    def fits(self) -> str:
        """What a checkpoint must be of, to be gone on from."""
        return trainable.fits(self.state, self.plan.digest())

    def training_set(self) -> TrainingSet:
        """Records, activations and batches; runs the frozen layers over records that are not cached yet."""
        return TrainingSet(self.plan.examples, self._hidden(self.plan.examples), self.plan.batches)

    def held_out_loss(self) -> float:
        """Mean loss per answer token (nats)."""
        return loop.mean_loss(self.state, self.settings, self.held_out, self._hidden(self.held_out))

    def _hidden(self, records: list[Example]) -> Any:
        """What enters the trained layers; None without frozen layers."""
        if self.state.cut == 0 or not self.state.cached:
            return None
        compute = partial(
            frozen_layers.activations,
            model=self.state.base,
            shared=frozen_layers.Shared(self.usecase, self.state.cut),
            sequences=[example.tokens for example in records],
            after_shard=processes.sign_of_life,
        )
        return processes.first_then_others(compute)


def prepare_run(
    case: UseCase,
    usecase: str,
    sources: Sources,
    start: ArtifactRef,
    control: str = "none",
    max_steps: int | None = None,
) -> Prepared:
    """Load the model, encode the records, put in what is trained.

    Raises:
        ModelError: if two labels are the same to the model, before any cost arises.
    """
    import torch

    settings = case.finetune
    loop.threads()
    torch.manual_seed(settings.seed)
    model, tokenizer = trainable.load(artifacts.fetch(start), settings)
    check_prompt(of_usecase(case), tokenizer)
    plan = training_plan.build_plan(case, tokenizer, sources, control)
    plan = TrainingPlan(plan.examples, plan.batches[:max_steps], plan.counts)
    held_out = encode(of_usecase(case), tokenizer, training_plan.rows(sources.own, "validation"), settings.turns)
    if not held_out:
        raise DataError("No record is held out for validation, so there would be no held-out loss. Add records.")
    lengths = [len(example.tokens) for example in [*plan.examples, *held_out]]
    state = trainable.prepare(model, settings, max(lengths))
    state.cached = _worth_keeping(state, settings, sum(lengths))
    return Prepared(usecase, settings, state, plan, held_out)


def _worth_keeping(state: State, settings: Finetune, tokens: int) -> bool:
    """Whether the frozen layers' output of so many tokens fits on the disk that it may take."""
    size = frozen_layers.gib(state.base, tokens)
    if state.cut and size > settings.activations_gib:
        log.warning(
            "the frozen layers' output would take %.1f GiB, finetune.activations_gib allows %g: they run at every step",
            size, settings.activations_gib,
        )  # fmt: skip
    return size <= settings.activations_gib
