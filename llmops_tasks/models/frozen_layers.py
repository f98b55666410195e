"""The frozen lower layers, run once over a dataset; their output is what the top layers work on.

The output is kept in content-addressed shards of consecutive records, shared by epochs, runs, datasets that grow at
their end, and every model with the same lower layers: a base model and what was fine-tuned from it above the cut. What
this does not do: hold where the frozen layers change (full fine-tuning, dropout below the cut).
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks.models import label_tree, tree_attention
from llmops_tasks.models.label_tree import Tree
from llmops_tasks.models.layers import run_layers
from llmops_tasks.store import artifacts, digests, retention
from llmops_tasks.store.sources import code_digest

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
SHARD = 128  # records
ROWS = 16  # records at once: always as many, as the last digits follow from their padding
KEEP_DAYS = 30  # a shard that was not used for so long is dropped
# Settings that say where a model came from or how much of it there is, not what its lower layers compute.
_ELSEWHERE = ("_name_or_path", "architectures", "dtype", "torch_dtype", "transformers_version", "use_cache")


@dataclass(frozen=True)
class Shared:
    """Where the frozen layers' output is kept, how many layers it has, and how much of it may be kept by one model (GiB)."""

    usecase: str
    cut: int
    most_gib: float = math.inf


_NO_TREE = label_tree.build([[0]])


def gib(model: Any, tokens: int) -> float:
    """Disk that the output for so many tokens takes, in GiB: 8 KiB a token at a width of 4,096 in bf16."""
    width = model.config.get_text_config().hidden_size
    return float(tokens * width * model.get_input_embeddings().weight.element_size() / 2**30)


def _nothing() -> None:
    pass


def activations(
    *,
    model: Any,
    shared: Shared,
    sequences: list[list[int]],
    tree: Tree = _NO_TREE,
    after_shard: Callable[[], None] = _nothing,
) -> list[torch.Tensor]:
    """Every sequence's hidden states entering layer `shared.cut`: tensors (time, width), memory-mapped from the store.

    Args:
        model: a causal LM that passes `layers.can_cut`.
        shared: where they are kept, and the cut.
        sequences: token ids; none empty.
        tree: whose tokens follow each sequence, with states of their own.
        after_shard: called whenever some records are done.
    """
    result: list[torch.Tensor] = []
    shards = list(_shards(model, shared.cut, sequences, tree))
    needed = [artifacts.address(shared.usecase, "activations", digests.digest(inputs)) for inputs, _ in shards]
    retention.drop_unused(usecase=shared.usecase, kind="activations", days=KEEP_DAYS, needed=needed)
    for inputs, shard in shards:
        build = partial(_run_shard, model, shared.cut, tree, shard)
        ref = artifacts.publish(usecase=shared.usecase, kind="activations", inputs=inputs, build=build)
        retention.mark_used(ref)
        result += _read_shard(artifacts.fetch(ref), [len(sequence) + len(tree.tokens) for sequence in shard])
        log.info("frozen layers: %d of %d records", len(result), len(sequences))
        after_shard()
    return result


def missing(*, model: Any, shared: Shared, sequences: list[list[int]]) -> int:
    """Tokens whose states are not kept yet."""
    places = (
        (artifacts.address(shared.usecase, "activations", digests.digest(inputs)), shard)
        for inputs, shard in _shards(model, shared.cut, sequences)
    )
    return sum(sum(map(len, shard)) for place, shard in places if artifacts.at(place) is None)


def _shards(
    model: Any, cut: int, sequences: list[list[int]], tree: Tree = _NO_TREE
) -> Iterator[tuple[dict[str, Any], list[list[int]]]]:
    """Consecutive sequences, with all that their states follow from."""
    source: dict[str, Any] = {"trunk": _digest(model, cut), "libraries": _libraries()}
    source["code"] = code_digest(__name__, "llmops_tasks.models.onednn")
    source |= {"tree": [tree.tokens, tree.parents]} if tree.tokens else {}
    for start in range(0, len(sequences), SHARD):
        shard = sequences[start : start + SHARD]
        yield source | {"tokens": shard}, shard


def _libraries() -> dict[str, str]:
    """Another version may compute other last digits: what one run learns from is of one version throughout."""
    return {name: version(name) for name in ("torch", "transformers", "peft", "bitsandbytes") if find_spec(name)}


def _digest(model: Any, cut: int) -> str:
    """SHA-256 of all that the frozen layers' output follows from: settings, embeddings and the layers below the cut."""
    import torch

    settings = {name: value for name, value in model.config.to_dict().items() if name not in _ELSEWHERE}
    whole = hashlib.sha256(digests.canonical({"settings": settings, "cut": cut}))
    for part in (model.model.embed_tokens, *model.model.layers[:cut]):
        for name, value in sorted(part.state_dict().items()):
            whole.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
            whole.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return whole.hexdigest()


def _run_shard(model: Any, cut: int, tree: Tree, shard: list[list[int]], out: Path) -> dict[str, Any]:
    import torch
    from safetensors.torch import save_file
    from torch.nn.utils.rnn import pad_sequence

    model.eval()  # a probe may have trained before: dropout must not enter the cache
    order = sorted(range(len(shard)), key=lambda index: len(shard[index]))
    hidden: dict[int, torch.Tensor] = {}
    with torch.inference_mode():
        for at in range(0, len(order), ROWS):
            chosen = order[at : at + ROWS]
            rows = [torch.tensor(shard[index] + tree.tokens) for index in chosen]
            tokens = pad_sequence(rows, batch_first=True).to(model.device)
            layout = tree_attention.layout(tree, [len(shard[index]) for index in chosen], tokens.shape[1])
            states = run_layers(model.model, model.model.embed_tokens(tokens), model.model.layers[:cut], layout).cpu()
            hidden |= {index: states[row, : len(rows[row])] for row, index in enumerate(chosen)}
    save_file({"hidden": torch.cat([hidden[index] for index in range(len(shard))])}, out / "hidden.safetensors")
    return {"rows": len(shard), "tokens": sum(map(len, shard))}


def _read_shard(folder: Path, lengths: list[int]) -> list[torch.Tensor]:
    from safetensors.torch import load_file

    flat = load_file(folder / "hidden.safetensors")["hidden"]
    return list(flat.split(lengths))
