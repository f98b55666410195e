"""Who serves changes by the ledger: once, in order, and only to what was promoted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import tracking
from llmops_tasks.errors import ReleaseError
from llmops_tasks.release import ledger, registry
from tests.support.releases import (
    approval_rules,
    approved,
    champion_alias,
    changes,
    dataset,
    promoted,
    promoted_as_it_is,
    registered,
    reported,
    rolled_back,
)

pytestmark = pytest.mark.usefixtures("mlflow")


def test_an_approved_candidate_becomes_champion_in_ledger_and_mlflow() -> None:
    candidate = registered(1)
    champion = promoted(candidate)
    assert (champion["version"], champion["release"]) == ("1", candidate["release"])
    assert (champion["dataset"], champion["report"]) == (dataset(), reported(candidate))
    entry = ledger.read_ledger(usecase="triage", kind="promotion")[0]
    assert entry["body"]["approved_by"] == "Dr. Who"
    (gate,) = ledger.read_ledger(usecase="triage", kind="gate")
    assert entry["body"]["verdict_evidence_sha256"] == gate["body"]["verdict"]["evidence_sha256"]
    assert champion_alias() == "1"
    assert tracking.client().get_model_version("triage", "1").tags["ledger_seq"] == str(entry["seq"])


def test_promoting_twice_changes_nothing() -> None:
    candidate = registered(1)
    first = promoted(candidate)
    head = ledger.verify_ledger(usecase="triage")
    assert promoted_as_it_is(candidate) == first
    assert ledger.verify_ledger(usecase="triage") == head


def test_a_verdict_against_a_former_champion_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    approval_rules(tmp_path, monkeypatch, newer_candidate="keeps_open")
    first, second, third = registered(1), registered(2), registered(3)
    promoted(first)
    approved(third)
    promoted(second)
    with pytest.raises(ReleaseError, match="Another version was promoted since the verdict: 2 serves, not 1"):
        promoted_as_it_is(third)
    assert registry.find_champion(usecase="triage")["version"] == "2"


def test_rollback_returns_to_the_champion_before_and_twice_is_once() -> None:
    promoted(registered(1))
    promoted(registered(2))
    assert champion_alias() == "2"
    assert rolled_back()["version"] == "1"
    assert champion_alias() == "1"
    head = ledger.verify_ledger(usecase="triage")
    assert rolled_back()["version"] == "1"
    assert ledger.verify_ledger(usecase="triage") == head
    assert changes() == [("promotion", "1"), ("promotion", "2"), ("rollback", "1")]
    body = ledger.read_ledger(usecase="triage", kind="rollback")[0]["body"]
    assert (body["previous"], body["reason"], body["by"]) == ("2", "worse on the ward", "Dr. Who")


def test_the_first_champion_cannot_be_rolled_back() -> None:
    promoted(registered(1))
    with pytest.raises(ReleaseError, match="Version 1 is the first champion"):
        rolled_back()
    assert changes() == [("promotion", "1")]


def test_rollback_goes_to_promoted_versions_only() -> None:
    promoted(registered(1))
    registered(2)
    with pytest.raises(ReleaseError, match=r"Version '2' was never promoted. Promoted versions: \['1'\]"):
        rolled_back(version="2")
    assert champion_alias() == "1"


def test_rollback_to_a_given_version_works_forth_and_back() -> None:
    for number in (1, 2, 3):
        promoted(registered(number))
    assert rolled_back(version="1")["version"] == "1"
    assert rolled_back(version="3")["version"] == "3"
    assert rolled_back(version="1")["version"] == "1"
    assert changes()[3:] == [("rollback", "1"), ("rollback", "3"), ("rollback", "1")]


def test_a_promotion_that_slips_in_before_a_rollback_is_written_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the rollback would remove from service what nobody had seen."""
    promoted(registered(1))
    promoted(registered(2))
    third = registered(3)
    approved(third)
    append = ledger.append

    def slipping(**given: Any) -> Any:
        monkeypatch.setattr(ledger, "append", append)
        promoted_as_it_is(third)
        return append(**given)

    monkeypatch.setattr(ledger, "append", slipping)
    with pytest.raises(ReleaseError, match="promoted since the rollback began: 3 serves, not 2"):
        rolled_back()
    assert changes()[-1] == ("promotion", "3")


def test_after_a_rollback_the_next_promotion_builds_on_who_serves() -> None:
    promoted(registered(1))
    promoted(registered(2))
    rolled_back()
    promoted(registered(3))
    assert ledger.read_ledger(usecase="triage", kind="promotion")[-1]["body"]["previous"] == "1"
    assert rolled_back()["version"] == "1"


def test_a_rollback_that_runs_again_leaves_a_later_champion_alone() -> None:
    """Its task was cleared, or its worker was lost after the entry."""
    promoted(registered(1))
    promoted(registered(2))
    assert rolled_back(once="run 7")["version"] == "1"
    promoted(registered(3))
    assert rolled_back(once="run 7")["version"] == "3"
    assert changes()[-1] == ("promotion", "3")
    assert rolled_back(once="run 8")["version"] == "1"
