"""An answer within a schema is JSON of that schema; without llguidance it is an error that says so."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.config.decoding import Decoding
from llmops_tasks.errors import ConstraintError, ModelError
from llmops_tasks.models import grammar
from llmops_tasks.models.generator import open_generator

SCHEMA = {
    "type": "object",
    "properties": {"level": {"enum": ["high", "low"]}, "certain": {"type": "boolean"}, "score": {"type": "integer", "minimum": 3, "maximum": 12}},
    "required": ["level", "certain", "score"],
    "additionalProperties": False,
}  # fmt: skip
PROMPTS = ["Note: pain\nAnswer:", "Note: a refill of pills\nAnswer:", "Note:\nAnswer:"]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_answer_fits_the_schema_and_ends(tiny_model: Path, temperature: float) -> None:
    """A random model, which writes nothing of the kind by itself; its bits are its own, not those of the schema."""
    settings = Decoding(max_new_tokens=40, json_schema=SCHEMA, temperature=temperature)
    model = open_generator("transformers", tiny_model)
    found = model.generate(PROMPTS, settings, 2)
    for answer in found:
        given = json.loads(answer.text)
        assert set(given) == {"level", "certain", "score"} and 3 <= given["score"] <= 12
        assert given["level"] in ("high", "low") and isinstance(given["certain"], bool)
        assert answer.finish_reason == "stop" and answer.bits > 8 * answer.tokens
    assert [one.text for one in model.generate(PROMPTS[::-1], settings, 3)[::-1]] == [one.text for one in found]


def test_an_answer_that_is_not_complete_in_time_says_so(tiny_model: Path) -> None:
    settings = Decoding(max_new_tokens=4, json_schema=SCHEMA)
    (answer,) = open_generator("transformers", tiny_model).generate(PROMPTS[:1], settings, 1)
    assert (answer.finish_reason, answer.tokens) == ("length", 4)


def test_where_no_token_fits_the_record_alone_is_an_error(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed, asked = grammar.Matcher.allowed, []

    def dead_end(matcher: grammar.Matcher) -> Any:
        asked.append(matcher)
        if matcher is asked[0] and asked.count(matcher) == 3:
            raise ConstraintError("none")
        return allowed(matcher)

    monkeypatch.setattr(grammar.Matcher, "allowed", dead_end)
    found = open_generator("transformers", tiny_model).generate(PROMPTS, Decoding(json_schema=SCHEMA), 3)
    assert sorted(answer.error or "" for answer in found) == ["", "", "ConstraintError"]
    assert sorted(answer.finish_reason for answer in found) == ["error", "stop", "stop"]


def test_a_matcher_in_error_is_noticed(tokenizer: Any) -> None:
    matcher = grammar.opener(tokenizer, SCHEMA, [tokenizer.eos_token_id])()
    matcher.take(tokenizer("no")["input_ids"][0])
    with pytest.raises(ConstraintError, match="No token fits the schema any more"):
        matcher.allowed()


def test_a_schema_that_cannot_be_followed_is_refused(tokenizer: Any) -> None:
    with pytest.raises(ModelError, match="json_schema cannot be followed"):
        grammar.opener(tokenizer, {"type": "object", "properties": {"a": {"type": "thing"}}}, [0])
    with pytest.raises(ModelError, match="cannot use this schema or tokenizer"):
        grammar.opener(object(), SCHEMA, [0])  # type: ignore[arg-type]


def test_without_llguidance_the_error_says_what_to_install(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"json_schema requires llguidance.*pip install llguidance"):
        grammar.opener(tokenizer, SCHEMA, [0])


def test_a_model_may_have_rows_for_more_tokens_than_there_are(tiny_model: Path) -> None:
    """As Qwen's, whose embeddings are padded."""
    from llmops_tasks.models.local import LocalModel

    schema = {
        "type": "object",
        "properties": {"a": {"type": "boolean"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    model = LocalModel(tiny_model)
    model._model.resize_token_embeddings(len(model._tokenizer) + 200)
    (answer,) = model.generate(["A:"], Decoding(max_new_tokens=20, json_schema=schema), 1)
    assert json.loads(answer.text) in ({"a": True}, {"a": False})
