"""A promotion needs verdict and approval of the same evidence, both as the ledger has them."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tasks.errors import EvidenceError
from llmops_tasks.release import records, registry
from llmops_tasks.store import digests
from tests.support.releases import DATASET, answered, changes, judged, promoted, registered, released, reported

pytestmark = pytest.mark.usefixtures("mlflow")

REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("the gate failed", "verdict", {"verdict": "fail"}, "The gate said 'fail'"),
    ("the gate lacked evidence", "verdict", {"verdict": "insufficient"}, "The gate said 'insufficient'"),
    ("the gate saw other bytes", "verdict", {"candidate_sha256": "f" * 64}, "about other bytes"),
    ("the gate saw another version", "verdict", {"candidate_version": "9"}, "about other bytes"),
    ("a person rejected it", "approval", {"choice": "Reject"}, "no approval of this evidence"),
    ("nobody answered", "approval", {"choice": None}, "no approval of this evidence"),
    ("another verdict was approved", "approval", {"verdict_sha256": "0" * 64}, "no approval of this evidence"),
    ("it was judged on other rows", "dataset", {"sha256": "0" * 64}, "The verdict is about dataset dddd.*, not 0000"),
    ("a verdict was made up", "verdict", {"checks": ["invented"]}, "last verdict about version 1 is another"),
    ("another policy judged", "verdict", {"policy_sha256": "0" * 64}, "last verdict about version 1 is another"),
    ("an approval was made up", "approval", {"by": "nobody"}, "last answer about version 1 is another"),
    ("it was approved beside another champion", "approval", {"champion_version": "7"}, "last answer about .* another"),
]


@pytest.mark.parametrize(("part", "change", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_promotion_is_refused_when(part: str, change: dict[str, Any], message: str) -> None:
    candidate = registered(1)
    evidence = judged(candidate)
    evidence[part] = evidence[part] | change  # not in place: the dataset is every test's
    if part == "verdict":  # an approval of that verdict, so that nothing else is wrong
        evidence["approval"]["verdict_sha256"] = digests.digest(evidence["verdict"])
    with pytest.raises(EvidenceError, match=message):
        promoted(candidate, evidence)
    assert changes() == []


@pytest.mark.parametrize("stamps", [{"smoke": True}, {"control": "shuffled_labels"}])
def test_a_smoke_or_control_run_is_never_promoted_whatever_gate_and_person_say(stamps: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError, match="can never be promoted"):
        promoted(registered(1, **stamps))
    assert changes() == []


def test_verdict_and_approval_that_nobody_recorded_promote_nothing() -> None:
    """By the command line both could be made up, and the ledger then held only the promotion."""
    candidate = registered(1)
    verdict: Any = {
        "verdict": "pass", "candidate_version": "1", "candidate_sha256": candidate["release"]["sha256"],
        "dataset_sha256": DATASET["sha256"], "policy_sha256": "p",
        "evidence_sha256": digests.evidence_digest([reported(candidate)], [], candidate["release"]["meta"]),
    }  # fmt: skip
    approval = {"choice": "Approve", "by": "me", "champion_version": None}
    approval |= {"version": "1", "verdict_sha256": digests.digest(verdict)}
    evidence = {"reports": [reported(candidate)], "comparisons": []}
    made_up = {"verdict": verdict, "approval": approval, "evidence": evidence, "dataset": DATASET}
    with pytest.raises(EvidenceError, match="last verdict about version 1 is none"):
        promoted(candidate, made_up)
    records.record_verdict(usecase="triage", verdict=verdict)
    with pytest.raises(EvidenceError, match="last answer about version 1 is none"):
        promoted(candidate, made_up)
    assert changes() == []


def test_a_release_that_was_not_registered_is_not_promoted() -> None:
    candidate = {"version": "1", "release": released(1), "run_id": None}
    with pytest.raises(EvidenceError, match="knows no version 1 with these bytes"):
        promoted(candidate)
    registry.register_release(usecase="triage", release=released(2))
    with pytest.raises(EvidenceError, match="knows no version 1 with these bytes"):
        promoted(candidate)


def test_a_later_no_takes_the_place_of_an_earlier_yes() -> None:
    candidate = registered(1)
    evidence = judged(candidate)
    answered(candidate, evidence["verdict"], "Reject")
    with pytest.raises(EvidenceError, match="last answer about version 1 is another"):
        promoted(candidate, evidence)


def test_a_report_of_other_bytes_is_not_what_drift_is_measured_against() -> None:
    one, two = registered(1), registered(2)
    with pytest.raises(EvidenceError, match="first report is about other bytes or rows"):
        promoted(one, judged(one, reported(two)))


@pytest.mark.parametrize("given", [None, {}, {"reports": []}, {"reports": [], "comparisons": [], "more": 1}])
def test_evidence_of_another_form_is_refused(given: Any) -> None:
    candidate = registered(1)
    with pytest.raises(EvidenceError, match="must have reports and comparisons, and nothing else"):
        promoted(candidate, judged(candidate) | {"evidence": given})


def test_a_candidate_that_lies_elsewhere_than_it_was_registered_is_refused() -> None:
    """The same bytes by their digest; yet what the ledger names is where readers will look."""
    candidate = registered(1)
    evidence = judged(candidate)
    moved = {**candidate, "release": {**candidate["release"], "uri": "file:///elsewhere"}}
    with pytest.raises(EvidenceError, match="knows no version 1 with these bytes"):
        promoted(moved, evidence)


def test_figures_that_the_gate_did_not_see_are_not_what_drift_is_measured_against() -> None:
    candidate = registered(1)
    evidence = judged(candidate)
    evidence["evidence"]["reports"][0]["metrics"]["accuracy"]["value"] = 0.99
    with pytest.raises(EvidenceError, match="verdict is about other evidence"):
        promoted(candidate, evidence)
    assert changes() == []
