"""The frozen lower layers ("trunk"), run once over a dataset; their output is what the top layers work on.

Sequences are padded on the right and attention is causal, so no real position ever sees padding and no
mask is needed: results are those of the whole model. The output is kept in content-addressed shards of
consecutive records, shared by epochs, runs, datasets that grow at their end, and every model with the same
lower layers: a base model and what was fine-tuned from it above the cut. What this does not do: hold where
the trunk changes (full fine-tuning, dropout below the cut).
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks.errors import ModelError
from llmops_tasks.store import artifacts, digests
from llmops_tasks.store.sources import code_digest

if TYPE_CHECKING:
    import torch
    from torch import nn

log = logging.getLogger(__name__)
SHARD = 128  # records
ROWS = 16  # records at once: always as many, as the last digits follow from their padding
KEEP_DAYS = 30  # a shard that nobody needed for so long is dropped
# Settings that say where a model came from or how much of it there is, not what its lower layers compute.
_ELSEWHERE = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache")


@dataclass(frozen=True)
class Shared:
    """Where a trunk's output is kept, and how many layers it has."""

    usecase: str
    cut: int


@dataclass(frozen=True)
class Layout:
    """How the records of a batch lie in its rows; by default one record a row, from its first token."""

    positions: torch.Tensor | None = None  # (rows, time) within the record
    mask: torch.Tensor | None = None  # (rows, 1, time, time), true where a position may look; None: causal
    recompute: bool = False  # keep no layer's inside for the backward pass: less memory, a third more time


_ROWS = Layout()


def run_layers(decoder: Any, hidden: torch.Tensor, layers: nn.ModuleList, layout: Layout = _ROWS) -> torch.Tensor:
    """Send hidden states of shape (rows, time, width) through some of a decoder's layers."""
    import torch
    from torch.utils.checkpoint import checkpoint

    positions = _positions(hidden, layout)
    rotary = decoder.rotary_emb(hidden, positions)
    options = {"attention_mask": layout.mask, "position_ids": positions, "position_embeddings": rotary}
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
    if not _is_plain(layers[-1]):
        return run_layers(decoder, hidden, layers[-1:], layout)[counted]
    cos, sin = decoder.rotary_emb(hidden, _positions(hidden, layout))
    rows = hidden.shape[0]
    return _last_layer(layers[-1], hidden, counted, cos.expand(rows, -1, -1), sin.expand(rows, -1, -1), layout.mask)


def _is_plain(layer: Any) -> bool:
    """Is it made of a Llama's parts and no others (no norms of queries, no second norms)?"""
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


def check_architecture(model: Any) -> None:
    """Refuse models whose layers cannot be run one by one.

    Raises:
        ModelError: naming what was found.
    """
    if not can_cut(model):
        kinds = sorted(set(getattr(model.config, "layer_types", None) or ["full_attention"]))
        raise ModelError(
            f"'{model.config.model_type}' with {kinds} cannot be split. Allowed: decoders of the Llama kind "
            "(one rotary embedding, full attention in every layer)."
        )


def can_cut(model: Any) -> bool:
    """Do its layers, run one by one, give what the model gives? Tried on a few tokens: names promise too much."""
    import torch

    decoder: Any = getattr(model, "model", None)
    kinds = set(getattr(model.config, "layer_types", None) or ["full_attention"])
    parts = ("embed_tokens", "layers", "norm", "rotary_emb")
    if kinds != {"full_attention"} or not all(hasattr(decoder, part) for part in parts):
        return False
    tokens = torch.arange(8, device=model.device).unsqueeze(0)
    with torch.inference_mode():
        whole = model(input_ids=tokens, use_cache=False).logits[0]
        counted = torch.ones_like(tokens, dtype=torch.bool)
        states = run_layers_at(decoder, decoder.embed_tokens(tokens), decoder.layers, counted)
        found = model.lm_head(decoder.norm(states))
    return bool(torch.allclose(found, whole, rtol=1e-3, atol=1e-4, equal_nan=True))


def activations(*, model: Any, shared: Shared, sequences: list[list[int]]) -> list[torch.Tensor]:
    """Every sequence's hidden states entering layer `shared.cut`: tensors (time, width), memory-mapped from the store.

    Args:
        model: a causal LM that passes `check_architecture`.
        shared: where they are kept, and the cut.
        sequences: token ids; none empty.
    """
    result: list[torch.Tensor] = []
    shards = list(_shards(model, shared.cut, sequences))
    needed = [artifacts.address(shared.usecase, "activations", digests.digest(inputs)) for inputs, _ in shards]
    artifacts.drop_unused(usecase=shared.usecase, kind="activations", days=KEEP_DAYS, needed=needed)
    for inputs, shard in shards:
        build = partial(_run_shard, model, shared.cut, shard)
        ref = artifacts.publish(usecase=shared.usecase, kind="activations", inputs=inputs, build=build)
        artifacts.mark_used(ref)
        result += _read_shard(artifacts.fetch(ref), shard)
        log.info("trunk: %d of %d records", len(result), len(sequences))
    return result


def missing(*, model: Any, shared: Shared, sequences: list[list[int]]) -> int:
    """Tokens whose states are not kept yet."""
    places = (
        (artifacts.address(shared.usecase, "activations", digests.digest(inputs)), shard)
        for inputs, shard in _shards(model, shared.cut, sequences)
    )
    return sum(sum(map(len, shard)) for place, shard in places if artifacts.at(place) is None)


def _shards(model: Any, cut: int, sequences: list[list[int]]) -> Iterator[tuple[dict[str, Any], list[list[int]]]]:
    """Consecutive sequences, with all that their states follow from."""
    weights = _digest(model, cut)
    for start in range(0, len(sequences), SHARD):
        shard = sequences[start : start + SHARD]
        yield {"trunk": weights, "tokens": shard, "code": code_digest(__name__, "llmops_tasks.models.onednn")}, shard


def _digest(model: Any, cut: int) -> str:
    """SHA-256 of all that a trunk's output follows from: settings, embeddings and the layers below the cut."""
    import torch

    settings = {name: value for name, value in model.config.to_dict().items() if name not in _ELSEWHERE}
    whole = hashlib.sha256(digests.canonical({"settings": settings, "cut": cut}))
    for part in (model.model.embed_tokens, *model.model.layers[:cut]):
        for name, value in sorted(part.state_dict().items()):
            whole.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            whole.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return whole.hexdigest()


def _run_shard(model: Any, cut: int, shard: list[list[int]], out: Path) -> dict[str, Any]:
    import torch
    from safetensors.torch import save_file
    from torch.nn.utils.rnn import pad_sequence

    order = sorted(range(len(shard)), key=lambda index: len(shard[index]))
    hidden: dict[int, torch.Tensor] = {}
    with torch.inference_mode():
        for at in range(0, len(order), ROWS):
            chosen = order[at : at + ROWS]
            tokens = pad_sequence([torch.tensor(shard[index]) for index in chosen], batch_first=True).to(model.device)
            states = run_layers(model.model, model.model.embed_tokens(tokens), model.model.layers[:cut]).cpu()
            hidden |= {index: states[row, : len(shard[index])] for row, index in enumerate(chosen)}
    save_file({"hidden": torch.cat([hidden[index] for index in range(len(shard))])}, out / "hidden.safetensors")
    return {"rows": len(shard), "tokens": sum(map(len, shard))}


def _read_shard(folder: Path, shard: list[list[int]]) -> list[torch.Tensor]:
    from safetensors.torch import load_file

    flat = load_file(folder / "hidden.safetensors")["hidden"]
    return list(flat.split(list(map(len, shard))))
