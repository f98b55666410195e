"""The page of a day: its figures, what they mean, and nothing that a browser would run."""

from __future__ import annotations

from typing import Any

from llmops_tasks.monitoring import pages


def _report(verdict: str, **changed: Any) -> dict[str, Any]:
    signals = [
        {"name": "age", "value": 0.12345, "limit": 0.2, "p": 0.4, "drifted": False},
        {"name": "words", "value": 0.5, "limit": 0.1, "p": 0.00012, "drifted": True},
    ]
    plain = {"date": "2026-03-31", "verdict": verdict, "n": 60, "reference_n": 134, "needed": 50, "signals": signals}
    return {**plain, **changed}


def test_every_signal_is_a_row_with_its_figures_and_its_verdict() -> None:
    page = pages.drift(_report("alarm"))
    assert "<title>Drift on 2026-03-31: alarm</title>" in page
    assert "60 records, against 134 of the champion's test set" in page
    assert "<tr class=good><td>age<td>0.123<td>0.200<td>0.4<td>steady" in page
    assert "<tr class=bad><td>words<td>0.500<td>0.100<td>0.00012<td>drifting" in page


def test_a_day_of_too_few_records_says_how_many_are_needed_and_shows_no_table() -> None:
    page = pages.drift(_report("insufficient", n=20))
    assert "too few records" in page and "50 are needed" in page and "<table>" not in page


def test_names_are_text_and_never_markup() -> None:
    signals = [{"name": "<script>x", "value": 0.0, "limit": 0.1, "p": 1.0, "drifted": False}]
    page = pages.drift(_report("quiet", date="<b>", signals=signals))
    assert "<script>" not in page and "<b>" not in page and "&lt;script&gt;x" in page
