"""Conversations as records hold them: JSON of turns {role, content}, from OpenAI's `messages` or ShareGPT's form.

A conversation may open with a system turn; then user and assistant take turns, the user first and last: what follows is
the answer. What this does not do: tool calls, images.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from llmops_tasks.models.chat import Message

ROLES = {"human": "user", "gpt": "assistant"}  # ShareGPT's names
_THINKING = re.compile(r"<think>.*?</think>\s*", re.DOTALL)
_CUT = re.compile(r"<think>.*\Z", re.DOTALL)  # begun, and cut by the number of tokens
_OPEN = re.compile(r"^.*?</think>\s*", re.DOTALL)  # opened by the prompt


def messages(turns: Any) -> list[Message] | None:
    """Turns in either form as {role, content}; None if they are something else."""
    try:
        found = [_message(turn) for turn in turns]
    except (TypeError, KeyError, AttributeError):
        return None
    return found if all(isinstance(part, str) for one in found for part in one.values()) else None


def _message(turn: Any) -> Message:
    if "from" in turn:
        return {"role": ROLES.get(turn["from"], turn["from"]), "content": turn["value"]}
    return {"role": turn["role"], "content": turn["content"]}


def parsed(text: str) -> list[Message]:
    """The turns of a conversation, from its JSON.

    Raises:
        ValueError: if it is none; the message holds nothing of it.
    """
    try:
        found = messages(json.loads(text))
    except (ValueError, RecursionError):
        found = None
    if found is None or not _well_formed([one["role"] for one in found]):
        raise ValueError("not a conversation")
    return found


def _well_formed(roles: list[str]) -> bool:
    """The user's turn first and last, the assistant's between; before them at most one system turn."""
    spoken = roles[1:] if roles[:1] == ["system"] else roles
    return len(spoken) % 2 == 1 and all(role == ("user", "assistant")[at % 2] for at, role in enumerate(spoken))


def is_conversation(text: str) -> bool:
    """Can it be parsed?"""
    try:
        parsed(text)
    except ValueError:
        return False
    return True


def changed(text: str, change: Callable[[str], str]) -> str:
    """A conversation's JSON with every turn's content changed."""
    found = [{**one, "content": change(one["content"])} for one in parsed(text)]
    return json.dumps(found, ensure_ascii=False)


def without_thinking(text: str) -> str:
    """A text without `<think>` parts; what stands before a `</think>` that was opened by the prompt is one, too."""
    return _CUT.sub("", _OPEN.sub("", _THINKING.sub("", text)))
