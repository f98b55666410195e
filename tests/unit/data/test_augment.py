"""Augmentation: labels unchanged, originals kept and first, the same for the same seed, training rows only."""

from __future__ import annotations

import random
import re
from collections import Counter
from typing import Any

import pytest

from llmops_tasks.config.data import Augment
from llmops_tasks.data.augment import augmented, noisy
from llmops_tasks.errors import DataError

WORDS = {"pain": ["ache", "soreness"], "short of breath": ["breathless"], "chest": ["thorax"]}
TEXTS = (
    "crushing chest pain since an hour [name] HR 130 O2 88",
    "Short of breath at night, pain in the leg BP 82",
    "twisted ankle, can walk 33y female alert",
    "PAIN behind the eye, painful to touch T 39.5",
    "wants a sick note",
)


def _rows(count: int = 60) -> list[dict[str, Any]]:
    return [
        {
            "record_id": f"V{number}",
            "group": f"g{number // 2}",
            "time": number,
            "text": f"{TEXTS[number % 5]} {'abcdefgh'[number % 8] * 2}x",
            "label": "calm" if number % 10 else "urgent",
            "completion": " less" if number % 10 else " urgent",
            "split": "train",
        }
        for number in range(count)
    ]


ALL = Augment(noise=1.5, paraphrase=WORDS, minority=0.8)


@pytest.mark.parametrize(
    "rule", [Augment(), Augment(noise=0.5), Augment(paraphrase=WORDS), Augment(minority=1.0), ALL], ids=str
)
def test_originals_are_kept_and_first_and_synthetic_rows_are_marked(rule: Augment) -> None:
    rows = _rows()
    result = augmented(rows, rule)
    assert [{**row, "augmented": ""} for row in rows] == result[: len(rows)]
    assert "augmented" not in rows[0]  # what was given is left alone
    by_id = {row["record_id"]: row for row in rows}
    for made in result[len(rows) :]:
        origin, kind, number = re.fullmatch(r"(\w+)~(noise|paraphrase|minority)(\d+)", made["record_id"]).groups()  # type: ignore[union-attr]
        assert made["augmented"] == kind and int(number) >= 1
        changed = {name for name, value in by_id[origin].items() if made[name] != value}
        assert changed == {"record_id", "text"}
    assert len({row["record_id"] for row in result}) == len(result)


def test_nothing_is_made_unless_asked_for() -> None:
    assert len(augmented(_rows(), Augment())) == 60
    assert augmented([], ALL) == []


def test_it_is_the_same_for_the_same_seed_and_other_for_another() -> None:
    assert augmented(_rows(), ALL) == augmented(_rows(), ALL)
    assert augmented(_rows(), ALL) != augmented(_rows(), ALL.model_copy(update={"seed": 8}))


def test_what_becomes_of_a_record_does_not_hang_on_the_others() -> None:
    rule = ALL.model_copy(update={"minority": None})
    whole = augmented(_rows(), rule)
    for row in _rows()[:7]:
        alone = augmented([row], rule)[1:]
        assert alone and alone == [
            made for made in whole if made["augmented"] and made["record_id"].split("~")[0] == row["record_id"]
        ]


def test_the_order_of_rows_changes_only_the_order() -> None:
    one, two = augmented(_rows(), ALL), augmented(_rows()[::-1], ALL)
    assert sorted(map(str, one)) == sorted(map(str, two))


@pytest.mark.parametrize("split", ["validation", "test", None])
def test_rows_that_are_measured_on_are_refused_without_their_text(split: str | None) -> None:
    rows = [*_rows(), {**_rows(1)[0], "split": split, "text": "secret"}]
    with pytest.raises(DataError, match=rf"Given rows of the splits {{'{split}': 1}}\. Allowed: train") as refusal:
        augmented(rows, Augment())
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize(("noise", "low", "high"), [(0.5, 15, 45), (1.0, 60, 60), (1.5, 75, 105), (2.0, 120, 120)])
def test_noise_is_the_share_of_copies(noise: float, low: int, high: int) -> None:
    made = augmented(_rows(), Augment(noise=noise))[60:]
    assert low <= len(made) <= high
    assert Counter(row["record_id"].split("~")[0] for row in made).most_common(1)[0][1] <= max(1, round(noise + 0.49))


@pytest.mark.parametrize("seed", range(200))
def test_noise_changes_words_a_little_and_no_digit_or_mask(seed: int) -> None:
    text = TEXTS[seed % 5]
    result = noisy(text, random.Random(seed))
    assert result != text
    assert abs(len(result) - len(text)) <= 30
    assert "[name]" in result or "[name]" not in text
    assert set(re.findall(r"\d[\d.]*", result)) <= set(re.findall(r"\d[\d.]*", text))
    assert "sick" in result or "wants" in result or seed % 5 != 4


def test_noise_loses_about_one_value_of_ten() -> None:
    kept = [noisy("cough HR 130 at home", random.Random(seed)) for seed in range(400)]
    assert 0.05 < sum("130" not in text for text in kept) / 400 < 0.16
    assert any(text.endswith(("home", "hme", "hoem")) and "130" not in text and "  " not in text for text in kept)


@pytest.mark.parametrize("text", ["", "12 34", "a b c", "[name]", "??", "HR 130"])
def test_a_text_without_words_yields_no_copy_that_is_equal(text: str) -> None:
    rows = [{**_rows(1)[0], "text": text, "record_id": f"V{number}"} for number in range(30)]
    made = augmented(rows, Augment(noise=2, paraphrase=WORDS, minority=1.0))[30:]
    assert all(row["text"] != text and row["text"] for row in made)


def test_paraphrase_takes_whole_words_and_keeps_their_case() -> None:
    rows = [{**_rows(1)[0], "record_id": f"V{number}", "text": TEXTS[number % 5]} for number in range(50)]
    made = augmented(rows, Augment(paraphrase=WORDS))[50:]
    texts = {row["text"] for row in made}
    assert len(made) == 30  # three of five texts have such a word
    assert "Breathless at night, ache in the leg BP 82" in texts
    assert texts & {"ACHE behind the eye, painful to touch T 39.5", "SORENESS behind the eye, painful to touch T 39.5"}
    assert all("pain" not in text.replace("painful", "").lower() for text in texts)
    assert {text.split()[2] for text in texts if text.startswith("crushing thorax")} == {"ache", "soreness"}


def test_parts_of_words_stay() -> None:
    row = {**_rows(1)[0], "text": "campaign paint chests spain pain"}
    assert augmented([row], Augment(paraphrase={"pain": ["ache"], "chest": ["thorax"]}))[1]["text"] == (
        "campaign paint chests spain ache"
    )


def test_special_characters_in_words_are_letters_not_patterns() -> None:
    row = {**_rows(1)[0], "text": "c++ (old) a.b axb"}
    made = augmented([row], Augment(paraphrase={"c++": ["C"], "a.b": ["ab"], "(old)": ["new"]}))
    assert made[1]["text"] == "C new ab axb"


@pytest.mark.parametrize("share", [0.3, 0.5, 1.0])
def test_rarer_labels_are_filled_by_copies_of_their_own_rows(share: float) -> None:
    rows = _rows(100)
    result = augmented(rows, Augment(minority=share))
    counts = Counter(row["label"] for row in result)
    assert counts == {"calm": 90, "urgent": int(90 * share)}
    made = result[100:]
    assert {row["label"] for row in made} == {"urgent"}
    used = Counter(row["record_id"].split("~")[0] for row in made)
    assert max(used.values()) - min(used.values()) <= 1  # in turn
    originals = {row["text"] for row in rows}
    assert not any(row["text"] in originals for row in made)


def test_labels_are_filled_against_what_noise_and_paraphrase_have_made() -> None:
    counts = Counter(row["label"] for row in augmented(_rows(100), ALL))
    assert counts["urgent"] == int(0.8 * counts["calm"])
