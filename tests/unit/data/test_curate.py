"""Near duplicates that the sketch finds and the exact share confirms."""

from __future__ import annotations

import random

from llmops_tasks.data import curate

WORDS = [f"word{n}" for n in range(400)]


def _text(rng: random.Random, words: int) -> str:
    return " ".join(rng.choices(WORDS, k=words))


def test_jaccard_counts_common_word_triples() -> None:
    assert curate.jaccard("a b c d", "A b, c d!") == 1
    assert curate.jaccard("a b c d", "b c d e") == 1 / 3  # abc bcd | bcd cde
    assert curate.jaccard("a b", "a b") == 1 and curate.jaccard("a", "b") == 0


def test_near_duplicates_share_a_band_and_strangers_do_not() -> None:
    rng = random.Random(3)
    originals = [_text(rng, 40) for _ in range(200)]
    near = [text.rsplit(" ", 1)[0] + " changed" for text in originals]  # Jaccard 37 / 39
    sketches = [set(enumerate(bands)) for bands in curate.bands([*originals, *near])]
    assert all(sketches[n] & sketches[200 + n] for n in range(200))
    strangers = sum(bool(sketches[a] & sketches[b]) for a in range(200) for b in range(a))
    assert strangers == 0


def test_bands_do_not_depend_on_the_other_texts() -> None:
    rng = random.Random(4)
    texts = [_text(rng, 20) for _ in range(5)]
    assert list(curate.bands(texts))[3] == next(iter(curate.bands([texts[3]])))


def test_languages_are_distinguished() -> None:
    language = curate.language_of()
    assert language("the patient has been short of breath since this morning") == "en"
    assert language("der Patient klagt seit heute Morgen über starke Atemnot") == "de"
