"""Attention over packed records by where they begin, without a mask of time x time: torch's `varlen_attn` on GPUs.

Flash attention computes each record's own triangle and nothing else, so a row that several records share costs what they
cost alone. It is registered with transformers' attention interface; nothing is fetched from a hub. What this does not
do: run on a CPU or in fp32, where the mask is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmops_tasks.models import hardware

if TYPE_CHECKING:
    import torch

NAME = "llmops_varlen"


@dataclass(frozen=True)
class Bounds:
    """Where records begin in rows that are laid end to end; padding is a record of its own."""

    starts: torch.Tensor  # (records + 1,), int32; the last is the number of positions
    longest: int  # tokens


def bounds(owners: torch.Tensor) -> Bounds:
    """From the number of the record that each position belongs to, (rows, time); neighbours with one number are one record
    if they share a row."""
    import torch

    flat = owners.flatten()
    new = torch.ones_like(flat, dtype=torch.bool)
    new[1:] = flat[1:] != flat[:-1]
    new[:: owners.shape[1]] = True
    starts = torch.cat([new.nonzero().flatten(), torch.tensor([len(flat)], device=flat.device)])
    return Bounds(starts.to(torch.int32), int((starts[1:] - starts[:-1]).max()))


def usable(model: Any) -> bool:
    """Whether the model's attention can be computed so: on a GPU, in 16 bits, without a window."""
    from llmops_tasks.models import layers

    half = model.get_input_embeddings().weight.element_size() == 2
    return hardware.device_type() == "cuda" and half and layers.window_of(model.config) is None


def use(model: Any) -> None:
    """Register the attention and let the model use it; layers that are given no bounds attend as by torch's SDPA."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    model.set_attn_implementation(NAME)


def attend(
    module: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attention_mask: torch.Tensor | None,
    scaling: float | None = None, bounds: Bounds | None = None, **options: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    """As transformers calls it.

    Args:
        module: the attention layer.
        query: (rows, heads, time, size of a head).
        key: (rows, heads or fewer, time, size of a head).
        value: as `key`.
        attention_mask: used only without bounds.
        scaling: of the scores.
        bounds: of the records.
        options: of the interface.

    Returns:
        (rows, time, heads, size of a head), and no weights.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if bounds is None:
        mixed, _ = sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **options)
        return mixed, None
    rows, heads, time, size = query.shape
    queries, keys, values = (
        part.transpose(1, 2).reshape(rows * time, part.shape[1], size) for part in (query, key, value)
    )
    return _varlen_attn(queries, keys, values, bounds, scaling).view(rows, time, heads, size), None


def _varlen_attn(query: Any, key: Any, value: Any, bounds: Bounds, scaling: float | None) -> Any:
    """(positions, heads, size of a head) of queries, keys and values to the same of the mixture; causal within a record."""
    from torch.nn.attention.varlen import varlen_attn

    starts, longest = bounds.starts, bounds.longest
    return varlen_attn(
        query, key, value, starts, starts, longest, longest, scale=scaling, window_size=(-1, 0), enable_gqa=True
    )
