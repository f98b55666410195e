"""A model and its tokenizer from a verified folder: safetensors only, nothing downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops_tasks.errors import ModelError


def device() -> str:
    """Where models are trained."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load_model(folder: Path, method: str = "lora") -> tuple[Any, Any]:
    """A model and its tokenizer, from a verified folder: safetensors only, nothing downloaded.

    Weights are fp32; with the method "qlora" those of linear layers are 4-bit normal floats (NF4, double quantised).

    Raises:
        ModelError: if the method needs a library that is not there.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from llmops_tasks.models import onednn

    options: dict[str, Any] = {"quantization_config": _four_bits()} if method == "qlora" else {}
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        device_map={"": device()} if device() != "cpu" else None,
        **options,
    )
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            # bitsandbytes 0.50 repacks weights at the first forward pass in eval mode and keeps them so: gradients of
            # later training steps then come out wrong, without an error.
            layer.support_avx512bf16_for_cpu = False
    onednn.use(model)
    return model, AutoTokenizer.from_pretrained(folder, local_files_only=True)


def _four_bits() -> Any:
    import importlib.util

    import torch
    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("The method 'qlora' needs bitsandbytes. Run 'pip install bitsandbytes', or use 'lora'.")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )
