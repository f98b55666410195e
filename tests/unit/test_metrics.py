"""Metrics: those of scikit-learn, by hand where it has none, with intervals that hold their value."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tasks import metrics

LABELS = 5


def _draw(seed: int, n: int = 300) -> tuple[Any, Any]:
    """Truth and a prediction that is right in half the cases."""
    import numpy as np

    rng = np.random.default_rng(seed)
    truth = rng.choice(LABELS, n, p=[0.02, 0.17, 0.38, 0.36, 0.07])
    return truth, np.where(rng.random(n) < 0.5, truth, rng.integers(0, LABELS, n))


def _figures(truth: Any, predicted: Any, severe: tuple[int, ...] = (0, 1), resamples: int = 200) -> dict[str, Any]:
    import numpy as np

    truth, predicted = np.asarray(truth), np.asarray(predicted)
    return metrics.figures(metrics.resampled_counts(truth, predicted, LABELS, resamples), list(severe))


@pytest.mark.parametrize("seed", range(5))
def test_figures_are_those_of_scikit_learn(seed: int) -> None:
    from sklearn.metrics import accuracy_score, cohen_kappa_score, f1_score

    truth, predicted = _draw(seed)
    found = _figures(truth, predicted)
    assert found["accuracy"][0] == pytest.approx(accuracy_score(truth, predicted))
    assert found["macro_f1"][0] == pytest.approx(f1_score(truth, predicted, average="macro"))
    kappa = cohen_kappa_score(truth, predicted, weights="quadratic")
    assert found["quadratic_kappa"][0] == pytest.approx(kappa)


def test_resamples_are_figures_of_real_resamples() -> None:
    import numpy as np
    from sklearn.metrics import cohen_kappa_score

    truth, predicted = _draw(1)
    found = _figures(truth, predicted, resamples=3)["quadratic_kappa"]
    draws = np.random.default_rng(metrics.SEED).integers(0, len(truth), (3, len(truth)))
    wanted = [cohen_kappa_score(truth[draw], predicted[draw], weights="quadratic") for draw in draws]
    assert found[1:].tolist() == pytest.approx(wanted)


def test_under_and_over_triage_by_hand() -> None:
    truth = [0, 0, 1, 2, 3, 4, 4, 2]
    predicted = [1, 0, 3, 2, 1, 4, 0, 3]
    found = _figures(truth, predicted)
    assert found["under_triage_rate"][0] == 3 / 8  # 0 as 1, 1 as 3, 2 as 3
    assert found["over_triage_rate"][0] == 2 / 8  # 3 as 1, 4 as 0
    assert found["severe_under_triage_rate"][0] == pytest.approx(2 / 3)  # of 0, 0, 1
    assert found["accuracy"][0] == 3 / 8


def test_without_severe_labels_their_rate_is_not_reported() -> None:
    assert "severe_under_triage_rate" not in _figures([0, 1], [1, 1], severe=())


@pytest.mark.parametrize(
    ("truth", "predicted", "kappa"), [([2] * 9, [2] * 9, 0.0), ([0, 4] * 9, [4, 0] * 9, -1.0), ([0, 4], [0, 4], 1.0)]
)
def test_kappa_at_its_ends_and_where_nothing_can_be_told(truth: list[int], predicted: list[int], kappa: float) -> None:
    assert _figures(truth, predicted)["quadratic_kappa"][0] == pytest.approx(kappa)


def test_answering_always_alike_earns_no_kappa() -> None:
    truth, _ = _draw(2)
    assert _figures(truth, [2] * len(truth))["quadratic_kappa"][0] == pytest.approx(0)


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_holds_the_value_and_more_confidence_makes_it_wider(seed: int) -> None:
    for values in _figures(*_draw(seed)).values():
        narrow, wide = metrics.interval(values, 0.8), metrics.interval(values, 0.99)
        assert wide["low"] <= narrow["low"] <= narrow["value"] <= narrow["high"] <= wide["high"]


def test_more_records_make_it_narrower() -> None:
    def width(n: int) -> float:
        found = metrics.interval(_figures(*_draw(3, n))["accuracy"], 0.95)
        return found["high"] - found["low"]

    assert width(2000) < 0.5 * width(200)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    import numpy as np

    truth, predicted = _draw(4, 100_000)
    wanted = float(np.mean(truth == predicted))
    hits = 0
    for start in range(0, 30_000, 300):
        part = slice(start, start + 300)
        found = metrics.interval(_figures(truth[part], predicted[part])["accuracy"], 0.95)
        hits += found["low"] <= wanted <= found["high"]
    assert 87 <= hits <= 100  # of 100


def test_the_same_records_are_drawn_for_the_same_n() -> None:
    one, other = _draw(5), _draw(6)
    paired = _figures(*one)["accuracy"] - _figures(*one)["accuracy"]
    assert not paired.any()
    assert (_figures(*one)["accuracy"] == _figures(*one)["accuracy"]).all()
    assert (_figures(*one)["accuracy"] != _figures(*other)["accuracy"]).any()


def test_a_ratio_is_of_sums_and_its_interval_holds_it() -> None:
    parts, wholes = [1.0, 4.0, 9.0] * 40, [1.0, 2.0, 3.0] * 40
    found = metrics.interval(metrics.ratios(parts, wholes, 500), 0.95)
    assert found["value"] == pytest.approx(14 / 6, abs=1e-6)
    assert 2.1 < found["low"] < found["value"] < found["high"] < 2.6
    same = metrics.interval(metrics.ratios([2.0] * 9, [1.0] * 9, 100), 0.95)
    assert set(same.values()) == {2.0}
