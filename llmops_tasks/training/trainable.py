"""The trained parameters and their precision: LoRA matrices over a frozen base (in fp32 or 4 bits), or all weights."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks.config import Finetune
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.models import hardware, layers, loading, varlen
from llmops_tasks.store import digests
from llmops_tasks.training import lora_targets, optimizer, processes, sharding
from llmops_tasks.training.background import Background
from llmops_tasks.training.early_stopping import HeldOut
from llmops_tasks.training.stopwatch import Stopwatch

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)


@dataclass
class State:
    """A training run under way."""

    model: Any  # transformers' causal LM, with or without LoRA inside
    trained: dict[str, torch.Tensor]  # name -> parameter
    optimizer: Any
    cut: int  # layers below are frozen
    bf16: bool = False
    parts: int = 1  # a batch is computed in so many
    varlen: bool = False  # packed records are kept apart by their bounds, not by a mask
    sharded: bool = False  # weights are split over the processes
    cached: bool = True  # frozen layers run once, and their output is kept; else they run at every step
    layerwise: bool = True  # layers may be run one by one; else the model is run whole
    lora: dict[str, int] = field(default_factory=dict)  # kind of linear layer -> how many got LoRA matrices
    losses: list[float] = field(default_factory=list)
    code: list[tuple[int, str]] = field(default_factory=list)  # steps made before, digest of the code that made more
    meter: Stopwatch = field(default_factory=Stopwatch)
    held_out: HeldOut = field(default_factory=HeldOut)
    writer: Background = field(default_factory=Background)  # of checkpoints
    written: float = field(default_factory=time.monotonic)  # when the last checkpoint was

    @property
    def base(self) -> Any:
        """The model without what peft puts around it."""
        return base_of(self.model)


def base_of(model: Any) -> Any:
    """A model without what peft puts around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def prepare(model: Any, settings: Finetune, longest: int) -> State:
    """Put what is trained into the model, with its optimizer.

    Args:
        model: as loaded.
        settings: of the run.
        longest: tokens of the longest record that it will be given.

    Raises:
        ModelError: if `target_modules` names what the model has not, or a record is longer than its context.
    """
    layers.check_context(model.config, longest)
    # layers that draw masks of their own give no output to keep, and draw them where the model does
    layerwise = not (settings.sharded or layers.has_dropout(model.config)) and layers.can_cut(model, longest)
    cut, matrices = 0, {}
    if settings.method != "full":
        cut = lora_targets.first_layer(model, settings) if layerwise else 0
        model = lora_targets.with_lora(model, settings)
        matrices = lora_targets.adapted(model)
        log.info("LoRA matrices beside %s", ", ".join(f"{name} ({count})" for name, count in matrices.items()))
    if settings.recompute and not layerwise:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if by_bounds := settings.packing and layerwise and varlen.usable(model):
        varlen.use(model)
    if settings.sharded:
        sharding.shard(base_of(model))
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    bf16 = hardware.training_format(settings.precision) == "bf16"
    log.info("%d numbers are trained, products in %s on %s", sum(v.numel() for v in trained.values()), "bf16" if bf16 else "fp32", hardware.device())  # fmt: skip
    return State(
        model=model,
        trained=trained,
        optimizer=optimizer.make(trained.values(), settings),
        cut=cut,
        bf16=bf16,
        parts=settings.accumulate,
        layerwise=layerwise,
        varlen=by_bounds,
        sharded=settings.sharded,
        lora=matrices,
    )


def load(folder: Path, settings: Finetune) -> tuple[Any, Any]:
    """A model to be trained, and its tokenizer. Frozen weights are in the format that is computed in, trained ones in fp32:
    in bf16 small steps would be lost to rounding."""
    number_format = "fp32" if settings.method == "full" else hardware.training_format(settings.precision)
    return loading.load_model(folder, number_format, four_bits=settings.method == "qlora")


def fits(state: State, plan: str) -> str:
    """What makes a checkpoint fit: digest of the training plan and of the shapes that are trained."""
    return digests.digest({"taught": plan, "trained": {name: list(part.shape) for name, part in state.trained.items()}})


def code_changes(state: State) -> list[int]:
    """After which steps the code was another one; none where one made all of them."""
    return [step for step, _ in state.code[1:]]


def save(state: State, out: Path, base: ArtifactRef, stamp: dict[str, Any]) -> None:
    """Write what was trained (safetensors), and `training.json` with the losses and the stamp. All processes take part, as
    weights may be split over them; the first one writes.

    The same training gives the same bytes: LoRA's settings name the base by its digest, not by a folder, and the trained
    layers in order, where peft has a set, which every process orders in its own way.
    """
    weights = sharding.gathered(state.model) if state.sharded else None
    if processes.rank():
        return
    lora: dict[str, Any] = {"state_dict": weights} if weights else {}
    if state.base is not state.model:
        settings = state.model.peft_config["default"]
        settings.base_model_name_or_path = f"sha256:{base['sha256']}"
        settings.target_modules = sorted(settings.target_modules)
        lora |= {"selected_adapters": ["default"], "save_embedding_layers": False}  # not one that was compared with
    state.model.save_pretrained(out, safe_serialization=True, **lora)
    (out / "README.md").unlink(missing_ok=True)  # peft's empty model card; `release.package` writes a true one
    (out / "training.json").write_bytes(digests.canonical({"losses": state.losses, **stamp}))
