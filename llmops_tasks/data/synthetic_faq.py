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

DAYS = ("2026-03-30", "2026-03-31")


def write_faq(
    *, out: str, questions: int = 800, chats: int = 80, day_questions: int = 60, seed: int = 3
) -> dict[str, Any]:
    """Write synthetic help-desk questions below a file:// folder; deterministic.

    `landing/faq.jsonl`: {"prompt", "completion"} a line. `chat/faq.jsonl`: other questions as
    {"messages": [{"role", "content"}, ...]}. `inbox/date=.../<day>.jsonl`: two days of questions without answers, on the
    second only of what goes wrong. No question occurs twice.

    Args:
        out: file:// folder.
        questions: with prompt and completion.
        chats: as messages.
        day_questions: number on each of the two days.
        seed: of the random numbers.

    Raises:
        InputError: if more questions are requested than exist.

    Example:
        >>> write_faq(out="file:///var/inbox")
    """
    root, rng = folder(out, questions, chats, day_questions), random.Random(seed)
    pairs = _all_pairs()
    rng.shuffle(pairs)
    rows = [{"prompt": prompt, "completion": answer} for prompt, answer in pairs]
    rest = rows[questions + chats :]
    broken = {answer for answer, _ in BROKEN.values()}
    days = [rest[:day_questions], [row for row in rest[day_questions:] if row["completion"] in broken][:day_questions]]
    if len(days[1]) < day_questions:
        raise InputError(
            f"Given {questions} questions, {chats} chats and {day_questions} on each of two days. Allowed: {len(pairs)} in "
            "all. Ask for fewer."
        )
    write_jsonl(root / "landing" / "faq.jsonl", rows[:questions])
    write_jsonl(root / "chat" / "faq.jsonl", [_chat(row) for row in rows[questions : questions + chats]])
    for day, asked in zip(DAYS, days, strict=True):
        write_jsonl(root / "inbox" / f"date={day}" / f"{day}.jsonl", [{"prompt": row["prompt"]} for row in asked])
    about = {"questions": questions, "chats": chats, "days": list(DAYS), "intents": len(WANTED) + len(BROKEN)}
    return {"uri": out, **about, "synthetic": True}


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
