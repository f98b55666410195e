"""A model in int8 on a CPU, run by OpenVINO, behind the calls that a causal language model of transformers takes.

`int8_export` writes its files when a release is packaged: 8-bit weights with one scale for each group. Activations are
quantised in the same way at run time, all else is computed in fp32. Another version of OpenVINO or another processor may
run other kernels, so files are checked against their own logits when they are opened.
Not supported: GPUs, and rows longer than a sliding window.
"""

from __future__ import annotations

import importlib
import json
import logging
import math
import os
import sys
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from llmops_tasks.errors import ModelError
from llmops_tasks.models import layers

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
FOLDER, GRAPH, ABOUT = "openvino", "model.xml", "openvino.json"
SAME = 0.1  # `distance` allowed between the logits that the files give here and those they gave when they were written
_TRIAL = 16  # tokens that are run to compare logits
_COMPARED = slice(8, 16), slice(None, None, 61)  # positions, and token ids: every 61st keeps openvino.json small
_GROUP = 64  # activations with one scale


def library() -> Any:
    """OpenVINO, without its telemetry, which sends an event to an analytics server at every import.

    Raises:
        ModelError: if it is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # `import` then does not find it
    try:
        return importlib.import_module("openvino")
    except ImportError as exc:
        raise ModelError(
            "The number format int8 needs OpenVINO, which is not installed. Run 'pip install -r requirements-int8.txt -c "
            "constraints.txt', or set inference.precision to another format and package the release again."
        ) from exc


def load(folder: Path) -> tuple[Any, Any]:
    """A quantised model and its tokenizer, from a verified folder.

    Raises:
        ModelError: if OpenVINO or the files are missing, or the files give other logits than when they were written.
    """
    from transformers import AutoTokenizer

    model = Int8Model(folder)
    _check(model)
    return model, AutoTokenizer.from_pretrained(folder, local_files_only=True)


class Int8Model:
    """What `scoring`, `states` and `layers` call of a model of transformers."""

    def __init__(self, folder: Path) -> None:
        import torch
        from transformers import AutoConfig, GenerationConfig

        self.files, self._runtime = folder / FOLDER, library()
        if not (self.files / GRAPH).is_file():
            raise ModelError(
                f"This model has no int8 files ('{FOLDER}/{GRAPH}'). Set inference.precision to int8, and package the "
                "release again."
            )
        self.device = torch.device("cpu")
        self.config = AutoConfig.from_pretrained(folder, local_files_only=True)
        written = (folder / "generation_config.json").is_file()
        self.generation_config = GenerationConfig.from_pretrained(folder, local_files_only=True) if written else None
        self._longest = min(layers.window_of(self.config) or math.inf, layers.unscaled(self.config))

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Any = None,
        use_cache: bool = False,
        logits_to_keep: int | torch.Tensor = 0,
    ) -> SimpleNamespace:
        """As of a causal language model of transformers, on CPU tensors.

        Args:
            input_ids: (rows, time).
            attention_mask: (rows, cached and time), or (rows, 1, time, cached and time) of booleans; None: causal.
            position_ids: (rows, time); None: they go on from what is cached.
            past_key_values: a DynamicCache; it is extended if `use_cache`.
            use_cache: return the cache.
            logits_to_keep: columns, or the number of last ones; 0: all.

        Returns:
            `logits` (rows, columns, vocabulary) and `past_key_values`.

        Raises:
            ModelError: if a row is longer than the model's sliding window or its unscaled positions.
        """
        import torch

        rows, time = input_ids.shape
        past = self._past(past_key_values, rows)
        cached = past.shape[3]
        self._check_length(cached + time)
        positions = torch.arange(cached, cached + time).expand(rows, -1) if position_ids is None else position_ids
        mask, columns = _mask(attention_mask, rows, time, cached), torch.arange(time)[_columns(logits_to_keep)]
        graph = self._with_cache if use_cache else self._logits_alone
        given = (input_ids, positions.expand(rows, -1), mask, columns, past)
        found = [torch.from_numpy(part) for part in graph([part.contiguous().numpy() for part in given]).to_tuple()]
        cache = _extended(past_key_values, found[1]) if use_cache else None
        return SimpleNamespace(logits=found[0], past_key_values=cache)

    __call__ = forward

    def _past(self, cache: Any, rows: int) -> torch.Tensor:
        """Keys and values of all layers in one tensor, of `past_shape`."""
        import torch

        if cache is None or not cache.get_seq_length():
            return torch.zeros(past_shape(self.config, rows, 0))
        return torch.stack([part for layer in cache.layers for part in (layer.keys, layer.values)])

    def _check_length(self, length: int) -> None:
        if length > self._longest:
            raise ModelError(
                f"A row has {length} tokens; in int8 this model takes {self._longest}, its sliding window or its unscaled "
                "positions. Lower finetune.max_length, or set inference.precision to another format."
            )

    @cached_property
    def _with_cache(self) -> Any:
        return self._compiled(self._read())

    @cached_property
    def _logits_alone(self) -> Any:
        """Without keys and values as output: copying them takes time, and scoring does not need them."""
        graph = self._read()
        graph.remove_result(graph.output("kept").get_node())
        return self._compiled(graph)

    def _read(self) -> Any:
        return self._runtime.Core().read_model(self.files / GRAPH)

    def _compiled(self, graph: Any) -> Any:
        """What is not in int8 is in fp32, also where the processor has bf16: figures hold on every machine."""
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",
            "KV_CACHE_PRECISION": "f32",
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": str(_GROUP),
            "INFERENCE_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count() or 1)),
        }
        return self._runtime.Core().compile_model(graph, "CPU", settings)


def past_shape(config: Any, rows: int, cached: int) -> tuple[int, int, int, int, int]:
    """Of keys and values in one tensor: (keys and values of each layer, rows, heads, cached tokens, width of a head)."""
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return 2 * text.num_hidden_layers, rows, heads, cached, width


def _mask(given: torch.Tensor | None, rows: int, time: int, cached: int) -> torch.Tensor:
    """(rows, 1, time, cached and time), true where a position may look."""
    import torch

    if given is not None and given.dim() == 4:
        return given
    seen = torch.ones(time, cached + time, dtype=torch.bool).tril(cached).repeat(rows, 1, 1, 1)
    if given is None:
        return seen
    itself = torch.eye(time, cached + time, dtype=torch.bool).roll(cached, 1)  # padding, too: a softmax needs one place
    return seen & given.bool()[:, None, None, :] | itself


def _columns(kept: int | torch.Tensor) -> Any:
    """transformers' `logits_to_keep` as an index."""
    return slice(-kept if kept else None, None) if isinstance(kept, int) else kept


def _extended(cache: Any, kept: torch.Tensor) -> Any:
    """The cache with new keys and values, of `past_shape`."""
    from transformers import DynamicCache

    cache = DynamicCache() if cache is None else cache
    for number, (keys, values) in enumerate(zip(kept[::2], kept[1::2], strict=True)):
        cache.update(keys, values, number)
    return cache


# ---------------------------------------------------------------- the check when files are opened


def trial_logits(model: Any) -> torch.Tensor:
    """Logits of a fixed text, (positions, some token ids), of a quantised model or of one of transformers."""
    import torch

    tokens = torch.arange(_TRIAL).unsqueeze(0) * 37 % int(model.config.get_text_config().vocab_size)
    return model(input_ids=tokens).logits[0][_COMPARED]  # type: ignore[no-any-return]


def distance(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """Between logits, relative to their spread. Their mean does not count: a softmax does not depend on it."""
    found, wanted = found - found.mean(-1, keepdim=True), wanted - wanted.mean(-1, keepdim=True)
    return float((found - wanted).norm() / wanted.norm())


def _check(model: Int8Model) -> None:
    """Refuse files that give other logits here than where they were written.

    Raises:
        ModelError: with both versions of OpenVINO.
    """
    import torch

    about = json.loads((model.files / ABOUT).read_text(encoding="utf-8"))
    there, here = about["libraries"]["openvino"], version("openvino")
    remedy = f"Install openvino=={there}, or package the release again."
    try:
        apart = distance(trial_logits(model), torch.tensor(about["logits"]))
    except RuntimeError as exc:  # a graph of a later version has operations that an earlier one does not know
        raise ModelError(f"OpenVINO {here} cannot run the int8 files of OpenVINO {there}. {remedy}") from exc
    if not apart <= SAME:  # NaN is not
        raise ModelError(
            f"The int8 files were written by OpenVINO {there}. OpenVINO {here} on this processor gives other logits: they "
            f"differ by {apart:.2f} of their spread, {SAME} is allowed. {remedy}"
        )
    log.info("int8 files of OpenVINO %s, run by %s: logits differ by %.4f of their spread", there, here, apart)
