"""A closed set of answers as a prefix tree over their tokens: which positions a model is asked at, and what of each.

A node is what was written so far; the root is the end of the prompt, with nothing written. Scored by its branching
nodes, a label's probability is the product, over the branching nodes on its way, of the probability of the next token
among those that the labels go on with there: what a model writes that is held to the closed set token by token. Tokens
that have no alternative cost nothing. Scored by its whole text, it is the probability of all of its tokens, among all
that the vocabulary has, divided by the sum over the labels; by its length normalised, tokens count with their mean.
What this does not do: run a model (`scoring`), or turn texts into tokens (`tokens.closed_set`).
"""

from __future__ import annotations

from dataclasses import dataclass

ROOT = -1  # the node of the prompt's end


@dataclass(frozen=True)
class Scoring:
    """What the probability of an answer is made of."""

    whole_text: bool = False  # all of its tokens; else those where the answers part
    length_normalised: bool = False  # of the whole text: mean log-probability per token instead of the sum


BRANCHING = Scoring()


@dataclass(frozen=True)
class Tree:
    """The nodes whose last token must be run after the prompt, and what is asked at which node.

    Nodes are numbered from 0, parents before their children; the root is ROOT and needs no run.
    """

    tokens: list[int]  # (nodes,): each node's own token
    parents: list[int]  # (nodes,)
    depths: list[int]  # (nodes,): tokens after the prompt before this one
    asked: list[int]  # nodes at which the next token is weighed, the root first
    following: list[list[int]]  # of each asked node: the tokens that labels go on with
    paths: list[list[tuple[int, int]]]  # of each label: (number in `asked`, number in its `following`)
    lengths: list[int]  # (labels,): tokens


def build(labels: list[list[int]], whole_text: bool = False) -> Tree:
    """The tree of some labels' tokens.

    Args:
        labels: tokens of each; none begins another, none is empty.
        whole_text: ask at all nodes, not only at the root and where labels part.
    """
    following: dict[tuple[int, ...], dict[int, None]] = {}
    for label in labels:
        for at, token in enumerate(label):
            following.setdefault(tuple(label[:at]), {})[token] = None
    asked = sorted(node for node, after in following.items() if whole_text or len(after) > 1 or node == ())
    run = sorted({node[:end] for node in asked for end in range(1, len(node) + 1)})  # parents first
    number = {(): ROOT} | {node: place for place, node in enumerate(run)}
    after = {node: {token: place for place, token in enumerate(following[node])} for node in asked}
    place = {node: place for place, node in enumerate(asked)}
    return Tree(
        tokens=[node[-1] for node in run],
        parents=[number[node[:-1]] for node in run],
        depths=[len(node) - 1 for node in run],
        asked=[number[node] for node in asked],
        following=[list(after[node]) for node in asked],
        paths=[_path(tuple(label), place, after) for label in labels],
        lengths=[len(label) for label in labels],
    )


def _path(
    label: tuple[int, ...], place: dict[tuple[int, ...], int], after: dict[tuple[int, ...], dict[int, int]]
) -> list[tuple[int, int]]:
    """The decisions on the way to a label."""
    ways = ((label[:at], token) for at, token in enumerate(label))
    return [(place[node], after[node][token]) for node, token in ways if node in place]
