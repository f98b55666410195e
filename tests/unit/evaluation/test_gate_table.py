"""The table that an approver reads shows all that was judged."""

from __future__ import annotations

from llmops_tasks.evaluation import gate, gate_table
from tests.support.judging import sound_evidence


def test_the_table_ends_with_what_was_judged_on_what() -> None:
    verdict = gate.apply_policy(**sound_evidence())
    text = gate_table.as_table(verdict)
    release, evidence = "c" * 12, verdict["evidence_sha256"][:12]
    assert text.endswith(f"\n- every check passed\n\nRelease `{release}`, evidence `{evidence}`.")


def test_the_table_shows_every_check_and_every_reason() -> None:
    evidence = sound_evidence()
    evidence["comparisons"].clear()
    verdict = gate.apply_policy(**evidence)
    text = gate_table.as_table(verdict)
    assert text.startswith("**Candidate version ?: insufficient**")
    assert "| quadratic_kappa | 0.600 | at least 0.5 | 200 | pass |" in text
    assert "| quadratic_kappa, difference to base | not measured | at least 0 | 0 | insufficient |" in text
    assert all(f"- {reason}" in text for reason in verdict["reasons"])
    assert verdict["evidence_sha256"][:12] in text


def test_the_table_begins_with_who_was_judged_and_how() -> None:
    verdict = gate.apply_policy(**sound_evidence()) | {"candidate_version": "4"}
    lines = gate_table.as_table(verdict).split("\n")
    assert lines[:5] == [
        "**Candidate version 4: pass**",
        "",
        "| check | observed | rule | n | verdict |",
        "|---|---|---|---|---|",
        "| quadratic_kappa | 0.600 | at least 0.5 | 200 | pass |",
    ]
    assert lines[lines.index("- every check passed") - 1] == ""
