"""Models are read from safetensors in a folder, and from nowhere else."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from llmops_tasks.errors import ModelError
from llmops_tasks.models import hardware, loading, onednn


def test_weights_are_fp32_and_multiplied_by_onednn(tiny_model: Path) -> None:
    import torch

    model, tokenizer = loading.load_model(tiny_model)
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert isinstance(model.model.layers[0].mlp.up_proj, onednn.Linear)
    assert not model.training and len(tokenizer) == model.config.vocab_size


def test_pickled_weights_are_not_opened(tiny_model: Path, tmp_path: Path) -> None:
    """A canary in the pickle would be left behind by whoever loads it."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "model.safetensors").unlink()
    canary = tmp_path / "canary"
    (folder / "pytorch_model.bin").write_bytes(f"cposix\nsystem\n(S'touch {canary}'\ntR.".encode())
    with pytest.raises(OSError, match="safetensors"):
        loading.load_model(folder)
    assert not canary.exists()


def test_four_bits_ask_for_their_library(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    with pytest.raises(ModelError, match="needs bitsandbytes"):
        loading.load_model(tiny_model, four_bits=True)


@pytest.mark.parametrize("number_format", ["bf16", "fp16"])
def test_weights_are_in_the_format_that_is_asked_for_and_compute_nearly_the_same(
    tiny_model: Path, number_format: str
) -> None:
    import torch

    half, (whole, _) = loading.load_model(tiny_model, number_format)[0], loading.load_model(tiny_model)
    assert {value.dtype for value in half.parameters()} == {hardware.dtype(number_format)}
    tokens = torch.arange(40).unsqueeze(0)
    with torch.inference_mode():
        expected, found = whole(tokens).logits, half(tokens).logits
    assert 0 < (found - expected).norm() < 0.02 * expected.norm()


def test_four_bits_compute_in_the_format_that_is_asked_for(tiny_model: Path) -> None:
    import torch

    model, _ = loading.load_model(tiny_model, "bf16", four_bits=True)
    layer = model.model.layers[0].mlp.up_proj
    assert layer.compute_dtype == torch.bfloat16 and layer.weight.dtype == torch.uint8
    assert model.model.embed_tokens.weight.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("free", "devices", "several_processes", "expected"),
    [
        (None, 0, False, None),  # a CPU
        (1e5, 1, False, {"": "cuda:1"}),
        (1e5, 4, False, {"": "cuda:1"}),  # it fits
        (0.2, 4, False, "auto"),
        (0.2, 1, False, {"": "cuda:1"}),  # there is no other
        (0.2, 4, True, {"": "cuda:1"}),  # each process has one
    ],
)
def test_a_model_that_is_larger_than_one_gpu_is_spread_over_all(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch, free: float | None, devices: int, several_processes: bool, expected: object
) -> None:  # fmt: skip
    import torch

    monkeypatch.setattr(hardware, "free_mib", lambda: free)
    monkeypatch.setattr(hardware, "device", lambda: "cpu" if free is None else "cuda:1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: several_processes)
    assert loading._placement(tiny_model, "fp32") == expected


def test_the_size_of_weights_is_known_before_they_are_loaded(tiny_model: Path) -> None:
    model, _ = loading.load_model(tiny_model)
    numbers = sum(value.numel() for value in model.parameters())
    assert loading.weights_mib(tiny_model, "fp32") * 2**20 == 4 * numbers
    assert loading.weights_mib(tiny_model, "bf16") * 2**20 == 2 * numbers


def test_the_format_of_stored_weights_is_read_from_the_files(tiny_model: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    assert loading.stored_format(tiny_model) == "fp32"
    half, norm = torch.zeros(8, 8, dtype=torch.bfloat16), torch.zeros(8)
    save_file({"weight": half, "norm": norm}, tmp_path / "model.safetensors")  # norms are kept in fp32 by some
    assert loading.stored_format(tmp_path) == "bf16"
    save_file({"weight": half.to(torch.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match=r"number format I8. Allowed: \['BF16', 'F16', 'F32'\]"):
        loading.stored_format(tmp_path)
