"""The device and the number format of models: asked for in YAML, decided by the hardware, here and nowhere else.

`auto` is bf16 on a GPU that computes in it, and fp32 on a CPU, so that the same use case gives the same figures on
every CPU. A GPU without bf16 answers in fp16 and is trained in fp32: training in fp16 needs loss scaling, which is not
done here.
"""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch

Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
MIB = 2**20


def device() -> str:
    """The device of this process, with its number: under torchrun every process has a GPU of its own."""
    import torch

    kind = device_type()
    return f"cuda:{torch.cuda.current_device()}" if kind == "cuda" else kind


def device_type() -> str:
    """cuda, mps or cpu."""
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _has_bf16() -> bool:
    import torch

    if device_type() == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.backends.mps.is_macos_or_newer(14, 0))


def inference_format(precision: Precision) -> str:
    """The number format in which a model answers: fp32, bf16, fp16, or int8, which is written when it is packaged."""
    if precision != "auto":
        return precision
    if device_type() == "cpu":
        return "fp32"
    return "bf16" if _has_bf16() else "fp16"


def training_format(precision: Precision) -> str:
    """The number format of frozen weights and of products in training: fp32 or bf16."""
    return "bf16" if precision == "bf16" or (precision == "auto" and inference_format("auto") == "bf16") else "fp32"


def dtype(number_format: str) -> torch.dtype:
    """Of torch."""
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[number_format]


def peak_mib() -> float:
    """Memory peak of this process, in MiB: of its GPU if it has one, else of the main memory."""
    import torch

    if device_type() == "cuda":
        return torch.cuda.max_memory_allocated() / MIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def free_mib() -> float | None:
    """Free memory of this process's GPU, in MiB; None without one."""
    import torch

    return torch.cuda.mem_get_info()[0] / MIB + torch.cuda.memory_reserved() / MIB if device_type() == "cuda" else None
