"""Which linear layers get LoRA matrices: those that the use case names, or all of them, in the top layers.

Architectures name them differently (q_proj, qkv_proj, c_attn) and fuse what others keep apart, so a list that fits one
model may match half of another. What matches nothing is refused, what got matrices is told. What this does not do:
reach weights that are no linear layers, such as fused experts.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from llmops_tasks.config import Finetune
from llmops_tasks.errors import ModelError, did_you_mean

ALL = "all-linear"


def with_lora(model: Any, settings: Finetune) -> Any:
    """The model with LoRA matrices beside the linear layers named in `target_modules`, by peft.

    Raises:
        ModelError: if a name matches nothing.
    """
    from peft import LoraConfig, get_peft_model

    from llmops_tasks.models import onednn
    from llmops_tasks.training.lora_linear import Linear

    _, count = _layers(model)
    lora = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=chosen(model, settings),
        layers_to_transform=list(range(first_layer(model, settings), count)),
        task_type="CAUSAL_LM",
    )
    lora._register_custom_module({onednn.Linear: Linear})  # peft's way to bring a layer of one's own
    return get_peft_model(model, lora)


def chosen(model: Any, settings: Finetune) -> list[str]:
    """The kinds of linear layers (last parts of their names) that get matrices.

    Raises:
        ModelError: if a name matches nothing.
    """
    found = linear(model)
    if settings.target_modules == ALL:
        return found
    if missing := [name for name in settings.target_modules if name not in found]:
        raise ModelError(
            f"finetune.target_modules names {missing}, which '{model.config.model_type}' has not."
            f"{did_you_mean(missing[0], found)} Its linear layers: {found}. Name some of these, or '{ALL}'."
        )
    return list(settings.target_modules)


def linear(model: Any) -> list[str]:
    """The kinds of linear layers within the decoder's layers, in order of the alphabet."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    prefix, _ = _layers(model)
    inside = {name: module for name, module in model.named_modules() if name.startswith(f"{prefix}.")}
    return sorted(
        {name.rsplit(".", 1)[-1] for name, module in inside.items() if isinstance(module, nn.Linear | Conv1D)}
    )


def first_layer(model: Any, settings: Finetune) -> int:
    """The lowest of the layers that are trained."""
    return max(0, _layers(model)[1] - settings.top_layers)


def adapted(model: Any) -> dict[str, int]:
    """Of every kind, how many linear layers have got matrices."""
    beside = (name.rsplit(".", 1)[-1] for name, module in model.named_modules() if hasattr(module, "lora_A"))
    return dict(sorted(Counter(beside).items()))


def check(folder: Path, settings: Finetune) -> None:
    """Refuse a model for what its settings alone tell; no weight is read.

    Raises:
        ModelError: as `chosen`.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if settings.method != "full":
        with torch.device("meta"):
            chosen(
                AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True)), settings
            )


def _layers(model: Any) -> tuple[str, int]:
    """The name of the list of the decoder's layers, and how many there are."""
    from torch import nn

    count = int(model.config.get_text_config().num_hidden_layers)
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            return name, count
    raise ModelError(f"No list of layers was found in '{model.config.model_type}'. Set finetune.method to 'full'.")
