"""Answers are transformers' own, whatever shares their batch; a prompt that cannot be answered costs itself."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from tokenizers import AddedToken

from llmops_tasks.config.decoding import Decoding
from llmops_tasks.errors import ContextError, InputError, ModelError
from llmops_tasks.models import decoding

END, LONGEST = 7, 12
SMALL = {
    "vocab_size": 99, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "eos_token_id": END, "bos_token_id": 1, "pad_token_id": 0,
    "head_dim": 8,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "LlamaConfig": {},
    "Qwen3Config": {},
    "MistralConfig": {"sliding_window": 6},
    "Gemma2Config": {"sliding_window": 6, "query_pre_attn_scalar": 8},
    "Gemma3TextConfig": {"sliding_window": 6, "query_pre_attn_scalar": 8},
    "GPT2Config": {},
    "GPTNeoXConfig": {},
    "MixtralConfig": {"num_local_experts": 2},
}


def _model(family: str = "LlamaConfig", **more: Any) -> Any:
    """Random weights, wide enough that what comes next depends on all that came before."""
    import torch
    import transformers

    torch.manual_seed(5)
    config = getattr(transformers, family)(**SMALL | FAMILIES[family] | more)
    model = transformers.AutoModelForCausalLM.from_config(config).float().eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.normal_(0, 0.4) if weights.ndim > 1 else None
    return model


class Letters:
    """A tokenizer of one letter a token."""

    eos_token_id = END

    def __init__(self, turn: int = END) -> None:
        self.added_tokens_decoder = {END: AddedToken("<end>", special=True), turn: AddedToken("<turn>", special=True)}

    def decode(self, tokens: list[int], skip_special_tokens: bool) -> str:
        """A token is a letter, or nothing."""
        return "".join(chr(256 + token) for token in tokens if token not in self.added_tokens_decoder)


def _prompts(count: int = 9, beginning: int = 3) -> list[list[int]]:
    rng = random.Random(2)
    return [[1, *range(20, 20 + beginning), *rng.choices(range(8, 99), k=rng.randint(1, 17))] for _ in range(count)]


def _write(model: Any, prompts: list[list[int]], batch_size: int = 4, **settings: Any) -> list[decoding.Answer]:
    settings = {"max_new_tokens": LONGEST} | settings
    return decoding.write(model, Letters(), prompts, Decoding(**settings), batch_size)  # type: ignore[arg-type]


def _alone(model: Any, prompt: list[int], count: int = LONGEST) -> list[int]:
    """Transformers' own, one prompt at a time."""
    import torch

    asked = {"input_ids": torch.tensor([prompt]), "attention_mask": torch.ones(1, len(prompt), dtype=torch.long)}
    found: list[int] = model.generate(**asked, max_new_tokens=count, do_sample=False)[0, len(prompt) :].tolist()
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_answers_of_a_batch_are_those_that_transformers_writes_one_by_one(family: str) -> None:
    model, prompts = _model(family), _prompts()
    wanted = [_alone(model, prompt) for prompt in prompts]
    assert len({tuple(tokens) for tokens in wanted}) > 5  # they depend on the prompt
    for size in (1, 4, 9):
        found = _write(model, prompts, size)
        assert [answer.text for answer in found] == [Letters().decode(tokens, True) for tokens in wanted]
        assert [answer.tokens for answer in found] == [len(tokens) for tokens in wanted]


def test_the_test_above_sees_answers_that_end_early() -> None:
    """Else no row would ever be given to another prompt."""
    found = [answer for family in FAMILIES for answer in _write(_model(family), _prompts())]
    reasons = {answer.finish_reason for answer in found}
    assert reasons == {"stop", "length"} and len({answer.tokens for answer in found}) > 3


def test_bits_are_those_of_the_tokens_under_the_model_whatever_was_asked_for() -> None:
    import torch

    model, (prompt, *_) = _model(), _prompts()
    for settings in ({}, {"temperature": 2.0, "seed": 4}):
        (answer,) = _write(model, [prompt], **settings)
        written = [ord(letter) - 256 for letter in answer.text] + [END] * (answer.finish_reason == "stop")
        with torch.inference_mode():
            chances = torch.log_softmax(model(torch.tensor([prompt + written])).logits[0].double(), -1)
        at = range(len(prompt) - 1, len(prompt) + len(written) - 1)
        wanted = (
            -sum(float(chances[place, token]) for place, token in zip(at, written, strict=True)) / 0.6931471805599453
        )
        assert (answer.bits, answer.tokens) == (pytest.approx(wanted, rel=1e-5), len(written))


def test_what_is_drawn_follows_from_seed_and_prompt_and_not_from_the_others() -> None:
    model, prompts = _model(), _prompts()
    first = _write(model, prompts, 9, temperature=1.0, seed=3)
    again = _write(model, prompts[::-1], 2, temperature=1.0, seed=3)[::-1]
    assert [answer.text for answer in again] == [answer.text for answer in first]
    assert [answer.text for answer in _write(model, prompts, temperature=1.0, seed=4)] != [a.text for a in first]
    assert [answer.text for answer in _write(model, prompts)] != [answer.text for answer in first]


def test_draws_have_the_models_probabilities() -> None:
    import torch

    logits, draw = torch.tensor([2.0, 1.0, 0.0, -30.0]), torch.Generator().manual_seed(1)
    for temperature in (1.0, 0.5):
        drawn = [decoding.drawn(logits, temperature, 1.0, draw) for _ in range(4000)]
        wanted = torch.softmax(logits / temperature, -1).tolist()
        assert [drawn.count(token) / 4000 for token in range(4)] == [pytest.approx(p, abs=0.03) for p in wanted]


@pytest.mark.parametrize(("top_p", "kept"), [(0.5, {0}), (0.67, {0, 1}), (0.95, {0, 1, 2}), (1.0, {0, 1, 2, 3})])
def test_top_p_keeps_the_fewest_tokens_of_that_probability(top_p: float, kept: set[int]) -> None:
    import torch

    logits, draw = torch.tensor([0.6, 0.2, 0.15, 0.05]).log(), torch.Generator().manual_seed(1)
    assert {decoding.drawn(logits, 1.0, top_p, draw) for _ in range(600)} == kept


def test_an_answer_ends_before_the_first_stop_text() -> None:
    model, prompts = _model(), _prompts()
    plain = next(answer for answer in _write(model, prompts) if answer.tokens > 6)
    prompt = prompts[[answer.text for answer in _write(model, prompts)].index(plain.text)]
    word = plain.text[3:5]
    (found,) = _write(model, [prompt], stop=["never", word])
    at = plain.text.index(word)
    assert (found.text, found.finish_reason, found.tokens) == (plain.text[:at], "stop", at + 2)


def test_a_stop_text_that_is_a_special_token_ends_an_answer() -> None:
    model, prompts = _model(), _prompts()
    plain = next(answer for answer in _write(model, prompts) if answer.tokens > 6)
    prompt = prompts[[answer.text for answer in _write(model, prompts)].index(plain.text)]
    tokenizer: Any = Letters(turn=ord(plain.text[4]) - 256)
    (found,) = decoding.write(model, tokenizer, [prompt], Decoding(max_new_tokens=LONGEST, stop=["<turn>"]), 4)
    at = plain.text.index(plain.text[4])
    assert (found.text, found.finish_reason, found.tokens) == (plain.text[:at], "stop", at + 1)
    with pytest.raises(ModelError, match="'<turn>a' holds a special token beside other text"):
        decoding.write(model, tokenizer, [prompt], Decoding(stop=["<turn>a"]), 4)


def test_the_same_prompt_is_answered_once_and_answers_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (one, two, *_) = _model(), _prompts()
    asked: list[int] = []
    add = decoding.States.add
    monkeypatch.setattr(decoding.States, "add", lambda states, texts: asked.append(len(texts)) or add(states, texts))
    found = _write(model, [two, one, two, two])
    assert (sum(asked), [found[0]] * 2, found[1].text) == (2, found[2:], _write(model, [one])[0].text)


def test_what_all_prompts_begin_with_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, prompts = _model(), _prompts(6, beginning=40)
    read: list[int] = []
    forward = decoding.States._forward
    monkeypatch.setattr(
        decoding.States, "_forward", lambda states, *given: read.append(given[0].numel()) or forward(states, *given)
    )
    _write(model, prompts, 3, max_new_tokens=1)
    assert read[0] == 41 and sum(read) < 41 + 6 * 18


def test_a_prompt_that_is_too_long_costs_itself(tmp_path: Path) -> None:
    model, prompts = _model(), _prompts()
    long = [1] * (128 - LONGEST + 1)
    found = _write(model, [prompts[0], long, [], prompts[1]])
    assert [answer.error for answer in found] == [None, "ContextError", "InputError", None]
    assert [answer.finish_reason for answer in found][1:3] == ["error", "error"]
    assert found[1] == decoding.Answer("", 0, "error", 0.0, "ContextError")
    assert [found[0], found[3]] == _write(model, prompts[:2])
    assert _write(model, [long[1:]])[0].error is None  # to the last token of the context


def test_the_errors_of_such_prompts_say_what_to_do() -> None:
    with pytest.raises(ContextError, match=r"120 tokens and its answer up to 12, the model's context is 128. Shorten"):
        decoding.check(_model().config, 120, Decoding(max_new_tokens=12))
    with pytest.raises(InputError, match="has no tokens"):
        decoding.check(_model().config, 0, Decoding())


def test_a_model_that_gives_no_numbers_is_an_error_for_all() -> None:
    import torch

    model = _model()
    with torch.no_grad():
        model.lm_head.weight[5] = float("nan")
    with pytest.raises(ModelError, match="no numbers"):
        _write(model, _prompts())


def test_no_prompts_need_no_model() -> None:
    assert _write(None, []) == []


def test_several_tokens_may_end_an_answer() -> None:
    model, prompts = _model(), _prompts()
    model.generation_config.eos_token_id = [END, *range(50, 99)]
    wanted = [_alone(model, prompt) for prompt in prompts]
    found = _write(model, prompts)
    assert [answer.tokens for answer in found] == [len(tokens) for tokens in wanted]
    assert sum(answer.finish_reason == "stop" for answer in found) > 5
    assert not any(chr(256 + token) in answer.text for answer in found for token in range(50, 99))
