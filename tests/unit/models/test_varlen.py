"""Packed records do not see each other, whichever way that is computed. The kernel itself needs a GPU."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.config import Finetune
from llmops_tasks.models import hardware, loading, varlen
from llmops_tasks.training import loop, trainable
from tests.support.examples import numbered

PACKED = Finetune(top_layers=2, batch_size=8, max_length=64, packing=True)


def test_records_begin_where_their_number_changes_or_a_row_begins() -> None:
    import torch

    found = varlen.bounds(torch.tensor([[0, 0, 0, 1, 1], [1, 2, 2, -1, -1]]))
    assert found.starts.tolist() == [0, 3, 5, 6, 8, 10] and found.longest == 3
    assert found.starts.dtype == torch.int32


def test_the_registered_attention_takes_and_gives_the_shapes_of_transformers() -> None:
    import torch

    query, key = (torch.empty(2, heads, 5, 16, device="meta", dtype=torch.bfloat16) for heads in (4, 2))
    bounds = varlen.Bounds(torch.empty(4, dtype=torch.int32, device="meta"), 5)
    mixed, weights = varlen.attend(None, query, key, key, None, scaling=0.25, bounds=bounds)
    assert (tuple(mixed.shape), mixed.dtype, weights) == ((2, 5, 4, 16), torch.bfloat16, None)


def _one_by_one(query: Any, key: Any, value: Any, bounds: varlen.Bounds, scaling: float | None) -> Any:
    """What the kernel computes, record by record."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    starts = bounds.starts.tolist()
    parts = []
    for start, end in itertools.pairwise(starts):
        own = [part[start:end].transpose(0, 1) for part in (query, key, value)]
        parts.append(scaled_dot_product_attention(*own, is_causal=True, scale=scaling, enable_gqa=True).transpose(0, 1))
    return torch.cat(parts)


def test_by_bounds_loss_and_gradients_are_those_by_the_mask(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(varlen, "_varlen_attn", _one_by_one)
    found = []
    for by_bounds in (False, True):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(varlen, "usable", lambda model, by_bounds=by_bounds: by_bounds)
            torch.manual_seed(0)
            state = trainable.prepare(loading.load_model(tiny_model)[0], PACKED, 64)
        assert state.varlen is by_bounds
        with torch.no_grad():
            for value in state.trained.values():
                value.normal_(std=0.02)
        loss = loop._gradients(state, PACKED, 0, numbered(), None)
        found.append((loss, torch.cat([value.grad.flatten() for value in state.trained.values()])))
    (loss, gradients), (other, others) = found
    assert other == pytest.approx(loss, abs=1e-5)
    assert (gradients - others).abs().max() < 1e-4 < gradients.abs().max()


def test_without_bounds_the_model_computes_what_it_did(tiny_model: Path) -> None:
    import torch

    tokens = torch.arange(20).unsqueeze(0)
    model, _ = loading.load_model(tiny_model)
    with torch.inference_mode():
        before = model(tokens).logits
        varlen.use(model)
        assert (model(tokens).logits - before).abs().max() < 1e-6


def test_it_is_used_on_a_gpu_in_16_bits_without_a_window_only(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, half = loading.load_model(tiny_model)[0], loading.load_model(tiny_model, "bf16")[0]
    assert not varlen.usable(half)
    monkeypatch.setattr(hardware, "device_type", lambda: "cuda")
    assert varlen.usable(half) and not varlen.usable(whole)
    half.config.sliding_window = 16
    assert not varlen.usable(half)
