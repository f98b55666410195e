"""Models are read from safetensors in a folder, and from nowhere else."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from llmops_tasks.errors import ModelError
from llmops_tasks.models import loading, onednn


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
        loading.load_model(tiny_model, "qlora")
