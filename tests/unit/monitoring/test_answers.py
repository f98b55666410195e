"""What is watched of answers says nothing of their words, and drift of a generation is noticed by its own signal."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.monitoring import answers, drift

CASE = config.load("faq")
REFUSALS = CASE.monitoring.refusals


def _answers(*texts: str, reasons: list[str] | None = None) -> Any:
    import pandas as pd

    ids, count = [f"Q{number}" for number in range(len(texts))], len(texts)
    return pd.DataFrame({"record_id": ids, "answer": texts, "tokens": 1, "finish_reason": reasons or ["stop"] * count})


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("I'm sorry, but I can't help with that.", True),
        ("i\u2019m sorry", True),
        ("Well. As an AI, no.", True),
        ("Call extension 4400.", False),
        ("", False),
    ],
)
def test_a_refusal_is_an_answer_with_one_of_the_phrases(text: str, refused: bool) -> None:
    found = answers.watched(_answers(text), REFUSALS)
    assert found["refused"].tolist() == ["refusal" if refused else "other"]


def test_the_phrases_are_the_use_cases_own() -> None:
    found = answers.watched(_answers("Das kann ich nicht.", "I'm sorry"), ["KANN ICH NICHT"])
    assert found["refused"].tolist() == ["refusal", "other"]


def test_lengths_are_in_characters_and_the_text_does_not_travel() -> None:
    found = answers.watched(_answers("four", "", reasons=["length", "error"]), REFUSALS)
    assert found["length"].tolist() == [4, 0] and found["finish_reason"].tolist() == ["length", "error"]
    assert set(found) == {"finish_reason", "length", "refused"} and found.index.tolist() == ["Q0", "Q1"]


def _day(seed: int, count: int, **change: float) -> Any:
    """Questions of like words, answered in some 60 characters, one in ten cut, one in fifty refused."""
    import numpy as np
    import pandas as pd

    rng, rate = np.random.default_rng(seed), {"letters": 60, "cut": 0.1, "refused": 0.02} | change
    frame = pd.DataFrame({"group": [f"{seed}-{number}" for number in range(count)]})
    frame["text"] = [" ".join(rng.choice(["print", "page", "badge", "lamp"], 6)) for _ in range(count)]
    texts = ["x" * int(rng.normal(rate["letters"], 10)) + "I cannot" * bool(rng.random() < rate["refused"]) for _ in range(count)]  # fmt: skip
    reasons = np.where(rng.random(count) < rate["cut"], "length", "stop").tolist()
    watched = answers.watched(_answers(*texts, reasons=reasons), REFUSALS).reset_index(drop=True)
    return frame.join(watched)


def _drifting(**change: float) -> list[str]:
    signals = drift.compare_days(CASE, [], _day(0, 400), _day(1, 160, **change))
    assert [signal["name"] for signal in signals] == ["answer length", "finish reasons", "refusals", "words"]
    return [signal["name"] for signal in signals if signal["drifted"]]


@pytest.mark.parametrize(
    ("change", "signal"),
    [
        ({}, []),
        ({"letters": 90}, ["answer length"]),
        ({"cut": 0.6}, ["finish reasons"]),
        ({"refused": 0.3}, ["refusals"]),
    ],
)
def test_each_change_is_noticed_by_its_own_signal(change: dict[str, float], signal: list[str]) -> None:
    assert _drifting(**change) == signal
