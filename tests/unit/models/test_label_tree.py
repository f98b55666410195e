"""The tree of a closed set of answers: where a model is asked, and what an answer's probability is made of."""

from __future__ import annotations

import random

import pytest

from llmops_tasks.models.label_tree import ROOT, build

Labels = list[list[int]]


def test_answers_that_part_at_once_are_asked_for_at_the_prompts_end_alone() -> None:
    tree = build([[7, 8, 9], [3], [5, 8]])
    assert (tree.tokens, tree.asked, tree.following) == ([], [ROOT], [[7, 3, 5]])
    assert tree.paths == [[(0, 0)], [(0, 1)], [(0, 2)]]


def test_only_what_leads_to_a_parting_is_run() -> None:
    tree = build([[1, 2, 3, 4, 5], [1, 2, 3, 6, 7], [8, 9], [1, 2, 3, 6, 10]])
    assert tree.tokens == [1, 2, 3, 6]  # and neither 4, 5, 7, 8, 9 nor 10
    assert (tree.parents, tree.depths) == ([ROOT, 0, 1, 2], [0, 1, 2, 3])
    assert tree.asked == [ROOT, 2, 3]
    assert tree.following == [[1, 8], [4, 6], [7, 10]]
    assert tree.paths == [[(0, 0), (1, 0)], [(0, 0), (1, 1), (2, 0)], [(0, 1)], [(0, 0), (1, 1), (2, 1)]]


def test_answers_that_all_begin_alike_part_later() -> None:
    tree = build([[1, 2], [1, 3]])
    assert (tree.tokens, tree.asked, tree.following) == ([1], [ROOT, 0], [[1], [2, 3]])


def test_of_whole_texts_every_token_counts() -> None:
    tree = build([[1, 2, 3], [1, 4], [5]], whole_text=True)
    assert (tree.tokens, tree.asked, tree.following) == ([1, 2], [ROOT, 0, 1], [[1, 5], [2, 4], [3]])
    assert [len(path) for path in tree.paths] == tree.lengths == [3, 2, 1]


def _drawn(seed: int) -> Labels:
    """Many labels over few tokens, none of which begins another."""
    rng = random.Random(seed)
    found = {tuple(rng.choices(range(4), k=rng.randint(1, 6))) for _ in range(60)}
    return [list(label) for label in found if not any(o[: len(label)] == label and o != label for o in found)]


@pytest.mark.parametrize("whole_text", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_a_path_spells_its_answer(seed: int, whole_text: bool) -> None:
    """Node by node, from the root; parents come before their children."""
    labels = _drawn(seed)
    tree = build(labels, whole_text)
    texts: dict[int, list[int]] = {ROOT: []}
    for node, (token, parent, depth) in enumerate(zip(tree.tokens, tree.parents, tree.depths, strict=True)):
        texts[node] = [*texts[parent], token]
        assert len(texts[node]) == depth + 1
    for label, path in zip(labels, tree.paths, strict=True):
        for number, after in path:
            so_far = [*texts[tree.asked[number]], tree.following[number][after]]
            assert label[: len(so_far)] == so_far
        parting = [
            at for at in range(len(label)) if len({o[at] for o in labels if o[:at] == label[:at] and at < len(o)}) > 1
        ]
        assert len(path) == (len(label) if whole_text else len({0, *parting}))
    assert len({tuple(path) for path in tree.paths}) == len(labels)
