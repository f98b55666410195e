"""The gate: pass only on clear and complete evidence, and the same verdict for the same evidence."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from llmops_tasks import config, metrics
from llmops_tasks.contracts import EARLIER
from llmops_tasks.evaluation import gate
from tests.support.judging import POLICY, STAMPS, Evidence, figure, sound_evidence


def _kappa(evidence: Evidence, low: float, high: float) -> None:
    evidence["reports"][0]["metrics"]["quadratic_kappa"] = figure(low, high)


def _under(evidence: Evidence, low: float, high: float, n: int = 200) -> None:
    evidence["reports"][0]["metrics"]["under_triage_rate"] = figure(low, high, n)


def _own_min_n(evidence: Evidence, least: int) -> None:
    first, second = POLICY.limits
    limits = [first, second.model_copy(update={"min_n": least})]
    evidence["policy"] = POLICY.model_copy(update={"limits": limits})


def _met(evidence: Evidence, overlap: int) -> None:
    """The champion's own report."""
    evidence["reports"].append({**evidence["reports"][0], "subject": "champion", "overlap": overlap})


def _champion(evidence: Evidence, low: float, high: float, n: int = 200) -> None:
    evidence["has_champion"] = True
    versus = {"reference": "champion", "metric": "quadratic_kappa", "n": n, "difference": figure(low, high, n)}
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
    ("too few records in a denominator", lambda e: _under(e, 0.0, 0.1, n=99), "insufficient"),
    ("just enough records", lambda e: _under(e, 0.0, 0.1, n=100), "pass"),
    (
        "many records, few in the denominator",
        lambda e: (e["reports"][0].update(n=9999), _under(e, 0, 0.1, n=3)),
        "insufficient",
    ),
    ("a limit with a min_n of its own", lambda e: (_own_min_n(e, 40), _under(e, 0.0, 0.1, n=41)), "pass"),
    ("fewer than a limit's own min_n", lambda e: (_own_min_n(e, 40), _under(e, 0.0, 0.1, n=39)), "insufficient"),
    ("a difference that was not measured", lambda e: e["comparisons"][0].update(difference=None), "insufficient"),
    ("a negative control", lambda e: e["stamps"].update(control="shuffled_labels"), "fail"),
    ("tested on groups it was trained on", lambda e: e["reports"][0].update(overlap=1), "insufficient"),
    ("unknown training groups", lambda e: e["reports"][0].update(overlap=None), "insufficient"),
    ("the champion is tested on groups it was trained on", lambda e: _met(e, 7), "insufficient"),
    ("the champion was trained on other groups", lambda e: _met(e, 0), "pass"),
    ("the comparison is missing", lambda e: e["comparisons"].clear(), "insufficient"),
    (
        "too few records compared",
        lambda e: e["comparisons"][0].update(difference=figure(0.2, 0.4, 99)),
        "insufficient",
    ),
    ("compared in another metric", lambda e: e["comparisons"][0].update(metric="accuracy"), "insufficient"),
    ("worse than the base", lambda e: e["comparisons"][0].update(difference=figure(-0.3, -0.1)), "fail"),
    ("like the base", lambda e: e["comparisons"][0].update(difference=figure(-0.1, 0.1)), "insufficient"),
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
    evidence = sound_evidence()
    change(evidence)
    verdict = gate.apply_policy(**evidence)
    assert verdict["verdict"] == expected
    bad = [check["reason"] for check in verdict["checks"] if check["verdict"] != "pass"]
    assert verdict["reasons"] == (bad or ["every check passed"])
    assert (expected == "pass") == (not bad)


def test_a_figure_that_is_no_number_never_gets_a_verdict() -> None:
    evidence = sound_evidence()
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
    evidence = sound_evidence()
    before = copy.deepcopy(evidence)
    assert gate.apply_policy(**evidence) == gate.apply_policy(**copy.deepcopy(evidence))
    assert evidence == before


def test_every_piece_of_evidence_is_in_the_digest() -> None:
    plain = gate.apply_policy(**sound_evidence())["evidence_sha256"]
    changes = [
        lambda e: _kappa(e, 0.551, 0.65),
        lambda e: e["comparisons"][0].update(n=201),
        lambda e: e["stamps"].update(control="shuffled_labels"),
    ]
    for change in changes:
        evidence = sound_evidence()
        change(evidence)
        assert gate.apply_policy(**evidence)["evidence_sha256"] != plain


def test_every_check_carries_observation_limit_and_n() -> None:
    checks = gate.apply_policy(**sound_evidence())["checks"]
    assert [check["name"] for check in checks] == [
        "quadratic_kappa",
        "under_triage_rate",
        "quadratic_kappa, difference to base",
        "groups of the test set in the training data of candidate",
    ]
    assert [(c["observed"], c["limit"], c["rule"], c["n"]) for c in checks][:2] == [
        (pytest.approx(0.6), 0.5, "at least", 200),
        (pytest.approx(0.15), 0.3, "at most", 200),
    ]


def test_judging_adds_the_candidates_version_and_the_shipped_policy() -> None:
    given = sound_evidence()
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


def test_a_smoke_run_fails_however_it_is_judged() -> None:
    given = sound_evidence()
    candidate = {"version": "4", "release": {"meta": {"smoke": True, "control": "none"}}}
    judged = {"reports": given["reports"], "comparisons": given["comparisons"]}
    verdict = gate.judge_candidate(usecase="triage", evidence=judged, candidate=candidate, champion={"version": None})
    assert verdict["verdict"] == "fail"


def _earlier(evidence: Evidence, low: float, high: float) -> None:
    evidence["policy"] = POLICY.model_copy(update={"max_forgetting": 0.05})
    versus = {"reference": EARLIER, "metric": "quadratic_kappa", "n": 150, "difference": figure(low, high, 150)}
    evidence["comparisons"].append(versus)


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [(-0.04, 0.1, "pass"), (-0.09, -0.01, "insufficient"), (-0.3, -0.1, "fail")],
)
def test_what_the_champion_knew_may_be_forgotten_only_so_far(low: float, high: float, verdict: str) -> None:
    evidence = sound_evidence()
    _champion(evidence, 0.0, 0.1)
    _earlier(evidence, low, high)
    assert gate.apply_policy(**evidence)["verdict"] == verdict


def test_forgetting_that_was_not_measured_does_not_pass() -> None:
    evidence = sound_evidence()
    _champion(evidence, 0.0, 0.1)
    _earlier(evidence, 0.0, 0.1)
    evidence["comparisons"].pop()
    found = gate.apply_policy(**evidence)
    assert found["verdict"] == "insufficient" and EARLIER in found["reasons"][0]


def test_without_a_champion_nothing_can_be_forgotten() -> None:
    evidence = sound_evidence()
    evidence["policy"] = POLICY.model_copy(update={"max_forgetting": 0.05})
    assert gate.apply_policy(**evidence)["verdict"] == "pass"


def _judged(truth: list[int], predicted: list[int], groups: list[int] | None = None) -> dict[str, Any]:
    """The shipped triage gate on a model's answers, whatever it is compared with being well."""
    import numpy as np

    case = config.load("triage")
    names = [label.name for label in case.task.labels]
    figures = metrics.measure(
        truth=np.array(truth), predicted=np.array(predicted), groups=groups or list(range(len(truth))), labels=names,
        severe=case.task.severe, resamples=200, confidence=0.95,
    )  # fmt: skip
    evidence = sound_evidence() | {"policy": case.gate}
    evidence["reports"][0] |= {"metrics": figures, "n": len(truth)}
    better = {"metric": "quadratic_kappa", "n": len(truth), "difference": figure(0.2, 0.4, len(truth))}
    evidence["comparisons"] = [{"reference": name, **better} for name in case.gate.beats]
    return gate.apply_policy(**evidence)  # type: ignore[return-value]


def _triage(seed: int = 1, n: int = 2000, mix: tuple[float, ...] = (0.03, 0.17, 0.37, 0.36, 0.07)) -> list[int]:
    import numpy as np

    return list(np.random.default_rng(seed).choice(5, n, p=mix).tolist())


def test_a_perfect_model_passes_the_shipped_gate() -> None:
    assert _judged(_triage(), _triage())["verdict"] == "pass"


def test_a_model_that_calls_every_resuscitation_non_urgent_does_not_pass_the_shipped_gate() -> None:
    """All else it answers rightly."""
    truth = _triage()
    verdict = _judged(truth, [4 if level == 0 else level for level in truth])
    assert verdict["verdict"] != "pass"
    assert any("under_triage_rate.resuscitation: 1.000" in reason for reason in verdict["reasons"])


def test_without_a_severe_record_nothing_is_said_about_severe_ones() -> None:
    truth = _triage(mix=(0, 0, 0.45, 0.45, 0.1))
    verdict = _judged(truth, truth)
    assert verdict["verdict"] == "insufficient"
    assert "severe_under_triage_rate: not measured; missing evidence never passes" in verdict["reasons"]


def test_three_severe_records_none_missed_say_too_little() -> None:
    truth = [0, 1, 1, *_triage(mix=(0, 0, 0.45, 0.45, 0.1))]
    verdict = _judged(truth, truth)
    assert verdict["verdict"] == "insufficient"
    assert any(reason.startswith("severe_under_triage_rate: 3 records") for reason in verdict["reasons"])


@pytest.mark.parametrize(("margin", "verdict"), [(0.06, "pass"), (0.0, "insufficient")])
def test_a_candidate_as_good_as_the_champion_is_not_worse_by_noise(margin: float, verdict: str) -> None:
    """T24: both err in a fifth of the records, each in others; the interval of the difference decides."""
    import numpy as np

    truth = np.array(_triage())
    ours, theirs = (np.where(np.random.default_rng(seed).random(len(truth)) < 0.2, 2, truth) for seed in (11, 12))
    difference = metrics.difference(
        truth=truth, ours=ours, theirs=theirs, groups=range(len(truth)), labels=list("abcde"),
        metric="quadratic_kappa", resamples=400, confidence=0.95,
    )  # fmt: skip
    evidence = sound_evidence() | {
        "has_champion": True,
        "policy": POLICY.model_copy(update={"champion_margin": margin}),
    }
    versus = {"reference": "champion", "metric": "quadratic_kappa", "n": len(truth), "difference": difference}
    evidence["comparisons"].append(versus)
    assert gate.apply_policy(**evidence)["verdict"] == verdict
