"""What detectors read, and where in the original it stands."""

from __future__ import annotations

import random

import pytest

from llmops_tasks.data.folding import view


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain text, 120/80", "plain text, 120/80"),
        ("Jos\u00e9 Jose\u0301", "Jose Jose"),
        ("a\u200bb\u00adc\ufeffd\u202ee", "abcde"),
        ("a \u200b b\t\nc\xa0\u3000d", "a b c d"),
        ("\uff21\uff11 \u0661 \u2460 \ufb01 \u00df", "A1 1 1 fi ss"),
        ("\u0410\u0435 \u039f", "Ae O"),
        ("\u2013\u2014\u2212 \u2019", "--- '"),
        ("\u4e2d\u6587", "\u4e2d\u6587"),
        ("", ""),
    ],
)
def test_a_view_is_one_plain_form(text: str, seen: str) -> None:
    assert view(text).text == seen


def test_plain_text_is_its_own_view() -> None:
    assert view("plain text").starts == [] and view("plain text").span(2, 5) == (2, 5)


def test_a_span_takes_the_marks_on_its_last_character_along() -> None:
    seen = view("x Jose\u0301\u200b y")
    at = seen.text.index("Jose")
    assert seen.span(at, at + 4) == (2, 8)


@pytest.mark.parametrize("seed", range(5))
def test_every_part_of_a_view_comes_from_where_it_says(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(300):
        text = "".join(rng.choices("ab \n\t\u200b\u00e9e\u0301\ufb01\u4e2d\u0430\u00df\u00ad", k=rng.randint(0, 20)))
        seen = view(text)
        assert len(seen.starts) == len(seen.ends) and len(seen.starts) in (0, len(seen.text))
        for start in range(len(seen.text)):
            end = rng.randint(start + 1, len(seen.text))
            first, last = seen.span(start, end)
            assert 0 <= first < last <= len(text)
            assert seen.text[start:end].strip() in view(text[first:last]).text
