"""A promotion needs verdict and approval of the same evidence, both as the ledger has them, and the evidence in the store."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.errors import EvidenceError, IntegrityError, ReleaseError
from llmops_tasks.store import artifacts
from tests.support.releases import (
    answered,
    approval_rules,
    approved,
    changes,
    dataset,
    judged,
    promoted,
    promoted_as_it_is,
    registered,
    reported,
    verdict_on,
)

pytestmark = pytest.mark.usefixtures("mlflow")


def _nobody_answered(candidate: dict[str, Any]) -> None:
    judged(candidate)


def _another_verdict_was_approved(candidate: dict[str, Any]) -> None:
    approved(candidate)
    judged(candidate, checks=[])


def _a_later_no(candidate: dict[str, Any]) -> None:
    answered(candidate, approved(candidate), "Reject")


REFUSED: list[tuple[str, Callable[[dict[str, Any]], Any], str]] = [
    ("nothing was judged", lambda candidate: None, "no verdict about version '1'"),
    ("the gate failed", lambda candidate: judged(candidate, said="fail"), "The gate said 'fail'"),
    ("the gate lacked evidence", lambda candidate: judged(candidate, said="insufficient"), "said 'insufficient'"),
    ("nobody answered", _nobody_answered, "no answer yet"),
    ("a person rejected it", lambda candidate: answered(candidate, judged(candidate), "Reject"), "last answer is 'Reject'"),
    ("a no came after a yes", _a_later_no, "last answer is 'Reject'"),
    ("another verdict was approved", _another_verdict_was_approved, "no approval of this evidence"),
    ("its first report is of other bytes", lambda one: approved(one, reported(registered(2))), "about another release or dataset"),
]  # fmt: skip


@pytest.mark.parametrize(("before", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_promotion_is_refused_when(before: Callable[[dict[str, Any]], Any], message: str) -> None:
    candidate = registered(1)
    before(candidate)
    with pytest.raises(EvidenceError, match=message):
        promoted_as_it_is(candidate)
    assert changes() == []


def test_a_verdict_by_another_policy_than_the_one_in_charge_promotes_nothing() -> None:
    """Which configuration a run is bound to travels, and may be edited: an earlier, looser gate must not count."""
    candidate = registered(1)
    answered(candidate, judged(candidate, policy_sha256="q" * 64))
    with pytest.raises(EvidenceError, match="gate of the use case was changed since version 1 was judged"):
        promoted_as_it_is(candidate)
    assert changes() == []


def test_an_answer_to_an_earlier_question_undoes_no_approval_of_the_current_one() -> None:
    candidate = registered(1)
    earlier = judged(candidate, checks=[])
    current = judged(candidate)
    answered(candidate, current)
    answered(candidate, earlier, "Reject", at="late")
    assert promoted_as_it_is(candidate)["version"] == "1"


def test_a_newer_candidate_that_failed_since_stands_in_no_ones_way() -> None:
    first, second = registered(1), registered(2)
    approved(first)
    judged(second)
    judged(second, said="fail")
    assert promoted_as_it_is(first)["version"] == "1"


@pytest.mark.parametrize("stamps", [{"smoke": True}, {"control": "shuffled_labels"}])
def test_a_smoke_or_control_run_is_never_promoted_whatever_gate_and_person_say(stamps: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError, match="can never be promoted"):
        promoted(registered(1, **stamps))
    assert changes() == []


def test_a_version_that_was_not_registered_is_not_promoted() -> None:
    registered(1)
    with pytest.raises(EvidenceError, match="has no version '7'"):
        promoted_as_it_is({"version": "7"})


def test_evidence_that_was_changed_in_the_store_is_not_believed() -> None:
    candidate = registered(1)
    approved(candidate)
    file = artifacts.fetch(verdict_on(candidate)) / "evidence.json"
    file.write_bytes(file.read_bytes().replace(b"0.5", b"0.9"))
    with pytest.raises(IntegrityError, match=r"evidence\.json' is damaged"):
        promoted_as_it_is(candidate)
    assert changes() == []


def test_evidence_of_another_verdict_in_its_place_is_not_believed() -> None:
    candidate = registered(1)
    approved(candidate)
    folder = artifacts.fetch(verdict_on(candidate))
    other = artifacts.fetch(verdict_on(candidate, policy_sha256="q" * 64))
    for file in other.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    with pytest.raises(EvidenceError, match="is not that of the verdict"):
        promoted_as_it_is(candidate)


def test_figures_that_the_gate_did_not_see_are_not_what_drift_is_measured_against() -> None:
    candidate = registered(1)
    approved_verdict = judged(candidate, evidence_sha256="0" * 64)
    answered(candidate, approved_verdict)
    with pytest.raises(EvidenceError, match="The verdict does not match the evidence stored with it"):
        promoted_as_it_is(candidate)


def test_a_verdict_whose_dataset_is_gone_promotes_nothing() -> None:
    candidate = registered(1)
    approved(candidate)
    (artifacts.fetch(dataset()) / artifacts.MANIFEST).unlink()
    with pytest.raises(IntegrityError, match="made from a 'dataset' that is not in the store"):
        promoted_as_it_is(candidate)


@pytest.mark.parametrize(("policy", "counts"), [("supersedes", False), ("keeps_open", True)])
def test_what_an_approval_means_beside_a_newer_candidate_is_decided_by_policy(
    policy: str, counts: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    approval_rules(tmp_path, monkeypatch, newer_candidate=policy)
    first, second = registered(1), registered(2)
    approved(first)
    newer = judged(second)
    if counts:
        assert promoted_as_it_is(first)["version"] == "1"
        return
    with pytest.raises(ReleaseError, match="Version 1 is superseded: version 2 has passed"):
        promoted_as_it_is(first)
    answered(second, newer, "Reject")  # whoever was turned down stands in nobody's way
    assert promoted_as_it_is(first)["version"] == "1"
