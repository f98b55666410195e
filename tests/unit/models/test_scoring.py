"""Probabilities of labels are those that whole forward passes of transformers give, one label and prompt at a time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.banking import INTENTS
from llmops_tasks.errors import ModelError
from llmops_tasks.models import label_tree, scoring
from llmops_tasks.models.frozen_layers import Shared
from llmops_tasks.models.generator import open_generator
from llmops_tasks.models.label_tree import BRANCHING, Scoring
from llmops_tasks.models.local import LocalModel
from llmops_tasks.store import objects
from tests.support import foreign, naive

WHOLE, NORMALISED = Scoring(whole_text=True), Scoring(whole_text=True, length_normalised=True)
RULES = {"branching": BRANCHING, "whole_text": WHOLE, "normalised": NORMALISED}
LABELS = [
    " balance not updated after bank transfer",
    " balance not updated after cheque or cash deposit",
    " balance",
    " card arrival",
    " card payment fee charged",
    " card payment",
    " lost phone",
]
PROMPTS = [
    "Message: where is my money?\nTopic:",
    "Message: number 3, and much more of this than the sixteen tokens that a window holds, and some more\nTopic:",
    "Message: hm\nTopic:",
    "Message: I paid in a cheque yesterday and nothing came\nTopic:",
    "Message: the card has not come\nTopic:",
]
LAYERWISE = ["llama", "phi3", "starcoder2", "glm", "mixtral"]
WHOLE_RUN = ["gpt2", "gemma3", "granite", "mistral", "phi3-window"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Any:
    """Models by kind, each made once."""
    made = {"llama": tiny_model}

    def get(kind: str) -> Path:
        if kind not in made:
            more = {"sliding_window": None} if kind == "starcoder2" else {}
            made[kind] = foreign.write(tmp_path_factory.mktemp(kind), kind, tiny_model, **more)
        return made[kind]

    return get


def _close(found: list[list[float]], wanted: list[list[float]], within: float = 1e-5) -> None:
    assert found == [pytest.approx(row, abs=within) for row in wanted]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("kind", [*LAYERWISE, *WHOLE_RUN])
def test_probabilities_are_those_of_whole_forward_passes(kind: str, rule: str, folders: Any) -> None:
    """Whatever shares a batch, whichever side is padded."""
    wanted = naive.probabilities(folders(kind), PROMPTS, LABELS, RULES[rule])
    for size in (1, 2, 8):
        generator = LocalModel(folders(kind))
        _close(generator.scores(PROMPTS, LABELS, size, rule=RULES[rule]), wanted)
        assert generator._layerwise == (kind in LAYERWISE)


@pytest.mark.parametrize("rule", RULES)
def test_many_labels_that_begin_alike_are_scored(rule: str, folders: Any) -> None:
    labels = [f" {name.replace('_', ' ')}" for name in INTENTS]
    wanted = naive.probabilities(folders("llama"), PROMPTS[:2], labels, RULES[rule])
    _close(LocalModel(folders("llama")).scores(PROMPTS[:2], labels, 2, rule=RULES[rule]), wanted)


@pytest.mark.parametrize("rule", RULES)
def test_the_rules_differ(rule: str, folders: Any) -> None:
    """So that one in the place of another would be noticed above."""
    found = {name: naive.probabilities(folders("llama"), PROMPTS[:1], LABELS, one)[0] for name, one in RULES.items()}
    others = [row for name, row in found.items() if name != rule]
    assert all(max(abs(a - b) for a, b in zip(found[rule], row, strict=True)) > 1e-3 for row in others)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("cut", [0, 1])
def test_shared_lower_layers_change_no_score(cut: int, rule: str, folders: Any) -> None:
    wanted = LocalModel(folders("llama")).scores(PROMPTS, LABELS, 2, rule=RULES[rule])
    for _ in ("computed", "kept"):
        shared = open_generator("transformers", folders("llama"), Shared("tiny", cut))
        _close(shared.scores(PROMPTS, LABELS, 2, rule=RULES[rule]), wanted)
    assert len(objects.find(f"{objects.store_uri()}/tiny/activations/*/hidden.safetensors")) == 1


def test_states_of_one_closed_set_are_not_those_of_another(folders: Any) -> None:
    """The tree's tokens and how they hang together are part of what is kept."""
    shared = open_generator("transformers", folders("llama"), Shared("tiny", 1))
    for labels in (LABELS, [" card arrival now", " card arrival then"], [" card arrival", " card payment"]):
        _close(shared.scores(PROMPTS, labels, 2), naive.probabilities(folders("llama"), PROMPTS, labels, BRANCHING))


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_first_tokens_that_differ_are_asked_for_as_one_product_and_softmax(kind: str, folders: Any) -> None:
    """Bit by bit what one pass over the padded prompts gives: nothing else is run, whatever follows the first tokens."""
    import torch
    from torch.nn.utils.rnn import pad_sequence

    from llmops_tasks.models import layers

    labels = [" urgent and now", " less", " emergent case", " non"]
    generator = LocalModel(folders(kind))
    found = generator.scores(PROMPTS, labels, 8)
    ids = sorted((generator._tokenizer(prompt)["input_ids"] for prompt in PROMPTS), key=len)
    padded, last = pad_sequence([torch.tensor(one) for one in ids], batch_first=True), [len(one) - 1 for one in ids]
    counted = torch.arange(padded.shape[1]) == torch.tensor(last).unsqueeze(1)
    first = [generator._tokenizer(label)["input_ids"][0] for label in labels]
    with torch.inference_mode():
        if kind == "llama":
            decoder = generator._model.model
            states = layers.run_layers_at(decoder, decoder.embed_tokens(padded), decoder.layers, counted)
            logits = generator._model.lm_head(decoder.norm(states))
        else:
            logits = layers.logits_at(generator._model, padded, counted)
    rows = torch.softmax(logits[:, first].double(), -1).tolist()
    assert sorted(found) == sorted(rows)  # equal, not close


def test_a_batch_with_a_tree_has_no_more_tokens_than_one_without(folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    generator, seen = LocalModel(folders("llama")), []
    read = generator._asked
    monkeypatch.setattr(
        generator, "_asked", lambda batch, *more: seen.append(sum(map(len, batch))) or read(batch, *more)
    )  # type: ignore[func-returns-value]
    many = PROMPTS * 6
    longest = max(len(generator._tokenizer(prompt)["input_ids"]) for prompt in PROMPTS)
    for rule in (BRANCHING, WHOLE):
        seen.clear()
        assert len(generator.scores(many, LABELS, 4, rule=rule)) == len(many)
        assert max(seen) <= 4 * longest and len(seen) > len(many) / 4


def test_a_model_without_a_cache_is_refused_where_one_is_needed(folders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = LocalModel(folders("gpt2"))
    forward = type(generator._model).forward

    def without(self: Any, input_ids: Any, use_cache: Any = None, attention_mask: Any = None, **more: Any) -> Any:
        more.pop("past_key_values", None)
        found = forward(self, input_ids=input_ids, use_cache=False, **more)
        return type(found)(logits=found.logits)

    monkeypatch.setattr(type(generator._model), "forward", without)
    assert len(generator.scores(PROMPTS, [" urgent", " less"], 2)) == len(PROMPTS)
    with pytest.raises(ModelError, match="keeps no cache, so answers that begin alike cannot be scored"):
        generator.scores(PROMPTS, LABELS, 2)


def test_what_follows_a_prompt_counts_for_the_context(folders: Any) -> None:
    prompt = "pain " * 250
    generator = LocalModel(folders("gpt2"))  # 256 tokens
    assert generator.scores([prompt], [" urgent now", " less"], 1)
    with pytest.raises(ModelError, match="A prompt with its answer has"):
        generator.scores([prompt], [f" urgent{' now' * 9} {word}" for word in ("so", "then")], 1)


def test_a_model_that_gives_no_numbers_answers_nothing() -> None:
    import torch

    tree = label_tree.build([[1], [2]])
    for wrong in (math.nan, math.inf):
        with pytest.raises(ModelError, match="gives no numbers"):
            scoring.probabilities([torch.tensor([[0.0, wrong]])], tree, label_tree.BRANCHING)
