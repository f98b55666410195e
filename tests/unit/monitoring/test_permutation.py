"""Chance, as permuted patients show it, and the two effects by hand."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tasks.monitoring import permutation


def _row(*counts: float) -> Any:
    import numpy as np

    return np.array([counts])


def test_psi_by_hand() -> None:
    import numpy as np

    p, q = [9.5 / 11, 1.5 / 11], [5.5 / 11, 5.5 / 11]  # half a row is added to every cell
    wanted = (q[0] - p[0]) * np.log(q[0] / p[0]) + (q[1] - p[1]) * np.log(q[1] / p[1])
    assert permutation.psi(_row(9, 1), _row(5, 5)) == pytest.approx(wanted)
    assert permutation.psi(_row(5, 5), _row(5, 5)) == 0
    assert np.isfinite(permutation.psi(_row(5, 0), _row(0, 5))).all()


def test_jensen_shannon_by_hand() -> None:
    from scipy.spatial.distance import jensenshannon

    assert permutation.js(_row(4, 0), _row(0, 7)) == pytest.approx(1)
    assert permutation.js(_row(2, 4), _row(1, 2)) == pytest.approx(0)
    wanted = jensenshannon([5, 3, 2], [1, 1, 8], base=2) ** 2
    assert permutation.js(_row(5, 3, 2), _row(1, 1, 8)) == pytest.approx(wanted)


def _table(old: list[int], new: list[int]) -> tuple[Any, Any]:
    """Patients with one record each, in two cells: so many on either side."""
    import numpy as np
    from scipy.sparse import csr_matrix

    cells = [cell for side in (old, new) for cell, count in enumerate(side) for _ in range(count)]
    counts = csr_matrix((np.ones(len(cells), dtype=np.float32), (range(len(cells)), cells)), shape=(len(cells), 2))
    return counts, np.arange(len(cells)) >= sum(old)


@pytest.mark.parametrize("alpha", [0.01, 0.01 / 8])
def test_what_is_certain_is_resolved_below_what_was_asked_for(alpha: float) -> None:
    value, p = permutation.test(*_table([90, 10], [10, 90]), permutation.psi, alpha)
    assert value > 1 and p < alpha / 5


def test_what_is_nothing_special_takes_few_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    sides = permutation._sides
    monkeypatch.setattr(permutation, "_sides", lambda *given: drawn.append(given[3]) or sides(*given))
    value, p = permutation.test(*_table([50, 50], [25, 25]), permutation.psi, 0.001)
    assert p > 0.1 and sum(drawn) <= 500 < 10 / 0.001
    assert value == pytest.approx(0, abs=1e-3)


def test_the_probability_is_that_of_all_permutations() -> None:
    """Of patients with one record in two cells they can be counted: the hypergeometric distribution."""
    from scipy.stats import hypergeom

    value, p = permutation.test(*_table([30, 10], [10, 15]), permutation.psi, 0.0001)
    exact = sum(
        hypergeom.pmf(hits, 65, 40, 25)
        for hits in range(26)
        if permutation.psi(_row(40 - hits, hits), _row(hits, 25 - hits))[0] >= value - 1e-6
    )
    assert p == pytest.approx(exact, rel=0.3)


def test_a_patients_records_change_sides_together() -> None:
    """The same counts on the same sides, once from forty patients and once from four."""
    import numpy as np
    from scipy.sparse import csr_matrix

    many, days = _table([15, 5], [5, 15])
    few = csr_matrix(np.array([[15, 0], [0, 5], [5, 0], [0, 15]], dtype=np.float32))
    alone, together = (
        permutation.test(counts, sides, permutation.psi, 0.001)
        for counts, sides in ((many, days), (few, np.array([False, False, True, True])))
    )
    assert alone[0] == pytest.approx(together[0])
    assert alone[1] < 0.01 < 0.1 < together[1]
