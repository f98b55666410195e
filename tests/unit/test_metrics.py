"""Metrics: those of scikit-learn, by hand where it has none, with intervals that hold their value."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tasks import metrics
from llmops_tasks.contracts import METRICS, SELECTIVE

LABELS = 5
NAMES = ["a", "b", "c", "d", "e"]


def _draw(seed: int, n: int = 300) -> tuple[Any, Any]:
    """Truth and a prediction that is right in half the cases."""
    import numpy as np

    rng = np.random.default_rng(seed)
    truth = rng.choice(LABELS, n, p=[0.02, 0.17, 0.38, 0.36, 0.07])
    return truth, np.where(rng.random(n) < 0.5, truth, rng.integers(0, LABELS, n))


def _measure(truth: Any, predicted: Any, groups: Any = None, severe: tuple[str, ...] = ("a", "b"), **given: Any) -> Any:
    import numpy as np

    groups = range(len(truth)) if groups is None else groups
    settings = {"resamples": 200, "confidence": 0.95} | given
    return metrics.measure(
        truth=np.asarray(truth),
        predicted=np.asarray(predicted),
        groups=groups,
        labels=NAMES,
        severe=list(severe),
        **settings,
    )


@pytest.mark.parametrize("seed", range(5))
def test_figures_are_those_of_scikit_learn(seed: int) -> None:
    from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score

    truth, predicted = _draw(seed)
    found = {name: figure["value"] for name, figure in _measure(truth, predicted).items()}
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, predicted), abs=1e-6)
    assert found["macro_f1"] == pytest.approx(f1_score(truth, predicted, average="macro"), abs=1e-6)
    kappa = cohen_kappa_score(truth, predicted, weights="quadratic")
    assert found["quadratic_kappa"] == pytest.approx(kappa, abs=1e-6)


def test_the_figures_of_a_small_clinic_are_written_down() -> None:
    """A verdict can be checked years later; the bounds of macro F1 and kappa are drawn, the others computed."""
    truth = [0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3, 4, 4, 2, 1, 0, 3, 3, 2]
    predicted = [0, 2, 1, 1, 0, 2, 2, 3, 2, 1, 3, 3, 2, 3, 3, 4, 4, 4, 2, 3, 0, 3, 2, 2]
    patients = [0, 0, 1, 1, 1, 2, 3, 3, 4, 5, 5, 6, 7, 8, 8, 8, 9, 10, 11, 11, 12, 13, 13, 14]
    found = _measure(truth, predicted, groups=patients, resamples=4000, confidence=0.9)
    assert {name: (figure["value"], figure["low"], figure["high"], figure["n"], figure["groups"]) for name, figure in found.items()} == {
        "accuracy": (pytest.approx(2 / 3, abs=1e-6), 0.47277, 0.825987, 24, 15),
        "macro_f1": (0.674286, pytest.approx(0.454, abs=0.01), pytest.approx(0.761, abs=0.01), 24, 15),
        "over_triage_rate": (pytest.approx(1 / 6, abs=1e-6), 0.056751, 0.34793, 24, 15),
        "quadratic_kappa": (0.785714, pytest.approx(0.560, abs=0.01), pytest.approx(0.901, abs=0.01), 24, 15),
        "severe_under_triage_rate": (0.285714, 0.013315, 0.813133, 7, 4),
        "under_triage_rate": (pytest.approx(1 / 6, abs=1e-6), 0.056751, 0.34793, 24, 15),
        "under_triage_rate.a": (pytest.approx(1 / 3, abs=1e-6), 1e-06, 0.999286, 3, 2),
        "under_triage_rate.b": (0.25, 0.0, 1.0, 4, 2),
    }  # fmt: skip


def test_every_figure_is_one_that_a_gate_may_name() -> None:
    found = set(_measure(*_draw(1)))
    assert found == {*METRICS, "under_triage_rate.a", "under_triage_rate.b"}


ABSTAINS = LABELS  # the code of an abstention


def test_who_may_abstain_is_measured_by_what_is_answered_too() -> None:
    found = _measure([0, 1, 1, 2, 3, 4], [0, 1, ABSTAINS, 3, ABSTAINS, 4], selective=True)
    assert {name: (found[name]["value"], found[name]["n"]) for name in SELECTIVE} == {
        "coverage": (pytest.approx(4 / 6, abs=1e-6), 6),
        "selective_accuracy": (3 / 4, 4),
    }
    assert set(found) == {*METRICS, *SELECTIVE, "under_triage_rate.a", "under_triage_rate.b"}
    assert not set(SELECTIVE) & set(_measure([0, 1], [0, 1]))


def test_an_abstention_by_hand() -> None:
    """Wrong in accuracy; no answer in rates of under- and over-triage, whose denominators lose it."""
    truth = [0, 0, 1, 2, 3, 4]
    found = _measure(truth, [ABSTAINS, 1, ABSTAINS, 2, 2, 4])
    value = {name: (figure["value"], figure["n"]) for name, figure in found.items()}
    assert value["accuracy"] == (pytest.approx(2 / 6, abs=1e-6), 6)
    assert value["under_triage_rate"] == value["over_triage_rate"] == (1 / 4, 4)
    assert value["severe_under_triage_rate"] == value["under_triage_rate.a"] == (1.0, 1)
    assert "under_triage_rate.b" not in value  # nobody was answered
    # F1 of a, b, c, d, e: 0, 0, 2 * 1 / (1 + 2), 0, 1; b was answered once, wrongly
    assert value["macro_f1"][0] == pytest.approx((0 + 0 + 2 / 3 + 0 + 1) / 5, abs=1e-6)
    disagreement = 16 + 1 + 16 + 0 + 1 + 0
    expected = sum(16 if p == ABSTAINS else (t - p) ** 2 for t in truth for p in [ABSTAINS, 1, ABSTAINS, 2, 2, 4]) / 6
    assert value["quadratic_kappa"][0] == pytest.approx(1 - disagreement / expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_no_figure_gets_better_by_abstaining_at_random(seed: int) -> None:
    import numpy as np

    truth, predicted = _draw(seed, 3000)
    some = np.where(np.random.default_rng(seed + 1000).random(3000) < 0.5, ABSTAINS, predicted)
    before, after = _measure(truth, predicted), _measure(truth, some)
    for name in ("accuracy", "macro_f1", "quadratic_kappa"):
        assert after[name]["value"] < before[name]["value"] - 0.05
    for name in ("under_triage_rate", "over_triage_rate", "severe_under_triage_rate"):
        assert abs(after[name]["value"] - before[name]["value"]) < 0.07  # chance alone
        assert after[name]["n"] < 0.6 * before[name]["n"]


def test_who_always_abstains_has_nothing_to_show() -> None:
    found = _measure([0, 1, 2, 3, 4] * 4, [ABSTAINS] * 20, selective=True)
    assert {name: found[name]["value"] for name in found} == {
        "accuracy": 0, "macro_f1": 0, "quadratic_kappa": 0, "coverage": 0,
    }  # fmt: skip


def test_a_difference_counts_the_abstentions_of_either_side() -> None:
    import numpy as np

    truth = np.array([0, 1, 2, 3] * 10)
    given: dict[str, Any] = {"truth": truth, "groups": range(40), "labels": NAMES, "metric": "accuracy", "resamples": 200, "confidence": 0.95}  # fmt: skip
    found = metrics.difference(ours=np.where(truth == 1, ABSTAINS, truth), theirs=truth, **given)
    assert found and found["value"] == -0.25


def test_under_and_over_triage_by_hand() -> None:
    truth = [0, 0, 1, 2, 3, 4, 4, 2]
    predicted = [1, 0, 3, 2, 1, 4, 0, 3]
    found = _measure(truth, predicted)
    value = {name: (figure["value"], figure["n"]) for name, figure in found.items()}
    assert value["under_triage_rate"] == (3 / 8, 8)  # 0 as 1, 1 as 3, 2 as 3
    assert value["over_triage_rate"] == (2 / 8, 8)  # 3 as 1, 4 as 0
    assert value["severe_under_triage_rate"] == (pytest.approx(2 / 3, abs=1e-6), 3)  # of 0, 0, 1
    assert value["under_triage_rate.a"] == (0.5, 2) and value["under_triage_rate.b"] == (1.0, 1)
    assert value["accuracy"] == (3 / 8, 8)


def test_an_empty_denominator_is_not_measured() -> None:
    found = _measure([2, 3, 4] * 20, [2, 3, 3] * 20)
    assert not [name for name in found if name.startswith("severe") or "." in name]
    assert "severe_under_triage_rate" not in _measure([0, 1], [1, 1], severe=())


def test_three_records_none_missed_leave_much_open() -> None:
    found = _measure([0, 1, 1] + [3] * 300, [0, 1, 1] + [3] * 300)["severe_under_triage_rate"]
    assert (found["value"], found["low"], found["n"]) == (0.0, 0.0, 3)
    assert found["high"] == pytest.approx(0.7076, abs=1e-4)  # Clopper-Pearson: 1 - 0.025 ** (1 / 3)


def test_what_never_happened_among_a_hundred_patients_may_still_happen() -> None:
    """A bootstrap of no miss has no miss in any resample: it would be certain."""
    found = _measure([0, 1, 2, 3, 4] * 20, [0, 1, 2, 3, 4] * 20)
    open_end = 1 - 0.025 ** (1 / 100)  # Clopper-Pearson
    for name in ("under_triage_rate", "over_triage_rate"):
        assert (found[name]["value"], found[name]["low"]) == (0.0, 0.0)
        assert found[name]["high"] == pytest.approx(open_end, abs=1e-6)
    assert found["accuracy"]["low"] == pytest.approx(1 - open_end, abs=1e-6)


@pytest.mark.parametrize(("hits", "n"), [(0, 50), (7, 50), (50, 50)])
def test_the_rate_of_independent_records_is_that_of_clopper_and_pearson(hits: int, n: int) -> None:
    import numpy as np
    from scipy.stats import binomtest

    found = metrics.rate(np.array([0.0, 1.0]), np.array([1.0, 1.0]), np.array([n - hits, hits]), 0.95)
    assert found is not None
    wanted = binomtest(hits, n).proportion_ci(method="exact")
    assert (found["low"], found["high"]) == (
        pytest.approx(wanted.low, abs=0.012),
        pytest.approx(wanted.high, abs=0.012),
    )
    assert found["low"] <= wanted.low + 1e-6 and found["high"] >= wanted.high - 1e-6


@pytest.mark.parametrize(
    ("truth", "predicted", "kappa"),
    [([2] * 9, [2] * 9, None), ([0, 4] * 9, [4, 0] * 9, -1.0), ([0, 4] * 9, [0, 4] * 9, 1.0)],
)
def test_kappa_at_its_ends_and_where_nothing_can_be_said(
    truth: list[int], predicted: list[int], kappa: float | None
) -> None:
    """T22: of one class nothing can be told, and that is said."""
    found = _measure(truth, predicted).get("quadratic_kappa")
    assert (found and found["value"]) == kappa


def test_one_record_of_a_class_among_thousands() -> None:
    """T22: extreme imbalance."""
    found = _measure([0] + [3] * 5000, [3] * 5001)
    assert found["under_triage_rate.a"]["value"] == 1.0 and found["under_triage_rate.a"]["n"] == 1
    assert found["accuracy"]["value"] > 0.999 and found["macro_f1"]["value"] < 0.51


def test_answering_always_alike_earns_no_kappa() -> None:
    truth, _ = _draw(2)
    assert _measure(truth, [2] * len(truth))["quadratic_kappa"]["value"] == pytest.approx(0)


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_holds_the_value_and_more_confidence_makes_it_wider(seed: int) -> None:
    narrow, wide = (_measure(*_draw(seed), confidence=confidence) for confidence in (0.8, 0.99))
    for name, inner in narrow.items():
        outer = wide[name]
        assert outer["low"] <= inner["low"] <= inner["value"] <= inner["high"] <= outer["high"]


def test_more_records_make_it_narrower() -> None:
    def width(n: int) -> float:
        found = _measure(*_draw(3, n))["accuracy"]
        return float(found["high"] - found["low"])

    assert width(2000) < 0.5 * width(200)


def test_the_same_records_ten_times_over_tell_no_more() -> None:
    """A patient whose record is there ten times is one patient."""
    truth, predicted = _draw(4, 60)
    once = _measure(truth, predicted, groups=range(60), resamples=2000)
    often = _measure(truth.repeat(10), predicted.repeat(10), groups=[n // 10 for n in range(600)], resamples=2000)
    for name in ("accuracy", "quadratic_kappa", "macro_f1"):
        assert often[name]["n"] == 600 and often[name]["groups"] == 60
        for end in ("value", "low", "high"):
            assert often[name][end] == pytest.approx(once[name][end], abs=0.015)


def test_the_order_of_records_and_the_names_of_groups_do_not_matter() -> None:
    import numpy as np

    truth, predicted = _draw(5)
    groups, order = np.arange(300) // 3, np.random.default_rng(0).permutation(300)
    assert _measure(truth, predicted, groups=groups) == _measure(
        truth[order], predicted[order], groups=[f"P{group}" for group in groups[order]]
    )


def _clinic(seed: int, patients: int, visits: int) -> tuple[Any, Any, Any]:
    """Truth, predictions and patients: some patients are harder than others, and each has a level of its own."""
    import numpy as np

    rng = np.random.default_rng(seed)
    level, skill = rng.choice(LABELS, patients, p=[0.05, 0.17, 0.35, 0.33, 0.10]), rng.beta(1.5, 1, patients)
    owner = np.repeat(np.arange(patients), visits)
    truth = np.clip(level[owner] + rng.choice([-1, 0, 0, 1], len(owner)), 0, LABELS - 1)
    wrong = np.clip(truth + rng.choice([-2, -1, 1, 2], len(owner)), 0, LABELS - 1)
    return truth, np.where(rng.random(len(owner)) < skill[owner], truth, wrong), owner


@pytest.mark.parametrize(("patients", "visits"), [(60, 5), (40, 8), (300, 1)])
def test_intervals_cover_the_truth_as_often_as_they_say(patients: int, visits: int) -> None:
    import numpy as np

    truth, predicted, _ = _clinic(0, 200_000, visits if visits > 1 else 2)
    counts = np.bincount(truth * LABELS + predicted, minlength=LABELS**2).reshape(1, LABELS, LABELS).astype(float)
    wanted = {name: float(values[0]) for name, values in metrics.figures(counts).items()}
    hits, runs = dict.fromkeys(("accuracy", "quadratic_kappa", "under_triage_rate"), 0), 1000
    for seed in range(1, runs + 1):
        found = _measure(*_clinic(seed, patients, visits), severe=(), resamples=400)
        for name in hits:
            hits[name] += found[name]["low"] <= wanted[name] <= found[name]["high"]
    assert {name: 0.93 <= count / runs <= 0.97 for name, count in hits.items()} == dict.fromkeys(hits, True), hits


def test_a_difference_is_paired() -> None:
    import numpy as np

    truth, ours = _draw(6)
    theirs = np.where(np.arange(300) % 30 == 0, 2, ours)
    given: dict[str, Any] = {"truth": truth, "groups": range(300), "labels": NAMES, "metric": "accuracy", "resamples": 300, "confidence": 0.95}  # fmt: skip
    found, turned = (
        metrics.difference(ours=ours, theirs=theirs, **given),
        metrics.difference(ours=theirs, theirs=ours, **given),
    )
    assert found and turned
    alone = _measure(truth, ours)["accuracy"]
    assert found["high"] - found["low"] < 0.5 * (alone["high"] - alone["low"])
    assert found["value"] == pytest.approx(alone["value"] - _measure(truth, theirs)["accuracy"]["value"], abs=2e-6)
    assert turned["value"] == -found["value"]
    same = metrics.difference(ours=ours, theirs=ours, **given)
    assert same and (same["low"], same["value"], same["high"]) == (0, 0, 0)


def test_a_difference_of_what_is_not_defined_is_not_measured() -> None:
    import numpy as np

    same = np.full(50, 2)
    given: dict[str, Any] = {"groups": range(50), "labels": NAMES, "resamples": 100, "confidence": 0.95}
    assert metrics.difference(truth=same, ours=same, theirs=same, metric="quadratic_kappa", **given) is None


def test_a_figure_that_a_third_of_all_resamples_cannot_have_is_not_measured() -> None:
    """Without the one patient of another class there is no kappa, and (3 / 4) ** 4 of all resamples are without."""
    assert "quadratic_kappa" not in _measure([2, 2, 2, 3], [2, 2, 2, 3])
    assert "quadratic_kappa" in _measure([2, 2, 2, 3] * 9, [2, 2, 2, 3] * 9)


def test_one_patient_is_no_sample() -> None:
    assert "quadratic_kappa" not in _measure(*_draw(7), groups=[1] * 300)


def test_a_ratio_is_of_sums_and_its_interval_holds_it() -> None:
    parts, wholes = [1.0, 4.0, 9.0] * 40, [1.0, 2.0, 3.0] * 40
    found = metrics.ratio(parts=parts, wholes=wholes, groups=range(120), resamples=500, confidence=0.95)
    assert found and found["value"] == pytest.approx(14 / 6, abs=1e-6)
    assert 2.1 < found["low"] < found["value"] < found["high"] < 2.6
    whole = metrics.ratio(
        parts=parts, wholes=wholes, groups=[n // 3 for n in range(120)], resamples=500, confidence=0.95
    )
    assert whole and whole["low"] == whole["value"] == whole["high"]  # every patient is alike


def test_millions_of_records_take_no_more_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held at once is bounded, and bounds change no figure."""
    truth, predicted = _draw(8, 3000)
    groups = [n // 7 for n in range(3000)]
    whole = _measure(truth, predicted, groups=groups)
    monkeypatch.setattr(metrics, "CHUNK", 500)
    held: list[int] = []
    chunks = metrics._chunks
    monkeypatch.setattr(metrics, "_chunks", lambda count, width: (held.append(hi - lo) or (lo, hi) for lo, hi in chunks(count, width)))  # fmt: skip
    assert _measure(truth, predicted, groups=groups) == whole
    assert max(held) <= 500 / LABELS**2


def test_figures_of_sums_share_their_draws_and_those_that_are_undefined_are_left_out() -> None:
    import numpy as np

    columns = np.array([[1.0, 2.0], [0.0, 1.0], [3.0, 4.0], [1.0, 1.0]])

    def figures(sums: Any) -> dict[str, Any]:
        ratio = sums[:, 0] / sums[:, 1]
        return {"ratio": ratio, "twice": 2 * ratio, "none": np.full(len(sums), np.nan)}

    found = metrics.of_sums(columns=columns, groups=list("aabc"), figures=figures, resamples=200, confidence=0.9)
    assert set(found) == {"ratio", "twice"}
    assert (found["ratio"]["value"], found["ratio"]["n"], found["ratio"]["groups"]) == (0.625, 4, 3)
    assert [found["twice"][end] for end in ("low", "high")] == [
        pytest.approx(2 * found["ratio"][end], abs=1e-5) for end in ("low", "high")
    ]


def test_a_share_counts_groups_and_is_that_of_scipy_where_each_is_one_record() -> None:
    from scipy.stats import binomtest

    hits = [True] * 12 + [False] * 28
    found = metrics.share(hits=hits, groups=list(range(40)), confidence=0.95)
    wanted = binomtest(12, 40).proportion_ci(0.95, "exact")
    assert found and (found["value"], found["n"], found["groups"]) == (0.3, 40, 40)
    assert (found["low"], found["high"]) == (pytest.approx(wanted.low, abs=0.01), pytest.approx(wanted.high, abs=0.01))
    alike = metrics.share(hits=hits, groups=[number // 4 for number in range(40)], confidence=0.95)
    assert alike and alike["high"] - alike["low"] > 1.4 * (found["high"] - found["low"])
    assert metrics.share(hits=[], groups=[], confidence=0.95) is None
