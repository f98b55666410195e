"""One temperature: found where it was put in, no label moved, and left at 1 where nothing can be said."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tasks.models import calibration


def _drawn(temperature: float, count: int = 4000, seed: int = 0) -> tuple[list[list[float]], Any]:
    """Probabilities that are too sure by a temperature, and labels drawn from the true ones."""
    import numpy as np
    from scipy.special import softmax

    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (count, 4))
    truth = np.array([rng.choice(4, p=row) for row in softmax(logits, axis=1)])
    return softmax(logits * temperature, axis=1).tolist(), truth


@pytest.mark.parametrize("wanted", [0.5, 1.0, 2.5])
def test_a_temperature_that_was_put_in_is_found(wanted: float) -> None:
    scores, truth = _drawn(wanted)
    found, reason = calibration.fit(scores, truth)
    assert (found, reason) == (pytest.approx(wanted, rel=0.08), "")
    before, after = (calibration.nll(rows, truth) for rows in (scores, calibration.scaled(scores, found)))
    assert after <= before + 1e-9
    for other in (0.9 * found, 1.1 * found):
        assert calibration.nll(calibration.scaled(scores, other), truth) > after


def test_calibrated_scores_are_right_as_often_as_they_say() -> None:
    scores, truth = _drawn(3.0)
    found = calibration.figures(scores, truth, calibration.fit(scores, truth)[0])
    assert found["ece_uncalibrated"] > 0.15 and found["ece_calibrated"] < 0.03
    assert found["nll_calibrated"] < found["nll_uncalibrated"] - 0.1


def test_no_label_moves_and_rows_stay_probabilities() -> None:
    scores, _ = _drawn(1.0, 200)
    scores += [[1.0, 0.0, 0.0, 0.0], [0.7, 1e-300, 0.3, 0.0]]
    for temperature in (0.05, 0.7, 20.0):
        for row, other in zip(scores, calibration.scaled(scores, temperature), strict=True):
            assert sum(other) == pytest.approx(1)
            assert row.index(max(row)) == other.index(max(other))
    assert calibration.scaled(scores, 1.0) is scores
    assert calibration.scaled([], 2.0) == []


def test_the_calibration_error_by_hand() -> None:
    """Three bins: 0.95 and 0.94 (one right), 0.6 (right), 0.55 (wrong)."""
    import numpy as np

    scores = [[0.95, 0.05], [0.06, 0.94], [0.6, 0.4], [0.55, 0.45]]
    truth = np.array([0, 0, 0, 1])
    assert calibration.ece(scores, truth) == pytest.approx((abs(1 - 1.89) + 0.4 + 0.55) / 4)
    assert calibration.ece([[1.0, 0.0]], np.array([0])) == 0
    assert calibration.nll(scores[:2], truth[:2]) == pytest.approx(-(np.log(0.95) + np.log(0.06)) / 2)


def test_where_nothing_can_be_said_it_stays_1_and_says_why() -> None:
    import numpy as np

    scores, truth = _drawn(2.0, calibration.MIN_RECORDS)
    assert calibration.fit(scores, truth)[1] == ""
    assert calibration.fit(scores[1:], truth[1:]) == (1.0, "29 records to calibrate on, 30 are needed")
    assert calibration.fit(scores, np.zeros(len(scores), int)) == (1.0, "the records to calibrate on have one label")
    right = np.array([row.index(max(row)) for row in scores])
    assert calibration.fit(scores, right) == (
        1.0,
        "the lower the temperature the better, as where every answer is right",
    )


def test_who_knows_nothing_is_made_to_say_so() -> None:
    import numpy as np

    scores, _ = _drawn(3.0, 300)
    found, reason = calibration.fit(scores, np.random.default_rng(9).integers(0, 4, 300))
    assert found > 10 and not reason
