"""Number formats: what is asked for, and what the hardware computes in."""

from __future__ import annotations

from llmops_tasks.config import Finetune


def use_bf16(settings: Finetune) -> bool:
    """Whether matrix products run in bfloat16. On processors without AVX512-BF16 or AMX that is several times slower."""
    if settings.precision != "auto":
        return settings.precision == "bf16"
    import torch

    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())  # no public way to ask
