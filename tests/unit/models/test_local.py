"""Answers do not depend on how prompts are put into batches."""

from __future__ import annotations

import math
import random
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.config.decoding import Decoding
from llmops_tasks.errors import ModelError
from llmops_tasks.models import decoding
from llmops_tasks.models.frozen_layers import Shared
from llmops_tasks.models.generator import Generator, open_generator
from llmops_tasks.models.label_tree import Scoring
from llmops_tasks.models.local import LocalModel
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

    layers = [type(layer) for layer in LocalModel(tiny_model)._model.modules()]
    assert layers.count(onednn.Linear) == 15  # seven in each of two layers, and the vocabulary's


@pytest.mark.parametrize("cut", [0, 1])
def test_shared_activations_change_no_score(tiny_model: Path, model: Generator, prompts: list[str], cut: int) -> None:
    wanted = model.scores(prompts, ANSWERS, batch_size=4)
    for _ in ("computed", "kept"):
        shared = open_generator("transformers", tiny_model, Shared("tiny", cut)).scores(prompts, ANSWERS, batch_size=4)
        assert [row == pytest.approx(other, abs=1e-5) for row, other in zip(shared, wanted, strict=True)] == [True] * 21
        assert len(objects.find(f"{objects.store_uri()}/tiny/activations/*/hidden.safetensors")) == 1


def test_shared_activations_take_no_more_disk_than_they_may(
    tiny_model: Path, prompts: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """In 64 KiB, with a width of 64 in fp32, are 256 tokens: those of the first prompts, and no more."""
    shared = open_generator("transformers", tiny_model, Shared("tiny", 1, most_gib=2**-14))
    for some in (prompts[:4], prompts[4:], prompts[:4]):
        wanted = open_generator("transformers", tiny_model).scores(some, ANSWERS, batch_size=4)
        assert shared.scores(some, ANSWERS, batch_size=4) == [pytest.approx(row, abs=1e-5) for row in wanted]
    assert len(objects.find(f"{objects.store_uri()}/tiny/activations/*/hidden.safetensors")) == 1
    assert caplog.text.count("it is computed") == 1


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
    assert model.generate([], Decoding(), 4) == []


def test_free_text_is_that_of_transformers(tiny_model: Path, model: Generator, prompts: list[str]) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, plain = AutoTokenizer.from_pretrained(tiny_model), AutoModelForCausalLM.from_pretrained(tiny_model)
    found = model.generate(prompts[:6], Decoding(max_new_tokens=4), batch_size=4)
    for prompt, answer in zip(prompts, found, strict=False):
        asked = tokenizer(prompt, return_tensors="pt")
        written = plain.generate(**asked, max_new_tokens=4, do_sample=False)[0, asked["input_ids"].shape[1] :]
        assert (answer.text, answer.tokens) == (tokenizer.decode(written, skip_special_tokens=True), 4)


def test_a_long_prompt_leaves_space_for_its_answer_and_is_counted(
    tiny_model: Path, prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, asked, write = open_generator("transformers", tiny_model), [], decoding.write
    monkeypatch.setattr(decoding, "write", lambda *given: asked.append(given[2]) or write(*given))
    model.generate(prompts, Decoding(max_new_tokens=5), 8, max_length=21)
    (rows,) = asked
    assert max(map(len, rows)) == 16 and 0 < model.cut == sum(len(row) == 16 for row in rows) < 21
    whole = model.bits(prompts[:2], [" urgent", " less"])
    assert whole == [pytest.approx(model.bits(prompt, [text])[0]) for prompt, text in zip(prompts, (" urgent", " less"), strict=False)]  # fmt: skip
    assert model.bits(prompts, [" urgent"] * 21, max_length=10) != model.bits(prompts, [" urgent"] * 21)


def test_a_text_longer_than_the_context_has_no_bits(model: Generator) -> None:
    with pytest.raises(ModelError, match="the model's context is 512"):
        model.bits("pain " * 600, [" urgent"])


def test_a_reference_beyond_the_context_has_no_bits_and_costs_no_other(tiny_model: Path) -> None:
    found = open_generator("transformers", tiny_model).bits("Note:", ["pain", "pain " * 600, "pain"], 512)
    assert math.isnan(found[1]) and found[0] == found[2] > 0


def test_a_chat_that_cannot_be_cut_so_far_costs_itself(tiny_model: Path) -> None:
    from llmops_tasks.models.chat import Chat

    model = LocalModel(tiny_model)
    model._tokenizer.chat_template = (
        "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant:"
    )
    chats = [
        Chat([{"role": "system", "content": words}, {"role": "user", "content": "pain"}], (0, 4), False)
        for words in ("Brief.", "Long " * 300)
    ]
    found = model.generate([*chats, chats[0]], Decoding(max_new_tokens=3), 2, 60)
    assert [(one.finish_reason, one.error) for one in found] == [
        ("length", None),
        ("error", "ContextError"),
        ("length", None),
    ]
    assert found[0].text == found[2].text


@pytest.mark.parametrize("rule", [Scoring(), Scoring(whole_text=True)])
@pytest.mark.parametrize("answers", [ANSWERS, [" urgent", " less urgent", " less bad"]])
def test_a_beginning_that_all_share_is_read_once_and_changes_no_score(
    model: Generator, prompts: list[str], answers: list[str], rule: Scoring, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmops_tasks.models import local, scoring

    long = [f"{'Levels follow the guideline of the house. ' * 8}{prompt}" for prompt in prompts]
    read, lengths = scoring.read, []

    def counting(asked: Any, beginning: list[int]) -> Any:
        lengths.append(len(beginning))
        return read(asked, beginning)

    monkeypatch.setattr(scoring, "read", counting)
    found = model.scores(long, answers, batch_size=4, rule=rule)
    monkeypatch.setattr(local, "PREFIX", 1000)
    wanted = model.scores(long, answers, batch_size=4, rule=rule)
    assert len(lengths) == 1
    assert lengths[0] > 64
    assert [row == pytest.approx(other, abs=1e-5) for row, other in zip(found, wanted, strict=True)] == [True] * 21


def test_a_short_beginning_goes_the_usual_way(
    model: Generator, prompts: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmops_tasks.models import scoring

    monkeypatch.setattr(scoring, "in_one_call", None)
    assert len(model.scores(prompts, ANSWERS, 4)) == 21
    assert len(model.scores(["one prompt of itself " * 20], ANSWERS, 4)) == 1


def test_shared_layers_read_the_whole_prompt(tiny_model: Path, prompts: list[str]) -> None:
    long = ["Levels follow the guideline of the house. " * 8 + prompt for prompt in prompts]
    wanted = open_generator("transformers", tiny_model).scores(long, ANSWERS, 4)
    found = open_generator("transformers", tiny_model, Shared("tiny", 1)).scores(long, ANSWERS, 4)
    assert [row == pytest.approx(other, abs=1e-5) for row, other in zip(found, wanted, strict=True)] == [True] * 21
