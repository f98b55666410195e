"""A decoder's layers run one by one, and logits at the positions that are wanted and no others.

Sequences are padded on the right and attention is causal, so no real position ever sees padding and no mask is needed:
results are those of the whole model. Not every model can be run so: `can_cut` tries it. One that cannot is run whole, by
its own forward pass.
"""

from __future__ import annotations

import inspect
import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks.errors import ModelError
from llmops_tasks.models.varlen import Bounds

if TYPE_CHECKING:
    import torch
    from torch import nn

log = logging.getLogger(__name__)
_PARTS = ("embed_tokens", "layers", "norm", "rotary_emb")
_FULL = {"full_attention", "sliding_attention"}  # within the window both look at all that came before
_DROPOUT = re.compile(r"^(?!classifier|summary).*(dropout(_prob|_rate)?|pdrop|layerdrop|jitter\w*)$")
_LIKE_LLAMA = {f"{family}{part}" for family in ("Llama", "Mistral", "Qwen2") for part in ("Attention", "DecoderLayer")}
_WINDOW = re.compile(r"(window|chunk)(_size)?$")  # settings that say how far back a layer looks


@dataclass(frozen=True)
class Layout:
    """How the records of a batch lie in its rows; by default one record a row, from its first token."""

    positions: torch.Tensor | None = None  # (rows, time) within the record
    mask: torch.Tensor | None = None  # (rows, 1, time, time), true where a position may look; None: causal
    bounds: Bounds | None = None  # of the records, in place of a mask
    recompute: bool = False  # keep no layer's inside for the backward pass: less memory, a third more time


_ROWS = Layout()


def run_layers(decoder: Any, hidden: torch.Tensor, layers: nn.ModuleList, layout: Layout = _ROWS) -> torch.Tensor:
    """Send hidden states of shape (rows, time, width) through some of a decoder's layers."""
    import torch
    from torch.utils.checkpoint import checkpoint

    positions = _positions(hidden, layout)
    rotary = decoder.rotary_emb(hidden, positions)
    options = {"attention_mask": layout.mask, "position_ids": positions, "position_embeddings": rotary}
    options |= {"bounds": layout.bounds} if layout.bounds else {}
    for layer in layers:
        if layout.recompute and torch.is_grad_enabled():
            hidden = checkpoint(layer, hidden, use_reentrant=False, **options)
        else:
            hidden = layer(hidden, **options)
    return hidden


def _positions(hidden: torch.Tensor, layout: Layout) -> torch.Tensor:
    import torch

    return (
        torch.arange(hidden.shape[1], device=hidden.device).unsqueeze(0)
        if layout.positions is None
        else layout.positions
    )


def run_layers_at(
    decoder: Any, hidden: torch.Tensor, layers: nn.ModuleList, counted: torch.Tensor, layout: Layout = _ROWS
) -> Any:
    """Like `run_layers`, for some positions only: of the last layer nothing else is computed.

    Args:
        decoder: whose rotary embedding is used.
        hidden: states of shape (rows, time, width).
        layers: to run; at least one.
        counted: (rows, time), true at the positions that are wanted.
        layout: of the records in the rows.

    Returns:
        States of shape (counted positions, width), in order of row and time.
    """
    hidden = run_layers(decoder, hidden, layers[:-1], layout)
    if layout.bounds or not _is_plain(layers[-1]):
        return run_layers(decoder, hidden, layers[-1:], layout)[counted]
    cos, sin = decoder.rotary_emb(hidden, _positions(hidden, layout))
    rows = hidden.shape[0]
    return _last_layer(layers[-1], hidden, counted, cos.expand(rows, -1, -1), sin.expand(rows, -1, -1), layout.mask)


def _is_plain(layer: Any) -> bool:
    """Is it a Llama's, or one that computes what a Llama's does, and made of its parts and no others?"""
    if not {type(layer).__name__, type(getattr(layer, "self_attn", None)).__name__} <= _LIKE_LLAMA:
        return False
    parts = {name for name, _ in layer.named_children()}
    inside = {name for name, _ in layer.self_attn.named_children()} if "self_attn" in parts else set()
    known = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
    return parts == known and inside == {"q_proj", "k_proj", "v_proj", "o_proj"}


def _last_layer(
    layer: Any,
    hidden: torch.Tensor,
    counted: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    mask: torch.Tensor | None,
) -> Any:
    """One layer at the counted positions: they look at all keys that they may see."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention
    from transformers.models.llama.modeling_llama import rotate_half

    attention, normed = layer.self_attn, layer.input_layernorm(hidden)
    most = int(counted.sum(1).max())
    # counted places first; what fills up is dropped in the end
    places = (~counted).int().argsort(dim=1, stable=True)[:, :most]

    def at(states: torch.Tensor) -> torch.Tensor:
        return states.gather(1, places.unsqueeze(-1).expand(-1, -1, states.shape[-1]))

    def heads(states: torch.Tensor) -> torch.Tensor:
        return states.view(*states.shape[:-1], -1, attention.head_dim).transpose(1, 2)

    def rotate(states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> Any:
        return states * cos.unsqueeze(1) + rotate_half(states) * sin.unsqueeze(1)

    queries, keys = heads(attention.q_proj(at(normed))), heads(attention.k_proj(normed))
    queries, keys = rotate(queries, at(cos), at(sin)), rotate(keys, cos, sin)
    if mask is None:
        seen = torch.arange(hidden.shape[1], device=hidden.device) <= places[:, None, :, None]
    else:
        seen = at(mask[:, 0]).unsqueeze(1)
    mixed = scaled_dot_product_attention(
        queries, keys, heads(attention.v_proj(normed)), attn_mask=seen, scale=attention.scaling, enable_gqa=True
    )
    states = at(hidden) + attention.o_proj(mixed.transpose(1, 2).flatten(2))
    states = states + layer.mlp(layer.post_attention_layernorm(states))
    return states[counted.gather(1, places)]


def can_cut(model: Any, longest: int) -> bool:
    """Do its layers, run one by one, give what the model gives, for sequences of up to `longest` tokens?

    Tried on one sequence of that length: what a model's settings and parts are called promises too much. Where a layer
    looks back less far than that, no trial is needed.
    """
    if longest > unscaled(model.config):
        log.info("rotary embeddings follow the longest record: the model is run whole")
        return False
    window = window_of(model.config)
    if window is not None and window < longest:
        log.info("layers look back %d tokens, the longest record has %d: the model is run whole", window, longest)
        return False
    try:
        return _same_alone(model, longest)
    except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as exc:  # another kind of layer
        log.info("layers cannot be run one by one (%s): the model is run whole", type(exc).__name__)
        return False


def count(folder: Path) -> int:
    """How many layers the model in a folder has."""
    from transformers import AutoConfig

    return int(AutoConfig.from_pretrained(folder, local_files_only=True).get_text_config().num_hidden_layers)


def unscaled(config: Any) -> float:
    """Tokens up to which positions do not depend on how long the longest record of a batch is."""
    scaling = getattr(config.get_text_config(), "rope_parameters", None) or {}
    if scaling.get("rope_type") not in ("dynamic", "longrope"):
        return math.inf
    known = scaling.get("original_max_position_embeddings") or getattr(config, "original_max_position_embeddings", 0)
    return float(known or config.get_text_config().max_position_embeddings)


def check_context(config: Any, longest: int) -> None:
    """Refuse what is longer than the model looks at.

    Raises:
        ModelError: with both numbers of tokens.
    """
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    if context and longest > context:
        raise ModelError(
            f"A prompt with its answer has {longest} tokens, the model's context is {context}. Shorten the text, or lower "
            "max_length."
        )


def has_dropout(config: Any) -> bool:
    """Do the settings ask for dropout or other noise within the model, beside that of LoRA's matrices?"""
    return any(_DROPOUT.search(name) and value for name, value in config.to_dict().items())


def window_of(config: Any) -> int | None:
    """Tokens that the shortest-sighted layer looks back, as the settings name it; None where they name no window."""
    sizes = [size for name, size in config.to_dict().items() if _WINDOW.search(name) and isinstance(size, int)]
    return min((size for size in sizes if size > 0), default=None)


def _same_alone(model: Any, length: int) -> bool:
    import torch

    decoder: Any = getattr(model, "model", None)
    kinds = set(getattr(model.config, "layer_types", None) or ())
    if not (kinds <= _FULL and all(hasattr(decoder, part) for part in _PARTS)):
        return False
    vocabulary = model.get_input_embeddings().num_embeddings
    tokens = (torch.arange(length, device=model.device) % vocabulary).unsqueeze(0)
    counted = torch.zeros_like(tokens, dtype=torch.bool)
    counted[:, :8] = counted[:, -8:] = True
    with torch.inference_mode():
        whole = logits_at(model, tokens, counted)
        states = run_layers_at(decoder, decoder.embed_tokens(tokens), decoder.layers, counted)
        found = model.lm_head(decoder.norm(states))
    if whole.dtype != torch.float32:  # rounded in another order
        return bool((found - whole).float().norm() <= 0.02 * whole.float().norm())
    return bool(torch.allclose(found, whole, rtol=1e-3, atol=1e-4, equal_nan=True))


def logits_at(model: Any, tokens: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Logits of the model's own forward pass, at some positions.

    Args:
        model: any causal language model.
        tokens: (rows, time), padded on the right.
        counted: (rows, time), true at the positions that are wanted.

    Returns:
        (counted positions, vocabulary), in order of row and time.
    """
    columns = counted.any(0).nonzero().flatten()
    if "logits_to_keep" not in inspect.signature(model.forward).parameters:
        return model(input_ids=tokens, use_cache=False).logits[counted]  # type: ignore[no-any-return]
    logits = model(input_ids=tokens, use_cache=False, logits_to_keep=columns).logits
    return logits[counted[:, columns]]  # type: ignore[no-any-return]
