"""A tree after a prompt: every node sees the prompt and the way to itself, at the place it would have alone."""

from __future__ import annotations

from llmops_tasks.models import tree_attention
from llmops_tasks.models.label_tree import build
from llmops_tasks.models.layers import Layout

TREE = build([[1, 2, 5], [1, 2, 6], [1, 3, 7], [1, 3, 8], [9, 4]])  # runs 1, 1-2, 1-3
LENGTHS, TIME = [2, 4], 7


def test_every_node_looks_at_the_prompt_and_the_way_to_itself() -> None:
    layout = tree_attention.layout(TREE, LENGTHS, TIME)
    assert layout.mask is not None
    seen = [[row.nonzero().flatten().tolist() for row in mask[0]] for mask in layout.mask]
    assert seen[0][:5] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 4]]  # the second branch not at the first
    assert seen[1] == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 3, 4], [0, 1, 2, 3, 4, 5], [0, 1, 2, 3, 4, 6]]
    assert all(at in row for at, row in enumerate(seen[0]))  # padding, too, looks at something


def test_positions_count_along_a_branch() -> None:
    layout = tree_attention.layout(TREE, LENGTHS, TIME)
    assert layout.positions is not None
    assert layout.positions[0, :5].tolist() == [0, 1, 2, 3, 3]
    assert layout.positions[1].tolist() == [0, 1, 2, 3, 4, 5, 5]


def test_it_is_asked_at_the_prompts_end_and_where_labels_part() -> None:
    counted = tree_attention.counted(TREE, LENGTHS, TIME)
    assert [row.nonzero().flatten().tolist() for row in counted] == [[1, 2, 3, 4], [3, 4, 5, 6]]


def test_without_a_tree_rows_lie_as_always() -> None:
    plain = build([[1, 2], [3]])
    assert tree_attention.layout(plain, LENGTHS, TIME) == Layout()
    assert tree_attention.counted(plain, LENGTHS, TIME).nonzero().tolist() == [[0, 1], [1, 3]]
