"""The gate: pass only on clear and complete evidence, and the same verdict for the same evidence."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from llmops_tasks.config import Gate
from llmops_tasks.contracts import EARLIER
from llmops_tasks.evaluation import gate

POLICY = Gate.model_validate(
    {
        "metric": "quadratic_kappa",
        "limits": [
            {"metric": "quadratic_kappa", "at_least": 0.5},
            {"metric": "under_triage_rate", "at_most": 0.3},
        ],
        "beats": ["base"],
        "champion_margin": 0.02,
        "min_n": 100,
    }
)
STAMPS = {"smoke": False, "control": "none"}
Evidence = dict[str, Any]


def _figure(low: float, high: float) -> dict[str, float]:
    return {"value": (low + high) / 2, "low": low, "high": high}


def _evidence() -> Evidence:
    """Everything is well: above 0.5, below 0.3, better than the base model, no champion."""
    metrics = {"quadratic_kappa": _figure(0.55, 0.65), "under_triage_rate": _figure(0.1, 0.2)}
    report = {"subject": "candidate", "subject_sha256": "c" * 64, "dataset_sha256": "d" * 64, "split": "test", "n": 200}
    base = {"reference": "base", "metric": "quadratic_kappa", "n": 200, "difference": _figure(0.2, 0.4)}
    return {
        "policy": POLICY,
        "reports": [{**report, "metrics": metrics}],
        "comparisons": [base],
        "has_champion": False,
        "stamps": dict(STAMPS),
    }


def _kappa(evidence: Evidence, low: float, high: float) -> None:
    evidence["reports"][0]["metrics"]["quadratic_kappa"] = _figure(low, high)


def _under(evidence: Evidence, low: float, high: float) -> None:
    evidence["reports"][0]["metrics"]["under_triage_rate"] = _figure(low, high)


def _champion(evidence: Evidence, low: float, high: float, n: int = 200) -> None:
    evidence["has_champion"] = True
    versus = {"reference": "champion", "metric": "quadratic_kappa", "n": n, "difference": _figure(low, high)}
    evidence["comparisons"].append(versus)


CASES: list[tuple[str, Any, str]] = [
    ("everything is well", lambda e: None, "pass"),
    ("floor met exactly", lambda e: _kappa(e, 0.5, 0.6), "pass"),
    ("floor met by the middle only", lambda e: _kappa(e, 0.45, 0.65), "insufficient"),
    ("floor missed by the whole interval", lambda e: _kappa(e, 0.3, 0.49), "fail"),
    ("ceiling met exactly", lambda e: _under(e, 0.1, 0.3), "pass"),
    ("ceiling met by the middle only", lambda e: _under(e, 0.2, 0.35), "insufficient"),
    ("ceiling broken by the whole interval", lambda e: _under(e, 0.31, 0.5), "fail"),
    ("a metric is missing", lambda e: e["reports"][0]["metrics"].pop("under_triage_rate"), "insufficient"),
    ("the candidate's report is missing", lambda e: e["reports"].clear(), "insufficient"),
    ("only another's report", lambda e: e["reports"][0].update(subject="champion"), "insufficient"),
    ("too few records", lambda e: e["reports"][0].update(n=99), "insufficient"),
    ("just enough records", lambda e: e["reports"][0].update(n=100), "pass"),
    ("the comparison is missing", lambda e: e["comparisons"].clear(), "insufficient"),
    ("too few records compared", lambda e: e["comparisons"][0].update(n=99), "insufficient"),
    ("compared in another metric", lambda e: e["comparisons"][0].update(metric="accuracy"), "insufficient"),
    ("worse than the base", lambda e: e["comparisons"][0].update(difference=_figure(-0.3, -0.1)), "fail"),
    ("like the base", lambda e: e["comparisons"][0].update(difference=_figure(-0.1, 0.1)), "insufficient"),
    ("clearly better than the champion", lambda e: _champion(e, 0.01, 0.1), "pass"),
    ("within the champion's margin", lambda e: _champion(e, -0.02, 0.01), "pass"),
    ("perhaps worse than the margin", lambda e: _champion(e, -0.05, 0.01), "insufficient"),
    ("certainly worse than the margin", lambda e: _champion(e, -0.2, -0.03), "fail"),
    ("too few records against the champion", lambda e: _champion(e, 0.0, 0.1, n=50), "insufficient"),
    ("never compared with the champion", lambda e: e.update(has_champion=True), "insufficient"),
    ("a smoke run", lambda e: e["stamps"].update(smoke=True), "fail"),
    ("one failure outweighs missing evidence", lambda e: (_kappa(e, 0.1, 0.2), e["comparisons"].clear()), "fail"),
]


@pytest.mark.parametrize(("change", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_the_verdict(change: Any, expected: str) -> None:
    evidence = _evidence()
    change(evidence)
    verdict = gate.apply_policy(**evidence)
    assert verdict["verdict"] == expected
    bad = [check["reason"] for check in verdict["checks"] if check["verdict"] != "pass"]
    assert verdict["reasons"] == (bad or ["every check passed"])
    assert (expected == "pass") == (not bad)


def test_a_figure_that_is_no_number_never_gets_a_verdict() -> None:
    evidence = _evidence()
    _kappa(evidence, float("nan"), float("nan"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        gate.apply_policy(**evidence)


def test_no_evidence_at_all_never_passes() -> None:
    verdict = gate.apply_policy(policy=POLICY, reports=[], comparisons=[], has_champion=True, stamps=STAMPS)
    assert verdict["verdict"] == "insufficient"
    assert len(verdict["reasons"]) == len(POLICY.limits) + len(POLICY.beats) + 1
    assert all("missing evidence never passes" in reason for reason in verdict["reasons"])
    assert verdict["candidate_sha256"] == ""


def test_the_same_evidence_gives_the_same_verdict_and_is_left_alone() -> None:
    evidence = _evidence()
    before = copy.deepcopy(evidence)
    assert gate.apply_policy(**evidence) == gate.apply_policy(**copy.deepcopy(evidence))
    assert evidence == before


def test_every_piece_of_evidence_is_in_the_digest() -> None:
    plain = gate.apply_policy(**_evidence())["evidence_sha256"]
    changes = [
        lambda e: _kappa(e, 0.551, 0.65),
        lambda e: e["comparisons"][0].update(n=201),
        lambda e: e["stamps"].update(control="shuffled_labels"),
    ]
    for change in changes:
        evidence = _evidence()
        change(evidence)
        assert gate.apply_policy(**evidence)["evidence_sha256"] != plain


def test_every_check_carries_observation_limit_and_n() -> None:
    checks = gate.apply_policy(**_evidence())["checks"]
    assert [check["name"] for check in checks] == [
        "quadratic_kappa",
        "under_triage_rate",
        "quadratic_kappa minus base's",
    ]
    assert [(c["observed"], c["limit"], c["rule"], c["n"]) for c in checks][:2] == [
        (pytest.approx(0.6), 0.5, "at least", 200),
        (pytest.approx(0.15), 0.3, "at most", 200),
    ]


def test_judging_adds_the_candidates_version_and_the_shipped_policy() -> None:
    given = _evidence()
    verdict = gate.judge_candidate(
        usecase="triage",
        evidence={"reports": given["reports"], "comparisons": given["comparisons"]},
        candidate={"version": "4", "release": {"meta": {**STAMPS, "dataset_sha256": "d"}}},
        champion={"version": None},
    )
    assert verdict["candidate_version"] == "4"
    assert verdict["verdict"] == "insufficient"  # the shipped policy wants tfidf beaten, and 300 records
    assert verdict["policy_sha256"] != gate.apply_policy(**given)["policy_sha256"]
    assert json.loads(json.dumps(verdict)) == verdict


def test_the_table_shows_every_check_and_every_reason() -> None:
    evidence = _evidence()
    evidence["comparisons"].clear()
    verdict = gate.apply_policy(**evidence)
    text = gate.render_gate_table(verdict=verdict)["markdown"]
    assert text.startswith("**Candidate version ?: insufficient**")
    assert "| quadratic_kappa | 0.600 | at least 0.5 | 200 | pass |" in text
    assert "| quadratic_kappa minus base's | not measured | at least 0 | 0 | insufficient |" in text
    assert all(f"- {reason}" in text for reason in verdict["reasons"])
    assert verdict["evidence_sha256"][:12] in text


def test_a_smoke_run_fails_however_it_is_judged() -> None:
    given = _evidence()
    candidate = {"version": "4", "release": {"meta": {"smoke": True, "control": "none"}}}
    judged = {"reports": given["reports"], "comparisons": given["comparisons"]}
    verdict = gate.judge_candidate(usecase="triage", evidence=judged, candidate=candidate, champion={"version": None})
    assert verdict["verdict"] == "fail"
    assert not gate.has_passed(verdict=verdict)


def test_who_serves_already_needs_no_verdict() -> None:
    assert not gate.needs_verdict(candidate={"version": "2"}, champion={"version": "2"})
    assert gate.needs_verdict(candidate={"version": "2"}, champion={"version": "1"})
    assert gate.needs_verdict(candidate={"version": "1"}, champion={"version": None})


def test_only_a_pass_is_put_to_a_person() -> None:
    assert gate.has_passed(verdict=gate.apply_policy(**_evidence()))
    evidence = _evidence()
    evidence["comparisons"].clear()
    assert not gate.has_passed(verdict=gate.apply_policy(**evidence))


def _earlier(evidence: Evidence, low: float, high: float) -> None:
    evidence["policy"] = POLICY.model_copy(update={"max_forgetting": 0.05})
    versus = {"reference": EARLIER, "metric": "quadratic_kappa", "n": 150, "difference": _figure(low, high)}
    evidence["comparisons"].append(versus)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.04, 0.1, "pass"), (-0.09, -0.01, "insufficient"), (-0.3, -0.1, "fail")],
)
def test_what_the_champion_knew_may_be_forgotten_only_so_far(low: float, high: float, verdict: str) -> None:
    evidence = _evidence()
    _champion(evidence, 0.0, 0.1)
    _earlier(evidence, low, high)
    assert gate.apply_policy(**evidence)["verdict"] == verdict


def test_forgetting_that_was_not_measured_does_not_pass() -> None:
    evidence = _evidence()
    _champion(evidence, 0.0, 0.1)
    _earlier(evidence, 0.0, 0.1)
    evidence["comparisons"].pop()
    found = gate.apply_policy(**evidence)
    assert found["verdict"] == "insufficient" and EARLIER in found["reasons"][0]


def test_without_a_champion_nothing_can_be_forgotten() -> None:
    evidence = _evidence()
    evidence["policy"] = POLICY.model_copy(update={"max_forgetting": 0.05})
    assert gate.apply_policy(**evidence)["verdict"] == "pass"
