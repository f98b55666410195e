"""Probabilities of a closed set of answers, by their tree: the prompt is computed once for all of them.

A model whose layers can be run one by one reads prompt and tree in one pass; so does a model in int8, by its own forward
pass, and any of both after a beginning that all prompts share. Another is run once over the prompts, then node by node,
on copies of its cache.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from llmops_tasks.errors import ModelError
from llmops_tasks.models import layers, tree_attention
from llmops_tasks.models.label_tree import ROOT, Scoring, Tree

if TYPE_CHECKING:
    import torch

    Known = list[tuple[torch.Tensor, torch.Tensor]]  # keys and values by layer: (1, heads, time, width)


def probabilities(asked: list[torch.Tensor], tree: Tree, scoring: Scoring) -> list[list[float]]:
    """Of each answer among all, one row a prompt.

    Args:
        asked: of each asked node, (prompts, following): logits among the tokens that follow; for whole texts
            log-probabilities of these among the vocabulary.
        tree: of the answers.
        scoring: what a probability is made of.

    Raises:
        ModelError: if the model's output is not a number.
    """
    import torch

    asked = [logits.cpu() for logits in asked]  # in 64 bits, which not all devices have
    if not all(logits.isfinite().all() for logits in asked):
        raise ModelError(
            "The model gives no numbers (NaN) as probabilities. Use another number format, or train it again."
        )
    if not scoring.whole_text:
        shares = [torch.softmax(logits.double(), dim=-1) for logits in asked]
        found: list[Any] = [math.prod(shares[node][:, token] for node, token in path) for path in tree.paths]
        return torch.stack(found, dim=1).tolist()
    found = [sum(asked[node][:, token] for node, token in path) for path in tree.paths]
    sums = torch.stack(found, dim=1)
    if scoring.length_normalised:
        sums = sums / torch.tensor(tree.lengths, device="cpu")
    return torch.softmax(sums, dim=-1).tolist()


def in_one_pass(model: Any, batch: list[torch.Tensor], tree: Tree, whole_text: bool, cut: int) -> list[torch.Tensor]:
    """What `probabilities` takes, from layers run one by one.

    Args:
        model: that passes `layers.can_cut`.
        batch: of each row the prompt and the tree's tokens after it: (time,), or states (time, width) that enter `cut`.
        tree: of the answers.
        whole_text: ask among the vocabulary.
        cut: layers that the states have behind them; 0: these are tokens.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    decoder, padded = model.model, pad_sequence(batch, batch_first=True).to(model.device)
    lengths, time = [len(row) - len(tree.tokens) for row in batch], padded.shape[1]
    states = decoder.embed_tokens(padded) if padded.dim() == 2 else padded
    layout = tree_attention.layout(tree, lengths, time)
    counted = tree_attention.counted(tree, lengths, time)
    states = decoder.norm(layers.run_layers_at(decoder, states, decoder.layers[cut:], counted, layout))
    if not tree.tokens and not whole_text:
        return [model.lm_head(states)[:, tree.following[0]]]
    nodes = states.view(len(batch), len(tree.asked), -1).unbind(1)
    if whole_text:
        return [_among_all(model.lm_head(at), after) for at, after in zip(nodes, tree.following, strict=True)]
    return [_among(model.lm_head, at, torch.tensor(after)) for at, after in zip(nodes, tree.following, strict=True)]


def _among(head: Any, states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Logits of some tokens, (rows, tokens); of a plain head nothing else is computed."""
    import torch

    if not isinstance(head, torch.nn.Linear):
        return head(states)[:, tokens]  # type: ignore[no-any-return]
    bias = None if head.bias is None else head.bias[tokens]
    return torch.nn.functional.linear(states, head.weight[tokens], bias)


def _among_all(logits: torch.Tensor, tokens: list[int]) -> torch.Tensor:
    """Log-probabilities of some tokens among the vocabulary, (rows, tokens)."""
    import torch

    chosen, whole = logits[:, tokens], torch.logsumexp(logits.float(), dim=-1, keepdim=True)
    return chosen.cpu().double() - whole.cpu().double()


# ---------------------------------------------------------------- by the model's own forward pass


def read(model: Any, beginning: list[int]) -> Known:
    """Keys and values of a beginning, by a model that caches nothing else."""
    import torch

    cache = model(input_ids=torch.tensor([beginning]), use_cache=True, logits_to_keep=1).past_key_values
    return [(layer.keys, layer.values) for layer in cache.layers]


def in_one_call(
    model: Any, batch: list[torch.Tensor], tree: Tree, whole_text: bool, known: Known
) -> list[torch.Tensor]:
    """What `probabilities` takes, from a model that is run whole and takes a mask for each row.

    Args:
        model: a causal language model, each layer of which looks at all that came before.
        batch: of each row the prompt without the beginning, and the tree's tokens after it: (time,).
        tree: of the answers.
        whole_text: ask among the vocabulary.
        known: the beginning that all rows share; it may be empty.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    padded = pad_sequence(batch, batch_first=True).to(model.device)
    (rows, time), lengths = padded.shape, [len(row) - len(tree.tokens) for row in batch]
    layout, counted = tree_attention.layout(tree, lengths, time), tree_attention.counted(tree, lengths, time)
    columns, given = counted.any(0).nonzero().flatten(), {"past_key_values": _expanded(known, rows)}
    if layout.mask is not None and layout.positions is not None:  # else causal, as always
        before = torch.ones(rows, 1, time, known[0][0].shape[2] if known else 0, dtype=torch.bool)
        given["attention_mask"] = torch.cat([before, layout.mask], dim=-1)
        given["position_ids"] = before.shape[-1] + layout.positions
    logits = model(input_ids=padded, use_cache=False, logits_to_keep=columns, **given).logits[counted[:, columns]]
    nodes = logits.view(rows, len(tree.asked), -1).unbind(1)
    ask = _among_all if whole_text else lambda at, after: at[:, after]
    return [ask(at, after) for at, after in zip(nodes, tree.following, strict=True)]


def _expanded(known: Known, rows: int) -> Any:
    """A cache of so many rows that begin alike."""
    from transformers import DynamicCache

    cache = DynamicCache()
    for number, (keys, values) in enumerate(known):
        cache.update(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1), number)
    return cache if known else None


def by_forward(model: Any, batch: list[torch.Tensor], tree: Tree, whole_text: bool) -> list[torch.Tensor]:
    """What `probabilities` takes, from a model that is run whole.

    Args:
        model: any causal language model; it keeps a cache if answers part after their first token.
        batch: tokens of each prompt, (time,).
        tree: of the answers.
        whole_text: ask among the vocabulary.

    Raises:
        ModelError: if it keeps none.
    """
    after, found = dict(zip(tree.asked, tree.following, strict=True)), []
    for node, logits in _node_logits(model, batch, tree) if tree.tokens else [(ROOT, _last_logits(model, batch))]:
        if node in after:
            found.append(_among_all(logits, after[node]) if whole_text else logits[:, after[node]])
    return found


def _last_logits(model: Any, batch: list[torch.Tensor]) -> torch.Tensor:
    """Logits (batch, vocabulary) after each prompt's last token. Padding is on the right, where causal attention
    never looks, so no mask is needed."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    padded = pad_sequence(batch, batch_first=True).to(model.device)
    last = torch.tensor([len(prompt) - 1 for prompt in batch])
    return layers.logits_at(model, padded, torch.arange(padded.shape[1]) == last.unsqueeze(1))


def _node_logits(model: Any, batch: list[torch.Tensor], tree: Tree) -> Iterator[tuple[int, torch.Tensor]]:
    """Every node with its logits (batch, vocabulary), one after the other. Prompts are padded on the left, so that all branches begin in
    one column; of caches only those live that a branch still starts from."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    tokens = pad_sequence(batch, batch_first=True, padding_side="left").to(model.device)
    lengths = torch.tensor([len(prompt) for prompt in batch]).unsqueeze(1)
    seen = torch.arange(tokens.shape[1]) >= tokens.shape[1] - lengths
    logits, cache = _step(model, tokens, seen, (seen.cumsum(1) - 1).clamp(min=0), None)
    yield ROOT, logits
    caches = {ROOT: cache}
    for node, (token, parent, depth) in enumerate(zip(tree.tokens, tree.parents, tree.depths, strict=True)):
        last = parent not in tree.parents[node + 1 :]
        begun = caches.pop(parent) if last else copy.deepcopy(caches[parent])
        looked = torch.cat([seen, torch.ones(len(batch), depth + 1, dtype=torch.bool)], dim=1)
        logits, cache = _step(model, torch.full_like(lengths, token), looked, lengths + depth, begun)
        yield node, logits
        caches |= {node: cache} if node in tree.parents else {}


def _step(
    model: Any, tokens: torch.Tensor, seen: torch.Tensor, positions: torch.Tensor, cache: Any
) -> tuple[torch.Tensor, Any]:
    """Logits after the last of some tokens, and the cache with these tokens."""
    known = inspect.signature(model.forward).parameters
    more = {"position_ids": positions, "logits_to_keep": 1}
    more = {name: value for name, value in more.items() if name in known}
    found = model(input_ids=tokens, attention_mask=seen.long(), past_key_values=cache, use_cache=True, **more)
    if getattr(found, "past_key_values", None) is None:
        raise ModelError(
            "This model keeps no cache, so answers that begin alike cannot be scored by it. Give the labels texts that "
            "differ in their first word."
        )
    return found.logits[:, -1], found.past_key_values
