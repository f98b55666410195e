"""Synthetic questions to a company's help desk, with answers, for a use case that generates text. No real firm.

About forty intents, each with one short answer and some dozen ways to ask for it. Rows have no id, no person and
no time. The same intent is asked for in training and in testing, in other words: answers are facts to be memorised.
"""

from __future__ import annotations

import random
from typing import Any

from llmops_tasks.data.synthetic_faq_words import BROKEN, HELP, HOW, WANTED
from llmops_tasks.data.synthetic_files import folder, write_jsonl
from llmops_tasks.errors import InputError


def write_faq(*, out: str, questions: int = 800, chats: int = 80, seed: int = 3) -> dict[str, Any]:
    """Write synthetic help-desk questions below a file:// folder; deterministic.

    `landing/faq.jsonl`: {"prompt", "completion"} a line. `chat/faq.jsonl`: other questions as
    {"messages": [{"role", "content"}, ...]}. No question occurs twice.

    Args:
        out: file:// folder.
        questions: with prompt and completion.
        chats: as messages.
        seed: of the random numbers.

    Raises:
        InputError: if more questions are requested than exist.

    Example:
        >>> write_faq(out="file:///var/inbox")
    """
    root, rng = folder(out, questions, chats), random.Random(seed)
    pairs = _all_pairs()
    if questions + chats > len(pairs):
        raise InputError(f"Given {questions} questions and {chats} chats. Allowed: {len(pairs)} in all. Ask for fewer.")
    rng.shuffle(pairs)
    rows = [{"prompt": prompt, "completion": answer} for prompt, answer in pairs]
    write_jsonl(root / "landing" / "faq.jsonl", rows[:questions])
    write_jsonl(root / "chat" / "faq.jsonl", [_chat(row) for row in rows[questions : questions + chats]])
    intents = len(WANTED) + len(BROKEN)
    return {"uri": out, "questions": questions, "chats": chats, "intents": intents, "synthetic": True}


def _all_pairs() -> list[tuple[str, str]]:
    """Every question that can be asked, with its answer."""
    return [
        (_sentence(frame.format(ask=ask)), answer)
        for intents, frames in ((WANTED, HOW), (BROKEN, HELP))
        for answer, asks in intents.values()
        for ask in asks
        for frame in frames
    ]


def _sentence(words: str) -> str:
    """With a capital letter, unless the writer is of those who begin with "hi" and "please"."""
    return words if words.startswith(("hi,", "please", "what is", "urgent")) else words[0].upper() + words[1:]


def _chat(row: dict[str, str]) -> dict[str, Any]:
    roles = (("user", row["prompt"]), ("assistant", row["completion"]))
    return {"messages": [{"role": role, "content": content} for role, content in roles]}
