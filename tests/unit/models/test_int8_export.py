"""Files in int8: the same bytes each time, nothing executable, and refused where they would answer something else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llmops_tasks.errors import ModelError
from llmops_tasks.models import int8, int8_export
from tests.support import families


def test_it_writes_the_graph_and_what_it_was_made_with(int8_model: Path) -> None:
    files = {path.name for path in (int8_model / int8.FOLDER).iterdir()}
    assert files == {"model.xml", "model.bin", "openvino.json"}
    about = json.loads((int8_model / int8.FOLDER / int8.ABOUT).read_text(encoding="utf-8"))
    assert set(about["libraries"]) == {"openvino", "torch", "transformers"}
    assert 0 < about["distance"] < int8_export.NEAR


def test_twice_it_writes_the_same_bytes(int8_model: Path, tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "again")
    int8_export.write(tmp_path / "again")
    for name in ("model.xml", "model.bin"):
        assert (tmp_path / "again" / int8.FOLDER / name).read_bytes() == (int8_model / int8.FOLDER / name).read_bytes()


def test_the_weights_of_all_linear_layers_have_8_bits(int8_model: Path) -> None:
    graph = int8.library().Core().read_model(int8_model / int8.FOLDER / int8.GRAPH)
    kinds = [node.get_element_type().get_type_name() for node in graph.get_ops() if node.get_type_name() == "Constant"]
    assert kinds.count("i8") == 15  # seven in each of two layers, and the vocabulary's
    assert not list(int8_export._products(graph))


@pytest.mark.parametrize("width", [int8_export.GROUP * 3, 50])
def test_a_weight_moves_by_half_a_step_at_most(width: int) -> None:
    weight = np.random.default_rng(1).standard_normal((7, width)).astype(np.float32)
    weight[2] = 0
    integers, scales = int8_export.quantised(weight)
    assert integers.dtype == np.int8
    assert integers.shape == ((7, 3, int8_export.GROUP) if width != 50 else (7, 50))
    steps = np.broadcast_to(scales, integers.shape).reshape(weight.shape)
    assert (np.abs((integers * scales).reshape(weight.shape) - weight) <= 0.501 * steps).all()


@pytest.mark.parametrize("allowed", [1e-6, float("nan")])
def test_files_that_are_not_near_fp32_are_refused(
    int8_model: Path, monkeypatch: pytest.MonkeyPatch, allowed: float
) -> None:
    from transformers import AutoModelForCausalLM

    monkeypatch.setattr(int8_export, "NEAR", allowed)
    with pytest.raises(ModelError, match=r"in int8 differ from those in fp32 by 0\.0. of their spread"):
        int8_export._describe(AutoModelForCausalLM.from_pretrained(int8_model), int8_model)


def test_a_family_without_the_graphs_attention_is_refused(tmp_path: Path) -> None:
    families.make("GPT-OSS").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"cannot be exported to int8 .ValueError.* Set inference.precision"):
        int8_export.write(tmp_path)


@pytest.mark.parametrize("kind", ["RuntimeError", "OpConversionFailure"])
def test_a_family_that_cannot_be_exported_is_refused(
    int8_model: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """OpenVINO's errors have no base."""

    (failure,) = [failure for failure in int8_export._failures() if failure.__name__ == kind]

    def fail(_: Any) -> None:
        raise failure("no such operation")

    monkeypatch.setattr(int8_export, "_graph", fail)
    with pytest.raises(ModelError, match=rf"cannot be exported to int8 .{kind}"):
        int8_export.write(int8_model)
