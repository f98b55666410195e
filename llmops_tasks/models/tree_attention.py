"""A prompt and a tree of tokens after it in one row: every node looks at the prompt and at its own ancestors.

Positions count along a branch, so a node's state is that of its branch written out alone. Source: Miao et al. 2024,
"SpecInfer: Accelerating Large Language Model Serving with Tree-based Speculative Inference and Verification".
Padding is on the right; a padded position looks at itself, or its softmax would be over nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmops_tasks.models.label_tree import Tree
from llmops_tasks.models.layers import Layout

if TYPE_CHECKING:
    import torch


def layout(tree: Tree, lengths: list[int], time: int) -> Layout:
    """How rows of prompts with the tree's tokens after them lie; without such tokens, as always.

    Args:
        tree: the same in all rows.
        lengths: (rows,): tokens of each prompt.
        time: of the padded rows.
    """
    import torch

    if not tree.tokens:
        return Layout()
    positions = torch.arange(time).repeat(len(lengths), 1)
    mask = torch.ones(time, time, dtype=torch.bool).tril().repeat(len(lengths), 1, 1)
    depths, related = torch.tensor(tree.depths), _ancestors(tree)
    for row, length in enumerate(lengths):
        nodes = slice(length, length + len(tree.tokens))
        positions[row, nodes] = length + depths
        mask[row, nodes, nodes] = related
    return Layout(positions, mask.unsqueeze(1))


def counted(tree: Tree, lengths: list[int], time: int) -> torch.Tensor:
    """Where something is asked: (rows, time), true at each prompt's last token (the root) and at the asked nodes."""
    import torch

    places = torch.tensor(lengths).unsqueeze(1) + torch.tensor(tree.asked)
    return torch.zeros(len(lengths), time, dtype=torch.bool).scatter_(1, places, True)


def _ancestors(tree: Tree) -> torch.Tensor:
    """(nodes, nodes), true where the second is the first, or stands on the way to it."""
    import torch

    found = torch.eye(len(tree.tokens), dtype=torch.bool)
    for node, parent in enumerate(tree.parents):
        if parent >= 0:
            found[node] |= found[parent]
    return found
