"""Texts begin as the model's own tokenizer begins them, in training and in answering alike."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.config.decoding import Decoding
from llmops_tasks.errors import ModelError
from llmops_tasks.models import decoding, tokens
from llmops_tasks.models.generator import open_generator
from llmops_tasks.prompts.interface import of_usecase
from llmops_tasks.training.examples import blocks, encode, pairs
from tests.support import tiny

BOS = 1  # <|im_start|> of SmolLM2, which its tokenizer does not put anywhere by itself
PROMPTS = ["Note: pain\nPriority:", "Note: much more pain than that\nPriority:"]
ANSWERS = [" urgent", " less"]


@pytest.fixture(scope="module")
def opening_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model, with a tokenizer that begins every text, as Gemma's and Llama 3's do."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    folder = tmp_path_factory.mktemp("opening") / "model"
    shutil.copytree(tiny_model, folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    start = tokenizer.convert_ids_to_tokens(BOS)
    tokenizer.bos_token = start
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{start} $A", special_tokens=[(start, BOS)])
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(opening_model: Path) -> Any:
    """That tokenizer, as it is read from its folder."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(opening_model)


def test_the_opening_is_put_once_before_a_text_and_nowhere_else(tokenizer: Any) -> None:
    start = tokenizer.decode([BOS])
    assert tokens.bos(tokenizer) == [BOS]
    plain = tokens.encode(tokenizer, ["pain", f"{start}pain"])
    assert plain[0][0] != BOS and plain[1] == [BOS, *plain[0]]
    assert tokens.encode_with_bos(tokenizer, ["pain", f"{start}pain"]) == [plain[1], plain[1]]
    assert tokens.encode(tokenizer, []) == tokens.encode_with_bos(tokenizer, []) == []


def test_a_tokenizer_without_one_puts_nothing(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    plain = AutoTokenizer.from_pretrained(tiny_model)
    assert tokens.bos(plain) == []
    assert tokens.encode_with_bos(plain, PROMPTS) == tokens.encode(plain, PROMPTS)


@pytest.mark.parametrize(
    ("room", "expected"), [(9, [1, 2, 3, 4, 5]), (5, [1, 2, 3, 4, 5]), (4, [1, 3, 4, 5]), (2, [1, 5]), (-3, [1, 5])]
)
def test_what_is_too_long_keeps_its_opening_and_its_end(room: int, expected: list[int]) -> None:
    assert tokens.truncate_left([1, 2, 3, 4, 5], room, [1]) == expected


def test_without_an_opening_the_end_is_kept() -> None:
    assert [tokens.truncate_left([1, 2, 3], room, []) for room in (3, 2, 0)] == [[1, 2, 3], [2, 3], [3]]


def test_training_begins_with_it(tmp_path: Path, opening_model: Path, tokenizer: Any) -> None:
    path = tiny.usecase(tmp_path, opening_model, "file:///none.csv", finetune={"max_length": 12})
    rows = [{"text": text, "completion": " urgent"} for text in ("pain", "word " * 50)]
    asked = of_usecase(config.load(str(path)))
    for example in encode(asked, tokenizer, rows):
        assert example.tokens.count(BOS) == 1 and example.tokens[0] == BOS and len(example.tokens) <= 12
    (found,) = pairs(asked, tokenizer, [{"prompt": PROMPTS[0], "chosen": ANSWERS[0], "rejected": ANSWERS[1]}])
    assert found.prompt[0] == BOS and BOS not in found.chosen + found.rejected
    assert blocks(tokenizer, ["pain"], 8)[0].tokens[0] == BOS


def test_answering_begins_with_it(opening_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As training does: the answers are those of the plain model after the tokenizer's own opening."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    plain, own = (
        AutoModelForCausalLM.from_pretrained(opening_model).eval(),
        AutoTokenizer.from_pretrained(opening_model),
    )
    generator = open_generator("transformers", opening_model)
    first = [ids[0] for ids in tokens.encode(own, ANSWERS)]
    asked_for, write = [], decoding.write
    monkeypatch.setattr(decoding, "write", lambda *given: asked_for.append(given[2]) or write(*given))
    settings = Decoding(max_new_tokens=3)
    scores, written = generator.scores(PROMPTS, ANSWERS, 2), generator.generate(PROMPTS, settings, 2)
    (given,) = asked_for  # the model repeats itself whatever it is asked, so look at that
    assert [(row[0], row.count(BOS)) for row in given] == [(BOS, 1)] * 2
    bits = generator.bits("\n", PROMPTS)
    for number, prompt in enumerate(PROMPTS):
        asked = own(prompt, return_tensors="pt")
        assert asked["input_ids"][0, 0] == BOS
        with torch.inference_mode():
            expected = torch.softmax(plain(**asked).logits[0, -1, first], dim=-1)
            answer = plain.generate(**asked, max_new_tokens=3, do_sample=False)[0, asked["input_ids"].shape[1] :]
            whole = torch.tensor([[BOS, *own("\n")["input_ids"][1:], *own(prompt)["input_ids"][1:]]])
            logits = torch.log_softmax(plain(whole).logits[0].double(), dim=-1)
        assert scores[number] == pytest.approx(expected.tolist(), abs=1e-5)
        assert written[number].text == own.decode(answer, skip_special_tokens=True)
        places = range(2, whole.shape[1])
        nats = -sum(float(logits[place - 1, whole[0, place]]) for place in places)
        assert bits[number] == pytest.approx(nats / 0.6931471805599453, rel=1e-4)


def test_an_answer_that_begins_another_ends_where_the_other_goes_on(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    plain = AutoTokenizer.from_pretrained(tiny_model)
    texts = [" card payment", " card", " card payment fee", " cash"]
    found, whole = tokens.closed_set(plain, texts), tokens.encode(plain, texts)
    end = [plain.eos_token_id]
    assert found == [whole[0] + end, whole[1] + end, whole[2], whole[3]]
    plain.eos_token = None
    with pytest.raises(ModelError, match=r"\[' card payment', ' card'\] begin other labels' texts"):
        tokens.closed_set(plain, texts)
    assert tokens.closed_set(plain, texts[2:]) == whole[2:]  # nobody needs an end


def test_answers_that_are_the_same_to_the_model_are_refused(tiny_model: Path) -> None:
    from transformers import AutoTokenizer

    plain = AutoTokenizer.from_pretrained(tiny_model)
    with pytest.raises(ModelError, match=r"label texts \[' card', ' card'\] are the same tokens"):
        tokens.closed_set(plain, [" card", " cash", " card"])
    with pytest.raises(ModelError, match="A label's text has no tokens"):
        tokens.closed_set(plain, [" card", ""])
    assert tokens.closed_set(plain, []) == []


@pytest.mark.parametrize(
    ("texts", "begin"),
    [([[1, 2, 3], [1, 2, 4]], [1, 2]), ([[1, 2], [1, 2, 4]], [1, 2]), ([[3], [1]], []), ([[5, 6]], [5, 6])],
)
def test_what_all_texts_begin_with(texts: list[list[int]], begin: list[int]) -> None:
    assert tokens.common(texts) == begin
