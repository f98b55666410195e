"""Figures of texts are those of the libraries that define them, and of the formulas written out; groups are resampled."""

from __future__ import annotations

import random
from typing import Any

import pytest

from llmops_tasks.evaluation import text_metrics

WORDS = [
    "the", "a", "of", "cat-dog", "3.5", "1,000", "x2-4", "&", "don't", "<skipped>", "(yes)", "foo.", "Bar,", "ü", "é", "naïve",
    "end!", "?", "&amp;", "10-20", "--", "\n", "over-\nwork", "over\nwork",
]  # fmt: skip
RULE: dict[str, Any] = {"resamples": 300, "confidence": 0.95}


def _corpora() -> list[tuple[list[str], list[str]]]:
    """References and texts of every likeness, empty ones among them; of one record and of many."""
    rng, found = random.Random(1), []
    for size in (1, 1, 1, 2, 3, 5, 40) * 12:
        truth = [" ".join(rng.choices(WORDS, k=rng.randint(0, 12))) for _ in range(size)]
        near = [" ".join(word for word in text.split(" ") if rng.random() < 0.9) for text in truth]
        other = [" ".join(rng.choices(WORDS, k=rng.randint(0, 12))) for _ in range(size)]
        found.append((truth, [rng.choice(pair) for pair in zip(near, other, strict=True)]))
    return found


def _figure(name: str, truth: list[str], written: list[str]) -> float:
    return float(text_metrics.figures(text_metrics._rows(truth, written).sum(axis=0)[None])[name][0])


@pytest.mark.filterwarnings("error")
def test_bleu_and_chrf_are_sacrebleus() -> None:
    import sacrebleu

    scores = []
    for truth, written in _corpora():
        wanted = sacrebleu.corpus_bleu(written, [truth]).score, sacrebleu.corpus_chrf(written, [truth]).score
        found = _figure("bleu", truth, written), _figure("chrf", truth, written)
        assert found == (pytest.approx(wanted[0], abs=1e-6), pytest.approx(wanted[1], abs=1e-6))
        scores.append(wanted)
    assert {0.0} < {bleu for bleu, _ in scores} and max(scores)[0] > 50  # from nothing to nearly all


def test_rouge_l_is_rouge_scores() -> None:
    from rouge_score.rouge_scorer import RougeScorer

    scorer = RougeScorer(["rougeL"])
    for truth, written in _corpora():
        wanted = [scorer.score(*pair)["rougeL"].fmeasure for pair in zip(truth, written, strict=True)]
        assert _figure("rouge_l", truth, written) == pytest.approx(sum(wanted) / len(wanted), abs=1e-6)


@pytest.mark.parametrize(
    ("truth", "written", "exact", "f1"),
    [
        ("The cat, sat!", "cat sat", 1, 1),
        ("a cat sat down", "a cat ran", 0, 2 / 5),  # articles count for nothing: one of three and one of two words
        ("cat cat", "cat", 0, 2 / 3),  # as often as it stands in both
        ("cat", "dog", 0, 0),
        ("the", "a", 1, 1),
        ("the", "cat", 0, 0),
        ("", "", 1, 1),
    ],
)
def test_exact_match_and_f1_are_squads(truth: str, written: str, exact: float, f1: float) -> None:
    assert _figure("exact_match", [truth], [written]) == exact
    assert _figure("token_f1", [truth], [written]) == pytest.approx(f1)


def test_bits_per_character_are_all_bits_over_all_characters() -> None:
    found = text_metrics.measure(truth=["abcd", "ef"], written=["", ""], groups=["1", "2"], bits=[8.0, 7.0], **RULE)
    assert found["bits_per_character"]["value"] == 2.5
    some = text_metrics.measure(
        truth=["abcd", "ef", "gh"], written=[""] * 3, groups=list("123"), bits=[8.0, None, 4.0], **RULE
    )
    assert (some["bits_per_character"]["value"], some["bits_per_character"]["n"]) == (
        2.0,
        2,
    )  # one was too long to be read
    assert "bits_per_character" not in text_metrics.measure(
        truth=["abcd", "ef"], written=["", ""], groups=["1", "2"], bits=None, **RULE
    )


def _many(groups: int, each: int) -> tuple[list[str], list[str], list[str]]:
    """Groups whose records are alike: each is answered well or badly as a whole."""
    rng, truth, written, owners = random.Random(4), [], [], []
    for group in range(groups):
        good = rng.random() < 0.6
        text = " ".join(rng.choices([word for word in WORDS if word.isalpha()], k=6))
        truth += [text] * each
        written += [text if good else "nothing"] * each
        owners += [str(group)] * each
    return truth, written, owners


def test_every_figure_has_an_interval_that_counts_groups_and_not_records() -> None:
    truth, written, _ = _many(30, 1)
    once = text_metrics.measure(truth=truth, written=written, groups=list(range(30)), bits=[4.0] * 30, **RULE)
    truth, written, owners = _many(30, 9)
    often = text_metrics.measure(truth=truth, written=written, groups=owners, bits=[4.0] * 270, **RULE)
    assert set(once) == {"exact_match", "token_f1", "rouge_l", "bleu", "chrf", "bits_per_character"}
    for name, figure in often.items():
        assert (figure["n"], figure["groups"]) == (270, 30)
        assert figure["low"] <= figure["value"] <= figure["high"]
        if name != "bits_per_character":
            alone = once[name]
            assert figure["value"] == pytest.approx(alone["value"], abs=1e-6)
            assert figure["high"] - figure["low"] == pytest.approx(alone["high"] - alone["low"], rel=0.1), name


def test_all_right_is_not_certain() -> None:
    found = text_metrics.measure(truth=["x"] * 20, written=["x"] * 20, groups=list(range(20)), bits=None, **RULE)
    assert found["exact_match"]["value"] == 1 and 0.7 < found["exact_match"]["low"] < 0.9


@pytest.mark.parametrize("metric", ["exact_match", "token_f1", "rouge_l", "bleu", "chrf"])
def test_a_difference_is_paired_and_turns_round(metric: str) -> None:
    truth, good, owners = _many(30, 2)
    bad = ["nothing"] * len(truth)
    given: dict[str, Any] = {"truth": truth, "groups": owners, "metric": metric, **RULE}
    one = text_metrics.difference(**given, ours=good, theirs=bad)
    two = text_metrics.difference(**given, ours=bad, theirs=good)
    assert one and two and one["value"] == pytest.approx(_figure(metric, truth, good) - _figure(metric, truth, bad), abs=1e-6)  # fmt: skip
    assert 0 < one["low"] < one["value"] < one["high"] and two["value"] == -one["value"]
    same = text_metrics.difference(**given, ours=good, theirs=good)
    assert same and [same[end] for end in ("low", "value", "high")] == [0.0, 0.0, 0.0]


def test_one_group_is_no_evidence() -> None:
    assert text_metrics.measure(truth=["a", "b"], written=["a", "c"], groups=["1", "1"], bits=[1, 1], **RULE).keys() == {"exact_match"}  # fmt: skip
