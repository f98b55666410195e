"""A model and its tokenizer from a verified folder: safetensors only, nothing downloaded."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from llmops_tasks.errors import ModelError
from llmops_tasks.models import hardware

FORMATS = {"F32": "fp32", "BF16": "bf16", "F16": "fp16"}  # as safetensors names them
_SHARE = 0.9  # of a GPU's free memory that weights may take before a model is spread over several


def load_model(folder: Path, number_format: str = "fp32", four_bits: bool = False) -> tuple[Any, Any]:
    """A model and its tokenizer; see `load_weights`."""
    from transformers import AutoTokenizer

    return load_weights(folder, number_format, four_bits), AutoTokenizer.from_pretrained(folder, local_files_only=True)


def load_weights(folder: Path, number_format: str = "fp32", four_bits: bool = False) -> Any:
    """A model from a verified folder: safetensors only, nothing downloaded.

    Weights go straight to this process's device, without a copy in main memory; those of a model that is larger than
    one GPU are spread over all GPUs that the process sees.

    Args:
        folder: config.json, safetensors.
        number_format: of the weights: fp32, bf16 or fp16.
        four_bits: linear layers become 4-bit normal floats (NF4, double quantised) that compute in `number_format`.

    Raises:
        ModelError: if 4 bits need a library that is not there.
    """
    from transformers import AutoModelForCausalLM

    from llmops_tasks.models import onednn

    options: dict[str, Any] = {"quantization_config": _four_bits(number_format)} if four_bits else {}
    model = AutoModelForCausalLM.from_pretrained(
        folder,
        dtype=hardware.dtype(number_format),
        use_safetensors=True,
        local_files_only=True,
        device_map=_placement(folder, number_format),
        **options,
    )
    for layer in model.modules():
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            # bitsandbytes 0.50 repacks weights at the first forward pass in eval mode and keeps them so: gradients of
            # later training steps then come out wrong, without an error.
            layer.support_avx512bf16_for_cpu = False
    onednn.use(model)
    return model


@contextmanager
def running(model: Any) -> Iterator[None]:
    """No gradients are kept, and new tensors are made on the model's device."""
    import torch

    elsewhere = nullcontext() if model.device.type == "cpu" else torch.device(model.device)  # it sees every call: dear
    with torch.inference_mode(), elsewhere:
        yield


def _placement(folder: Path, number_format: str) -> Any:
    """transformers' `device_map`: this process's device by its number, as threads that load would take the first."""
    import torch

    free = hardware.free_mib()
    if free is None:
        return {"": hardware.device()} if hardware.device() != "cpu" else None
    alone = weights_mib(folder, number_format) < _SHARE * free or torch.cuda.device_count() < 2
    return {"": hardware.device()} if alone or torch.distributed.is_initialized() else "auto"


def weights_mib(folder: Path, number_format: str) -> float:
    """Memory that the weights of a folder will take in a number format, in MiB."""
    from safetensors import safe_open

    numbers = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as tensors:
            numbers += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return numbers * hardware.dtype(number_format).itemsize / hardware.MIB


def stored_format(folder: Path) -> str:
    """The number format of a folder's weights, of most of them where it is mixed: fp32, bf16 or fp16.

    Raises:
        ModelError: if they are in another one.
    """
    from safetensors import safe_open

    found: Counter[str] = Counter()
    for path in folder.rglob("*.safetensors"):
        with safe_open(path, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118
                part = tensors.get_slice(name)
                found[part.get_dtype()] += math.prod(part.get_shape())
    stored = found.most_common(1)[0][0] if found else "none"
    if stored not in FORMATS:
        raise ModelError(f"The weights are in the number format {stored}. Allowed: {sorted(FORMATS)} (safetensors).")
    return FORMATS[stored]


def _four_bits(number_format: str) -> Any:
    import importlib.util

    from transformers import BitsAndBytesConfig

    if importlib.util.find_spec("bitsandbytes") is None:
        raise ModelError("The method 'qlora' needs bitsandbytes. Run 'pip install bitsandbytes', or use 'lora'.")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=hardware.dtype(number_format),
    )
