"""The training sections of a use case: method, strategy, budget, resources, search.

Strategies can be combined; without any, a model is trained on the use case's records from its base model.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from llmops_tasks.config.data import Section


class Domain(Section):
    """Continued pre-training on the texts of datasets, without their labels, before the task."""

    usecases: list[str] = Field(
        min_length=1,
        description="Use cases whose newest datasets' texts are read (train split, de-identified); 'own' is this use case.",
    )
    epochs: int = Field(default=1, gt=0)
    block: int = Field(default=128, gt=8, description="Block length in tokens; longer texts are cut.")


class Continual(Section):
    """Continue from the champion with records it was not trained on, replaying some of the others."""

    replay: float = Field(ge=0, lt=1, description="Share of replayed records among those trained on.")


class Preferences(Section):
    """Train on corrected predictions (DPO) instead of records."""

    beta: float = Field(default=0.1, gt=0, description="DPO's beta: larger values stay closer to the starting point.")
    learning_rate: float = Field(default=5e-5, gt=0, lt=1)
    epochs: int = Field(default=1, gt=0)
    min_pairs: int = Field(default=20, ge=2, description="Fewer corrections start no training.")


class Budget(Section):
    """Limits of a run. A run whose estimate exceeds one is not started. Empty: no limit."""

    minutes: float | None = Field(default=None, gt=0)
    memory_gib: float | None = Field(default=None, gt=0)
    disk_gib: float | None = Field(default=None, gt=0)
    price: float | None = Field(default=None, gt=0, description="In the currency of price_per_hour.")
    price_per_hour: float = Field(default=0.0, ge=0, description="Price of the machine per hour.")


class Resources(Section):
    """Where Airflow runs the tasks that load a model."""

    queue: str | None = Field(default=None, pattern="^[A-Za-z0-9_-]{1,60}$", description="Celery queue.")
    pod: dict[str, Any] | None = Field(
        default=None, description="Kubernetes pod, merged over the executor's: e.g. {spec: {nodeSelector: ...}}."
    )


class Finetune(Section):
    """How the model is trained."""

    method: Literal["lora", "qlora", "full"] = Field(
        default="lora", description="qlora: over a base in 4 bits (NF4). full: all weights."
    )
    rank: int = Field(default=16, gt=0)
    alpha: int = Field(default=32, gt=0, description="Usually twice the rank.")
    dropout: float = Field(default=0.0, ge=0, lt=1)
    rslora: bool = Field(default=False, description="Scale by alpha / sqrt(rank) in place of alpha / rank.")
    dora: bool = Field(default=False, description="Train directions and lengths of weights apart (DoRA); slower.")
    modules_to_save: list[str] = Field(
        default=[], description="Modules trained whole beside the LoRA matrices, by the last part of their names."
    )
    top_layers: int = Field(
        default=12,
        gt=0,
        description="Number of layers trained, from the top. The frozen layers below run once per dataset.",
    )
    activations_gib: float = Field(
        default=20.0,
        ge=0,
        description="Disk for the frozen layers' output of one dataset; what would need more is computed at every step.",
    )
    target_modules: list[str] | Literal["all-linear"] = Field(
        default=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        min_length=1,
        description="Linear layers that get LoRA matrices, by the last part of their names, or 'all-linear'.",
    )
    epochs: int = Field(default=4, gt=0)
    batch_size: int = Field(default=16, gt=0)
    accumulate: int = Field(
        default=1, gt=0, description="Gradient accumulation: parts a batch is computed in; less memory, the same step."
    )
    recompute: bool = Field(default=False, description="Gradient checkpointing: less memory, about a third more time.")
    packing: bool = Field(default=False, description="Short records share rows of max_length tokens.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        default="auto",
        description="Of frozen weights and products. auto: bf16 on a GPU that computes in it, else fp32.",
    )
    learning_rate: float = Field(default=5e-4, gt=0, lt=1)
    warmup: float = Field(default=0.05, ge=0, lt=1, description="Warm-up as a share of all steps.")
    schedule: Literal["linear", "cosine", "constant"] = Field(
        default="linear", description="The learning rate after the warm-up: falls to 0, or stays."
    )
    weight_decay: float = Field(default=0.0, ge=0, lt=1)
    clip: float = Field(default=1.0, gt=0, description="Gradient norm above which the gradient is scaled down to it.")
    max_gradient: float = Field(default=1000.0, gt=1, description="Gradient norm above which the run stops.")
    max_length: int = Field(default=256, gt=8, description="In tokens; longer prompts are truncated from the left.")
    turns: Literal["last", "all"] = Field(
        default="last", description="Conversations: the assistant's turns that are trained on."
    )
    checkpoint_every: int = Field(default=20, gt=0, description="Steps between checkpoints.")
    checkpoint_minutes: float | None = Field(
        default=None, gt=0, description="Also a checkpoint after so many minutes, where steps are slow."
    )
    evaluate_every: int | None = Field(
        default=None, gt=0, description="Steps between evaluations on the validation split; the best weights are kept."
    )
    patience: int | None = Field(
        default=None, gt=0, description="Training stops after so many evaluations without a smaller held-out loss."
    )
    seed: int = 7
    start: str = Field(
        default="base",
        pattern="^(base|champion|champion:[a-z][a-z0-9_]{1,40})$",
        description="Weights to start from: base, champion, or champion:<another use case>. Without a champion: base.",
    )
    domain: Domain | None = None
    mix: dict[str, float] = Field(
        default={}, description="Multi-task: records of other use cases per record of its own, e.g. {another: 0.5}."
    )
    continual: Continual | None = None
    preferences: Preferences | None = None
    members: int = Field(default=1, ge=1, le=16, description="Ensemble: number of seeds whose scores are averaged.")
    processes: int = Field(
        default=1, ge=1, description="Number of processes (devices); each computes its part of every batch."
    )
    sharded: bool = Field(
        default=False,
        description="Split weights, gradients and optimizer states over the processes (FSDP2); else each has a copy.",
    )
    budget: Budget = Budget()
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _fitting(self) -> Finetune:
        if self.method == "full" and (self.rslora or self.dora or self.modules_to_save):
            raise ValueError("rslora, dora and modules_to_save belong to LoRA: remove them, or set method to 'lora'")
        if self.patience and not self.evaluate_every:
            raise ValueError("patience counts evaluations: set evaluate_every, the steps between them")
        if self.sharded and (self.processes < 2 or self.method == "qlora" or self.packing):
            raise ValueError(
                "sharded splits 16- or 32-bit weights over processes: set processes to 2 or more, method to lora or full, packing to false"
            )
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Finetune:
        if self.continual and self.start != "champion":
            raise ValueError("continual training continues from the champion: set start to 'champion'")
        if self.preferences and (self.start == "base" or self.method == "full" or self.members > 1):
            raise ValueError("preferences tune a champion with one LoRA adapter: set start to 'champion', members to 1")
        if self.preferences and (self.mix or self.domain or self.continual or self.packing or self.processes > 1):
            raise ValueError(
                "preferences train on corrections only, in one process: remove mix, domain, continual, packing, processes"
            )
        if self.preferences and self.dropout:
            raise ValueError("preferences are trained without dropout: set dropout to 0")
        if self.preferences and self.evaluate_every:
            raise ValueError("preferences are evaluated before and after training only: remove evaluate_every")
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate is {self.accumulate}, but a batch has only {self.batch_size} records")
        if any(weight <= 0 for weight in self.mix.values()):
            raise ValueError("the weights of mix must be above 0")
        return self


class Range(Section):
    """The values of one setting: a range of numbers, or choices."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: list[Any] | None = None

    @model_validator(mode="after")
    def _one_of_two(self) -> Range:
        if (self.choices is None) == (self.low is None or self.high is None):
            raise ValueError("give either low and high, or choices")
        if self.low is not None and self.high is not None and not self.low < self.high:
            raise ValueError("low must be below high")
        return self


# Data, placement, and what would change nothing: trials have their own number of epochs.
_NOT_SEARCHED = {
    "start", "domain", "mix", "continual", "preferences", "members", "processes", "sharded", "budget", "resources",
    "turns", "epochs", "checkpoint_every", "checkpoint_minutes", "activations_gib", "evaluate_every", "patience",
}  # fmt: skip


class Search(Section):
    """Hyperparameter search before training; the smallest held-out loss wins."""

    space: dict[str, Range] = Field(min_length=1, description="Settings of `finetune` and their ranges.")
    trials: int = Field(default=8, gt=0)
    minutes: float = Field(default=60, gt=0, description="No trial starts after this many minutes of trials.")
    epochs: int = Field(default=1, gt=0, description="Epochs per trial.")
    seed: int = 7

    @model_validator(mode="after")
    def _known(self) -> Search:
        allowed = set(Finetune.model_fields) - _NOT_SEARCHED
        if unknown := sorted(set(self.space) - allowed):
            raise ValueError(f"space names {unknown}; what can be searched: {sorted(allowed)}")
        for name, found in self.space.items():
            for value in found.choices if found.choices is not None else (found.low, found.high):
                self._check(name, value)
        return self

    def _check(self, name: str, value: Any) -> None:
        """Would a trial take it?"""
        whole = Finetune.model_fields[name].annotation is int and isinstance(value, float) and value.is_integer()
        try:
            Finetune.model_validate({name: int(value) if whole else value})
        except ValidationError as exc:
            if wrong := [error["msg"] for error in exc.errors() if error["loc"][:1] == (name,)]:
                raise ValueError(f"space.{name} has {value!r}: {wrong[0]}") from None
