"""Writes the OpenVINO files of a model in int8, beside the safetensors that they are made from.

The weights of all linear layers become 8-bit integers with one scale for each group of `GROUP` (for each row, where its
width is no multiple of that); embeddings and norms stay in fp32. No calibration data is needed, as `int8` quantises
activations at run time. Of OpenVINO's converter only the graph translator is used, which has no telemetry.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks.errors import ModelError
from llmops_tasks.models import int8

if TYPE_CHECKING:
    import numpy as np
    import torch

GROUP = 64  # weights with one scale
NEAR = 0.2  # `int8.distance` allowed between the logits in int8 and those in fp32
_INPUTS, _OUTPUTS = ("tokens", "positions", "mask", "columns", "past"), ("logits", "kept")
_ROWS, _TIME, _CACHED = 2, 5, 3  # of the example that is traced; in the graph all three are dynamic


def write(folder: Path) -> None:
    """Quantise the model in a folder into its subfolder `int8.FOLDER`.

    Args:
        folder: config.json and safetensors of a causal language model.

    Raises:
        ModelError: if OpenVINO is missing, the model cannot be exported, or its logits in int8 are not near those in fp32.
    """
    runtime = int8.library()
    model, graph = _exported(folder)
    quantise(graph)
    _name(graph)
    (folder / int8.FOLDER).mkdir()
    runtime.save_model(graph, folder / int8.FOLDER / int8.GRAPH, compress_to_fp16=False)
    _describe(model, folder)


def _exported(folder: Path) -> tuple[Any, Any]:
    """A model and its graph. Only SDPA takes the mask of booleans that the graph does."""
    import torch
    from transformers import AutoModelForCausalLM

    options = {"use_safetensors": True, "local_files_only": True, "attn_implementation": "sdpa"}
    logging.root.addFilter(_not_of_translator)
    try:
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, **options)
        return model, _graph(model)
    except _failures() as exc:
        raise ModelError(
            f"The model cannot be exported to int8 ({type(exc).__name__}): its family has a part that the graph cannot "
            "express. Set inference.precision to another format, or use another base model."
        ) from exc
    finally:
        logging.root.removeFilter(_not_of_translator)


def _failures() -> tuple[type[Exception], ...]:
    """What torch.export and OpenVINO, whose errors have no base, raise for models that they cannot express."""
    from openvino import frontend

    names = (
        "GeneralFailure",
        "InitializationFailure",
        "NotImplementedFailure",
        "OpConversionFailure",
        "OpValidationFailure",
    )
    ours = (RuntimeError, TypeError, ValueError, AttributeError, LookupError, AssertionError)
    return (*ours, *(getattr(frontend, name) for name in names))


def _not_of_translator(record: logging.LogRecord) -> bool:
    """OpenVINO's translator logs tracebacks for operations that this version of torch has no more."""
    return record.module != "fx_decoder"


def _graph(model: Any) -> Any:
    """OpenVINO's graph of a model, with `_INPUTS` and `_OUTPUTS`."""
    import torch
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.fx_decoder import TorchFXPythonDecoder

    free = torch.export.Dim.DYNAMIC
    shapes = ({0: free, 1: free}, {0: free, 1: free}, {0: free, 2: free, 3: free}, {0: free}, {1: free, 3: free})
    with torch.no_grad():
        program = torch.export.export(_wrapped(model), _example(model.config), dynamic_shapes=(shapes,), strict=False)
    manager, decoder = FrontEndManager(), TorchFXPythonDecoder.from_exported_program(program)  # must outlive `convert`
    frontend = manager.load_by_framework("pytorch")
    return frontend.convert(frontend.load(decoder))


def _wrapped(model: Any) -> Any:
    """A module that takes the cache as one tensor, and gives the new keys and values as one."""
    import torch
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            tokens, positions, mask, columns, past = given
            cache = DynamicCache()
            for keys, values in zip(past[::2], past[1::2], strict=True):
                layer = DynamicLayer()
                layer.lazy_initialization(keys, values)
                layer.keys, layer.values = keys, values
                cache.layers.append(layer)
            about = {"position_ids": positions, "attention_mask": mask, "past_key_values": cache}
            logits = self.model(input_ids=tokens, use_cache=True, logits_to_keep=columns, **about).logits
            kept = torch.stack([part for layer in cache.layers for part in (layer.keys, layer.values)])
            return logits, kept[:, :, :, past.shape[3] :]

    return Wrapped()


def _example(config: Any) -> tuple[torch.Tensor, ...]:
    import torch

    positions = torch.arange(_CACHED, _CACHED + _TIME).repeat(_ROWS, 1)
    mask = torch.ones(_ROWS, 1, _TIME, _CACHED + _TIME, dtype=torch.bool)
    past = torch.zeros(int8.past_shape(config, _ROWS, _CACHED))
    return torch.ones(_ROWS, _TIME, dtype=torch.long), positions, mask, torch.arange(4), past


# ---------------------------------------------------------------- weights


def quantise(graph: Any) -> None:
    """Replace the constant of every matrix product by 8-bit weights and their scales."""
    from openvino import opset13
    from openvino.utils import replace_node

    for node, weight in list(_products(graph)):
        integers, scales = quantised(weight)
        numbers = opset13.multiply(opset13.convert(opset13.constant(integers), "f32"), opset13.constant(scales))
        if integers.ndim == 3:
            numbers = opset13.reshape(numbers, opset13.constant(list(weight.shape)), special_zero=False)
        replace_node(node, opset13.matmul(node.input_value(0), numbers, transpose_a=False, transpose_b=True))


def _products(graph: Any) -> Iterator[tuple[Any, np.ndarray]]:
    """Products of activations with a constant matrix, and that matrix: (out, in)."""
    for node in graph.get_ordered_ops():
        if node.get_type_name() != "MatMul":
            continue
        weight, how = node.input_value(1).get_node(), node.get_attributes()
        if weight.get_type_name() == "Constant" and len(weight.shape) == 2 and not how["transpose_a"]:
            yield node, weight.data if how["transpose_b"] else weight.data.T


def quantised(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Symmetric 8-bit integers, from -127 to 127, and their scales.

    Args:
        weight: (out, in).

    Returns:
        (out, groups, `GROUP`) and (out, groups, 1); or (out, in) and (out, 1) where `in` is no multiple of `GROUP`.
    """
    import numpy as np

    rows, width = weight.shape
    parts = weight if width % GROUP else weight.reshape(rows, width // GROUP, GROUP)
    largest = np.abs(parts).max(axis=-1, keepdims=True)
    scales = np.where(largest == 0, 1, largest / 127).astype(np.float32)
    return np.rint(parts / scales).astype(np.int8), scales


def _name(graph: Any) -> None:
    """Give names that depend on the graph alone: OpenVINO's counters go on from one graph to the next, so the same model
    would be written in other bytes."""
    graph.set_friendly_name("model")
    for number, node in enumerate(graph.get_ordered_ops()):
        node.set_friendly_name(f"{node.get_type_name()}_{number}")
        for port in node.outputs():
            port.get_tensor().set_names(set())
    for name, port in zip((*_INPUTS, *_OUTPUTS), (*graph.inputs, *graph.outputs), strict=True):
        port.get_tensor().set_names({name})


# ---------------------------------------------------------------- what they give


def _describe(model: Any, folder: Path) -> None:
    """Compare the files' logits with the model's own, and keep them with the versions of the libraries.

    Raises:
        ModelError: if they are too far apart.
    """
    import torch

    with torch.inference_mode():
        wanted = int8.trial_logits(model)
    found = int8.trial_logits(int8.Int8Model(folder))
    if not (apart := int8.distance(found, wanted)) <= NEAR:  # NaN is not
        raise ModelError(
            f"The logits of '{type(model).__name__}' in int8 differ from those in fp32 by {apart:.2f} of their spread, {NEAR} "
            "is allowed. Set inference.precision to another format."
        )
    libraries = {name: version(name) for name in ("openvino", "torch", "transformers")}
    about = {"group": GROUP, "libraries": libraries, "distance": round(apart, 4), "logits": found.tolist()}
    (folder / int8.FOLDER / int8.ABOUT).write_text(json.dumps(about), encoding="utf-8")
