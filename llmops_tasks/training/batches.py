"""Records to tensors: padded side by side, or packed into rows that several records share.

Packed records do not see each other: the mask keeps every position within its own record, and positions count from
the record's beginning. So loss and gradients are those of the padded batch. Source: Krell et al. 2021,
"Efficient Sequence Packing without Cross-contamination".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from llmops_tasks.models.varlen import Bounds, bounds
from llmops_tasks.training.examples import IGNORED, Example

if TYPE_CHECKING:
    import torch


RAGGED = 0.1  # share of padding from which records are packed: below, there is less to win than a packed row costs


@dataclass(frozen=True)
class Batch:
    """Rows of equal length."""

    tokens: torch.Tensor  # (rows, time), 0 where padded
    labels: torch.Tensor  # (rows, time), IGNORED where no loss falls
    states: torch.Tensor | None  # (rows, time, width): what enters the trained layers; None: the tokens do
    positions: torch.Tensor | None = None  # (rows, time) within the record; None: 0, 1, 2, ...
    mask: torch.Tensor | None = None  # (rows, 1, time, time), true where a position may look; None: causal
    bounds: Bounds | None = None  # of packed records, in place of a mask


def assemble(
    examples: list[Example],
    hidden: list[torch.Tensor] | None,
    capacity: int | None = None,
    device: str = "cpu",
    masked: bool = True,
) -> Batch:
    """Put records together.

    Args:
        examples: at least one.
        hidden: of every record, states (time, width), or None.
        capacity: tokens a row; records share rows. None: one record a row.
        device: where the tensors go.
        masked: records that share a row are kept apart by a mask; else by their bounds.
    """
    lengths = [len(example.tokens) for example in examples]
    if capacity is None or padding(lengths) < RAGGED:
        batch = _padded([[index] for index in range(len(examples))], examples, hidden)
    else:
        rows = bins(lengths, capacity)
        batch = _kept_apart(rows, examples, _padded(rows, examples, hidden), masked)
    tensors = {name: part.to(device) for name, part in vars(batch).items() if part is not None and name != "bounds"}
    apart = replace(batch.bounds, starts=batch.bounds.starts.to(device)) if batch.bounds else None
    return replace(batch, **tensors, bounds=apart)


def padding(lengths: list[int]) -> float:
    """The share of positions that would be padding with one record a row."""
    return 1 - sum(lengths) / (len(lengths) * max(lengths))


def bins(lengths: list[int], capacity: int) -> list[list[int]]:
    """First fit, longest first: which records share a row. A longer record has a row for itself."""
    rows: list[list[int]] = []
    left: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        row = next((row for row, room in enumerate(left) if room >= lengths[index]), len(rows))
        if row == len(rows):
            rows.append([])
            left.append(capacity)
        rows[row].append(index)
        left[row] -= lengths[index]
    return rows


def _padded(rows: list[list[int]], examples: list[Example], hidden: list[torch.Tensor] | None) -> Batch:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    tokens = [torch.tensor([token for index in row for token in examples[index].tokens]) for row in rows]
    labels = [torch.tensor([label for index in row for label in examples[index].labels]) for row in rows]
    states = None
    if hidden is not None:
        states = pad_sequence([torch.cat([hidden[index] for index in row]) for row in rows], batch_first=True)
    return Batch(
        pad_sequence(tokens, batch_first=True),
        pad_sequence(labels, batch_first=True, padding_value=IGNORED),
        states,
    )


def _kept_apart(rows: list[list[int]], examples: list[Example], batch: Batch, masked: bool) -> Batch:
    """Say where every record begins; padding is a record of its own, or its softmax would be over nothing."""
    import torch

    owners = torch.full_like(batch.tokens, -1)
    positions = torch.zeros_like(batch.tokens)
    for row, members in enumerate(rows):
        at = 0
        for index in members:
            length = len(examples[index].tokens)
            owners[row, at : at + length] = index
            positions[row, at : at + length] = torch.arange(length)
            at += length
    if not masked:
        return replace(batch, positions=positions, bounds=bounds(owners))
    mask = (owners.unsqueeze(1) == owners.unsqueeze(2)).tril().unsqueeze(1)
    return replace(batch, positions=positions, mask=mask)
