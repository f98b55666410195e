"""What a model has read of several texts, so that each further token costs one position: keys and values of its layers.

Rows come and go while others go on. They are aligned on the right, so that the newest token of all stands in one column,
as where a batch is padded on the left; every row has positions of its own, and a mask hides what stands before it.
What this does not do: models whose layers keep anything else than keys and values (state space models).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from llmops_tasks.errors import ModelError

if TYPE_CHECKING:
    import torch

    Layers = list[tuple[torch.Tensor, torch.Tensor]]  # keys and values by layer: (rows, heads, time, width)


class States:
    """Rows of keys and values, after a beginning that all of them share."""

    def __init__(self, model: Any, beginning: list[int]) -> None:
        """Read the beginning once; it may be empty.

        Raises:
            ModelError: if the model keeps anything else of what it has read.
        """
        _check(model)
        self._model = model
        self._some_logits = "logits_to_keep" in inspect.signature(model.forward).parameters
        self._beginning: Layers = []
        self._layers: Layers = []
        self.lengths: list[int] = []  # tokens read, by row
        if beginning:
            self._beginning = self._read([beginning])[1]

    def add(self, texts: list[list[int]]) -> torch.Tensor:
        """Read new rows.

        Args:
            texts: what follows the beginning, a token at least.

        Returns:
            Logits (new rows, vocabulary) after the last token of each.
        """
        import torch

        logits, read = self._read(texts)
        lengths = [self._known() + len(text) for text in texts]
        read = [tuple(_on_the_right(part, torch.tensor(lengths)) for part in layer) for layer in read]  # type: ignore[misc]
        self.lengths += lengths
        self._layers = [_below(old, new) for old, new in zip(self._layers, read, strict=True)] if self._layers else read
        return logits

    def step(self, tokens: list[int]) -> torch.Tensor:
        """Read one more token in every row; logits (rows, vocabulary) after it."""
        import torch

        positions = torch.tensor(self.lengths).unsqueeze(1)
        longest = max(self.lengths)
        past = [(keys[:, :, -longest:], values[:, :, -longest:]) for keys, values in self._layers]
        mask = torch.arange(longest + 1) >= longest - positions
        logits, self._layers = self._forward(torch.tensor(tokens).unsqueeze(1), mask, positions, past, [0])
        self.lengths = [length + 1 for length in self.lengths]
        return logits[:, 0]

    def keep(self, rows: list[int]) -> None:
        """Forget all other rows."""
        if len(rows) < len(self.lengths):
            self.lengths = [self.lengths[row] for row in rows]
            self._layers = [(keys[rows], values[rows]) for keys, values in self._layers] if rows else []

    def _known(self) -> int:
        return int(self._beginning[0][0].shape[2]) if self._beginning else 0

    def _read(self, texts: list[list[int]]) -> tuple[torch.Tensor, Layers]:
        """Read texts after the beginning, padded on the right, where causal attention never looks."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        tokens = pad_sequence([torch.tensor(text) for text in texts], batch_first=True)
        known, (rows, time) = self._known(), tokens.shape
        last = [len(text) - 1 for text in texts]
        past = [(keys.expand(rows, -1, -1, -1), values.expand(rows, -1, -1, -1)) for keys, values in self._beginning]
        mask = torch.arange(known + time) <= known + torch.tensor(last).unsqueeze(1)
        positions = torch.arange(known, known + time).expand(rows, -1)
        wanted = sorted(set(last))
        logits, layers = self._forward(tokens, mask, positions, past, wanted)
        return logits[torch.arange(rows), [wanted.index(column) for column in last]], layers

    def _forward(
        self, tokens: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, past: Layers, columns: list[int]
    ) -> tuple[torch.Tensor, Layers]:
        """Logits (rows, columns, vocabulary), and all keys and values up to here."""
        import torch
        from transformers import DynamicCache

        cache = DynamicCache()
        for number, (keys, values) in enumerate(past):
            cache.update(keys, values, number)
        more = {"logits_to_keep": torch.tensor(columns)} if self._some_logits else {}
        given = {"attention_mask": mask.long(), "position_ids": positions, "past_key_values": cache}
        logits = self._model(input_ids=tokens, use_cache=True, **given, **more).logits
        kept = [(layer.keys, layer.values) for layer in cache.layers]
        return logits if self._some_logits else logits[:, columns], kept


def _check(model: Any) -> None:
    from transformers import DynamicCache

    takes = "past_key_values" in inspect.signature(model.forward).parameters
    stateful = getattr(model, "_is_stateful", False) or any(DynamicCache(config=model.config).is_linear)
    if stateful or not takes:
        raise ModelError(
            f"'{type(model).__name__}' keeps more than keys and values of what it has read, so several answers cannot be "
            "written at once. Use another base model."
        )


def _on_the_right(states: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Rows (rows, heads, time, width) that are padded on the right, padded on the left."""
    import torch

    time = states.shape[2]
    places = (torch.arange(time) + lengths.unsqueeze(1)) % time
    return states.gather(2, places[:, None, :, None].expand_as(states))


def _below(old: tuple[torch.Tensor, torch.Tensor], new: tuple[torch.Tensor, torch.Tensor]) -> Any:
    """Two batches as one; the shorter is padded on the left."""
    import torch
    from torch.nn.functional import pad

    time = max(old[0].shape[2], new[0].shape[2])
    return tuple(
        torch.cat([pad(part, (0, 0, time - part.shape[2], 0)) for part in parts])
        for parts in zip(old, new, strict=True)
    )
