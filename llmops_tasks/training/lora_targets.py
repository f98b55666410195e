"""Which linear layers get LoRA matrices: those that the use case names, or all of them, in the top layers.

Architectures name them differently (q_proj, qkv_proj, c_attn) and fuse what others keep apart, so a list that fits one
model may match half of another. Names that match nothing are refused, adapted layers are logged. What this does not do:
reach weights that are no linear layers, such as fused experts.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from llmops_tasks.config import Finetune
from llmops_tasks.errors import ModelError, did_you_mean

ALL = "all-linear"
_PLAIN = ("Linear", "Conv1D", "Linear4bit", "Linear8bitLt")  # torch's and oneDNN's, transformers', bitsandbytes'


def with_lora(model: Any, settings: Finetune) -> Any:
    """The model with LoRA matrices beside the linear layers named in `target_modules`, by peft.

    Raises:
        ModelError: if a name matches nothing.
    """
    from peft import LoraConfig, get_peft_model

    from llmops_tasks.models import onednn
    from llmops_tasks.training.lora_linear import Linear

    wanted = chosen(model, settings)
    lora = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=wanted,
        use_rslora=settings.rslora,
        use_dora=settings.dora,
        modules_to_save=_whole(model, settings) or None,
        task_type="CAUSAL_LM",
    )
    lora._register_custom_module({onednn.Linear: Linear})  # peft's way to bring a layer of one's own
    try:
        adapted_model = get_peft_model(model, lora)
    except ValueError as exc:
        raise ModelError(
            f"peft cannot put LoRA matrices into '{model.config.model_type}': {exc}. Name other target_modules."
        ) from exc
    _check_places(adapted_model, wanted)
    return adapted_model


def _whole(model: Any, settings: Finetune) -> list[str]:
    """Modules that are trained whole.

    Raises:
        ModelError: if a name matches nothing.
    """
    known = {name.rsplit(".", 1)[-1] for name, part in model.named_modules() if any(True for _ in part.parameters())}
    if missing := [name for name in settings.modules_to_save if name not in known]:
        raise ModelError(
            f"finetune.modules_to_save names {missing}, which '{model.config.model_type}' has not."
            f"{did_you_mean(missing[0], sorted(known))} Name some of these: {sorted(known)}."
        )
    shared = (model.get_input_embeddings(), model.get_output_embeddings())
    tied = shared[1] is not None and shared[0].weight is shared[1].weight
    if tied and (both := [name for name, part in model.named_modules() if part in shared and name.rsplit(".", 1)[-1] in settings.modules_to_save]):  # fmt: skip
        raise ModelError(
            f"finetune.modules_to_save names {both[0]}, which shares its weights with another module of "
            f"'{model.config.model_type}': merged, one of them would be lost. Remove it."
        )
    return settings.modules_to_save


def _check_places(model: Any, wanted: list[str]) -> None:
    """Refuse where peft put matrices beside what bears a like name: in some mixtures of experts, fused experts."""
    given = {
        name.removeprefix("base_model.model.") for name, module in model.named_modules() if hasattr(module, "lora_A")
    }
    if moved := sorted({name.rsplit(".", 1)[-1] for name in set(wanted) ^ given}):
        rest = sorted({name.rsplit(".", 1)[-1] for name in wanted} - set(moved))
        raise ModelError(
            f"peft would put LoRA matrices elsewhere than into the linear layers of these names: {moved}. "
            f"Set finetune.target_modules to others: {rest}."
        )


def chosen(model: Any, settings: Finetune) -> list[str]:
    """The full names of the linear layers that get matrices. By shorter ones peft would find layers of its own choice:
    those of another part of the model, or fused experts in all layers.

    Raises:
        ModelError: if a name of `target_modules` matches nothing.
    """
    found, first = linear(model), first_layer(model, settings)
    kinds = sorted({kind for _, kind in found.values()})
    wanted = kinds if settings.target_modules == ALL else list(settings.target_modules)
    if missing := [name for name in wanted if name not in kinds]:
        raise ModelError(
            f"finetune.target_modules names {missing}, which '{model.config.model_type}' has not."
            f"{did_you_mean(missing[0], kinds)} Its linear layers: {kinds}. Name some of these, or '{ALL}'."
        )
    names = [name for name, (layer, kind) in found.items() if layer >= first and kind in wanted]
    if not names:
        raise ModelError(f"The top {settings.top_layers} layers have none of {wanted}. Raise top_layers.")
    return names


def linear(model: Any) -> dict[str, tuple[int, str]]:
    """Linear layers within the decoder's layers: full name -> (number of the layer, last part of the name).

    Plain ones: what derives from a linear layer to do something else, such as to choose experts, is none.
    """
    prefix = f"{layers_of(model)[0]}."
    inside = {name: module for name, module in model.named_modules() if name.startswith(prefix)}
    return {
        name: (int(name.removeprefix(prefix).split(".")[0]), name.rsplit(".", 1)[-1])
        for name, module in inside.items()
        if type(module).__name__ in _PLAIN
    }


def first_layer(model: Any, settings: Finetune) -> int:
    """The lowest of the layers that are trained."""
    return max(0, layers_of(model)[1] - settings.top_layers)


def adapted(model: Any) -> dict[str, int]:
    """Of every kind, how many linear layers have got matrices."""
    beside = (name.rsplit(".", 1)[-1] for name, module in model.named_modules() if hasattr(module, "lora_A"))
    return dict(sorted(Counter(beside).items()))


def check(folder: Path, settings: Finetune) -> None:
    """Refuse a model by its settings alone; no weights are read.

    Raises:
        ModelError: as `chosen`.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if settings.method != "full":
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, local_files_only=True))
        chosen(model, settings)


def layers_of(model: Any) -> tuple[str, int]:
    """The name of the list of the decoder's layers, and how many there are."""
    from torch import nn

    count = int(model.config.get_text_config().num_hidden_layers)
    decoder = {id(module) for module in model.get_decoder().modules()}  # not an encoder of images beside it
    for name, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count and id(module) in decoder:
            return name, count
    raise ModelError(f"No list of layers was found in '{model.config.model_type}'. Set finetune.method to 'full'.")
