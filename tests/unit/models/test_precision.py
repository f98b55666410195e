"""Products are rounded to bf16 only where the hardware computes in it, or somebody says so."""

from __future__ import annotations

import pytest

from llmops_tasks.config import Finetune
from llmops_tasks.models import precision


def test_precision_follows_the_hardware_and_the_use_case(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    assert [precision.use_bf16(Finetune(precision=name)) for name in ("auto", "fp32", "bf16")] == [False, False, True]
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert [precision.use_bf16(Finetune(precision=name)) for name in ("auto", "fp32", "bf16")] == [True, False, True]
