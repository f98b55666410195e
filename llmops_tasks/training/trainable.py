"""What is trained, and in which precision: LoRA matrices over a frozen base (in fp32 or 4 bits), or all weights."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks.config import Finetune
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.models import loading, precision
from llmops_tasks.store import digests
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
    cut: int  # layers below run once
    bf16: bool = False
    parts: int = 1  # a batch is computed in so many
    losses: list[float] = field(default_factory=list)
    meter: Stopwatch = field(default_factory=Stopwatch)

    @property
    def base(self) -> Any:
        """The model without what peft puts around it."""
        return self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model


def prepare(model: Any, settings: Finetune) -> State:
    """Put what is trained into the model, with its optimizer."""
    import torch

    cut = 0
    if settings.method != "full":
        layers = model.config.num_hidden_layers
        first = max(0, layers - settings.top_layers)
        cut = 0 if model.config.attention_dropout else first  # a layer that draws masks gives no output to keep
        model = _with_lora(model, settings, list(range(first, layers)))
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    optimizer = torch.optim.AdamW(trained.values(), lr=settings.learning_rate, weight_decay=0.0, fused=True)
    bf16 = precision.use_bf16(settings)
    log.info("%d numbers are trained, products in %s on %s", sum(v.numel() for v in trained.values()), "bf16" if bf16 else "fp32", loading.device())  # fmt: skip
    return State(model, trained, optimizer, cut, bf16, settings.accumulate)


def _with_lora(model: Any, settings: Finetune, layers: list[int]) -> Any:
    from peft import LoraConfig, get_peft_model

    from llmops_tasks.models import onednn
    from llmops_tasks.training.lora import Linear

    lora = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.target_modules,
        layers_to_transform=layers,
        task_type="CAUSAL_LM",
    )
    lora._register_custom_module({onednn.Linear: Linear})  # peft's way to bring a layer of one's own
    return get_peft_model(model, lora)


def save(state: State, out: Path, base: ArtifactRef, stamp: dict[str, Any]) -> None:
    """Write what was trained (safetensors), and `training.json` with the losses and the stamp.

    The same training gives the same bytes: LoRA's settings name the base by its digest, not by a folder, and the trained
    layers in order, where peft has a set, which every process orders in its own way.
    """
    lora: dict[str, Any] = {}
    if state.base is not state.model:
        settings = state.model.peft_config["default"]
        settings.base_model_name_or_path = f"sha256:{base['sha256']}"
        settings.target_modules = sorted(settings.target_modules)
        lora = {"selected_adapters": ["default"], "save_embedding_layers": False}  # not one that was compared with
    state.model.save_pretrained(out, safe_serialization=True, **lora)
    (out / "README.md").unlink(missing_ok=True)  # peft's empty model card; `release.package` writes a true one
    (out / "training.json").write_bytes(digests.canonical({"losses": state.losses, **stamp}))
