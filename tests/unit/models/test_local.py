"""Answers do not depend on how prompts are put into batches."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.models.frozen_layers import Shared
from llmops_tasks.models.generator import Generator, open_generator
from llmops_tasks.store import objects

ANSWERS = [" urgent", " less", " emergent"]


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    """Of very different lengths, in no order."""
    rng = random.Random(3)
    return [f"Note {n}: " + "pain " * rng.randint(0, 40) + "\nPriority:" for n in range(21)]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Generator:
    """The tiny model."""
    return open_generator("transformers", tiny_model)


def test_batches_change_no_score(model: Generator, prompts: list[str]) -> None:
    one, eight = (model.scores(prompts, ANSWERS, batch_size=size) for size in (1, 8))
    gaps = [abs(a - b) for row, other in zip(one, eight, strict=True) for a, b in zip(row, other, strict=True)]
    assert max(gaps) < 1e-5


def test_rows_are_probabilities(model: Generator, prompts: list[str]) -> None:
    scores = model.scores(prompts, ANSWERS, batch_size=4)
    assert [len(row) for row in scores] == [3] * len(prompts)
    assert all(sum(row) == pytest.approx(1) and min(row) >= 0 for row in scores)


def test_answers_come_in_the_order_of_the_prompts(model: Generator, prompts: list[str]) -> None:
    forward = model.scores(prompts, ANSWERS, batch_size=8)
    backward = model.scores(prompts[::-1], ANSWERS, batch_size=8)[::-1]
    assert [row == pytest.approx(other, abs=1e-5) for row, other in zip(forward, backward, strict=True)] == [True] * 21
    assert len({round(row[0], 9) for row in forward}) > 10


def test_scores_are_those_of_the_plain_model(tiny_model: Path, model: Generator, prompts: list[str]) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    first = [tokenizer(answer)["input_ids"][0] for answer in ANSWERS]
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(tiny_model)(**tokenizer(prompts[0], return_tensors="pt")).logits
    wanted = torch.softmax(logits[0, -1, first].double(), -1).tolist()
    assert model.scores(prompts[:1], ANSWERS, 1)[0] == pytest.approx(wanted, abs=1e-5)


def test_it_multiplies_by_onednn(tiny_model: Path) -> None:
    from llmops_tasks.models import onednn
    from llmops_tasks.models.local import LocalModel

    layers = [type(layer) for layer in LocalModel(tiny_model)._model.modules()]
    assert layers.count(onednn.Linear) == 15  # seven in each of two layers, and the vocabulary's


@pytest.mark.parametrize("cut", [0, 1])
def test_shared_activations_change_no_score(tiny_model: Path, model: Generator, prompts: list[str], cut: int) -> None:
    wanted = model.scores(prompts, ANSWERS, batch_size=4)
    for _ in ("computed", "kept"):
        shared = open_generator("transformers", tiny_model, Shared("tiny", cut)).scores(prompts, ANSWERS, batch_size=4)
        assert [row == pytest.approx(other, abs=1e-5) for row, other in zip(shared, wanted, strict=True)] == [True] * 21
        assert len(objects.find(f"{objects.store_uri()}/tiny/activations/*/hidden.safetensors")) == 1


def test_bits_are_those_of_the_plain_model(tiny_model: Path, model: Generator) -> None:
    """By hand: -log2 of each token's probability, from the one before it, the start's last token included."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    start, text = (tokenizer(words)["input_ids"] for words in ("Note:", " chest pain and sweating"))
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(tiny_model)(torch.tensor([start + text])).logits[0]
    chances = torch.softmax(logits.double(), -1)
    at = range(len(start) - 1, len(start) + len(text) - 1)
    wanted = -sum(float(torch.log2(chances[place, token])) for place, token in zip(at, text, strict=True))
    assert model.bits("Note:", [" chest pain and sweating"]) == [pytest.approx(wanted, rel=1e-5)]


def test_bits_of_a_text_do_not_depend_on_the_others(model: Generator, prompts: list[str]) -> None:
    alone = [model.bits("\n", [prompt])[0] for prompt in prompts]
    assert model.bits("\n", prompts[::-1])[::-1] == [pytest.approx(bits, rel=1e-5) for bits in alone]
    assert model.bits("\n", []) == []


def test_no_prompts_get_no_answers(model: Generator) -> None:
    assert model.scores([], ANSWERS, 4) == []
    assert model.generate([], 4, 4) == []


def test_free_text_does_not_depend_on_batches(
    model: Generator, prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random model writes alike whatever it is asked, so its first step is looked at: padding changes no logit."""
    import torch

    given: list[dict[str, Any]] = []
    write = model._model.generate  # type: ignore[attr-defined]
    monkeypatch.setattr(model._model, "generate", lambda **asked: given.append(asked) or write(**asked))  # type: ignore[attr-defined]
    alone = model.generate(prompts[:4], max_new_tokens=3, batch_size=1)
    assert model.generate(prompts[:4], max_new_tokens=3, batch_size=4) == alone
    *singles, together = ({name: asked[name] for name in ("input_ids", "attention_mask")} for asked in given)
    assert len({one["input_ids"].shape[1] for one in singles}) > 1  # so that something is padded
    with torch.inference_mode():
        wanted = torch.cat([model._model(**one).logits[:, -1] for one in singles])  # type: ignore[attr-defined]
        found = model._model(**together).logits[:, -1]  # type: ignore[attr-defined]
        blind = model._model(input_ids=together["input_ids"]).logits[:, -1]  # type: ignore[attr-defined]
    assert torch.allclose(found, wanted, atol=1e-5)
    assert not torch.allclose(blind, wanted, atol=1e-4)  # without the mask it would be noticed
