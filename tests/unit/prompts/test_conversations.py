"""Conversations are read in both common forms, and nothing else passes for one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llmops_tasks.prompts import conversations

OPENAI = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "?"},
]
SHAREGPT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}, {"from": "human", "value": "?"}]
SYSTEM = {"role": "system", "content": "Be brief."}


def test_both_forms_are_the_same_turns() -> None:
    assert conversations.messages(OPENAI) == conversations.messages(SHAREGPT) == OPENAI
    assert conversations.parsed(json.dumps([SYSTEM, *OPENAI])) == [SYSTEM, *OPENAI]


@pytest.mark.parametrize(
    "turns",
    [[], OPENAI[:2], OPENAI[1:], [OPENAI[0]] * 2, [*OPENAI, SYSTEM], [SYSTEM], [SYSTEM, SYSTEM, OPENAI[0]], "text", None,
     [{"role": "user", "content": ["zebrafish"]}], [{"role": "tool", "content": "zebrafish"}], [1], {"role": "user"}],
)  # fmt: skip
def test_other_turns_are_none(turns: Any) -> None:
    assert not conversations.is_conversation(json.dumps(turns))
    with pytest.raises(ValueError, match=r"^not a conversation$"):
        conversations.parsed(json.dumps(turns))


def test_a_change_meets_every_turn_and_no_key() -> None:
    said = conversations.changed(json.dumps(OPENAI), str.upper)
    assert [one["content"] for one in conversations.parsed(said)] == ["HI", "HELLO", "?"]


@pytest.mark.parametrize(
    ("text", "left"),
    [("<think>\na\n</think>\n\nb", "b"), ("a</think> b", "b"), ("b", "b"), ("c<think>a</think>b<think>x</think>", "cb"),
     ("<think>never ends", "")],
)  # fmt: skip
def test_thinking_is_cut_out_of_an_answer(text: str, left: str) -> None:
    assert conversations.without_thinking(text) == left


def test_a_thought_that_was_cut_off_is_stripped_too() -> None:
    assert conversations.without_thinking("<think>the patient says") == ""
    assert conversations.without_thinking("Yes. <think>or no") == "Yes. "
