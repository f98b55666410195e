"""Promotion needs a passed gate and a person's approval of the same evidence; the ledger decides, MLflow follows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks import tracking
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import EvidenceError, IntegrityError, ModelError, ReleaseError
from llmops_tasks.release import ledger, registry
from llmops_tasks.store import artifacts
from tests.support import tiny

pytestmark = pytest.mark.usefixtures("mlflow")
DATASET = {"uri": "file:///data", "sha256": "d" * 64}
REPORT = {"subject": "candidate", "n": 300, "metrics": {"accuracy": {"value": 0.5, "low": 0.4, "high": 0.6}}}
JUDGED = {"reports": [REPORT], "comparisons": []}


def _release(number: int, **stamps: Any) -> ArtifactRef:
    """A release of a few bytes: what the registry looks at, and no model."""

    def build(out: Path) -> dict[str, Any]:
        for name in ("README.md", "release.json", "model.safetensors"):
            (out / name).write_text(f"{name} {number}")
        return {"dataset_sha256": DATASET["sha256"], "smoke": False, "control": "none", "mlflow_run": "r", **stamps}

    return artifacts.publish(usecase="triage", kind="release", inputs={"number": number, **stamps}, build=build)


def _candidate(number: int, **stamps: Any) -> dict[str, Any]:
    return registry.register_release(usecase="triage", release=_release(number, **stamps))


def _evidence(candidate: dict[str, Any]) -> dict[str, Any]:
    """A passed gate and its approval, both about this candidate and today's champion."""
    verdict = {
        "verdict": "pass",
        "candidate_version": candidate["version"],
        "candidate_sha256": candidate["release"]["sha256"],
        "evidence_sha256": "e" * 60 + candidate["version"].zfill(4),
    }
    now = registry.find_champion(usecase="triage")["version"]
    approval = {"choice": "Approve", "by": "Dr. Who", "at": "2026-03-30T10:00:00+00:00", "champion_version": now}
    approval["evidence_sha256"] = verdict["evidence_sha256"]
    return {"verdict": verdict, "approval": approval, "evidence": JUDGED, "dataset": DATASET}


def _promote(candidate: dict[str, Any], evidence: dict[str, Any] | None = None) -> dict[str, Any]:
    return registry.promote(usecase="triage", candidate=candidate, **(evidence or _evidence(candidate)))


def _alias() -> str | None:
    return str(tracking.client().get_model_version_by_alias("triage", "champion").version)


def _changes() -> list[tuple[str, str]]:
    chain = ledger.read_ledger(usecase="triage")
    return [(e["kind"], e["body"]["version"]) for e in chain if e["kind"] in ("promotion", "rollback")]


def test_registering_twice_keeps_the_version() -> None:
    first = _candidate(1)
    assert first["version"] == "1"
    assert _candidate(1) == first
    assert _candidate(2)["version"] == "2"
    found = tracking.client().get_model_version_by_alias("triage", "challenger")
    assert (str(found.version), found.tags["release_sha256"]) == ("2", _release(2)["sha256"])


def test_mlflow_keeps_the_card_and_the_manifest_but_no_weights() -> None:
    run = _candidate(1)["run_id"]
    names = {Path(item.path).name for item in tracking.client().list_artifacts(run, "release")}
    assert names == {"README.md", "release.json", artifacts.MANIFEST}


def test_a_damaged_release_is_not_registered() -> None:
    release = _release(1)
    (artifacts.fetch(release) / "model.safetensors").write_text("other bytes")
    with pytest.raises(IntegrityError):
        registry.register_release(usecase="triage", release=release)
    assert tracking.client().search_model_versions("name = 'triage'") == []


def test_nobody_serves_before_the_first_promotion() -> None:
    assert registry.find_champion(usecase="triage")["version"] is None
    with pytest.raises(ReleaseError, match="Nothing was promoted yet"):
        registry.rollback(usecase="triage", reason="x", by="me")


def test_an_approved_candidate_becomes_champion_in_ledger_and_mlflow() -> None:
    candidate = _candidate(1)
    champion = _promote(candidate)
    assert (champion["version"], champion["release"]) == ("1", candidate["release"])
    assert (champion["dataset"], champion["report"]) == (DATASET, REPORT)
    entry = ledger.read_ledger(usecase="triage", kind="promotion")[0]
    assert entry["body"]["approved_by"] == "Dr. Who"
    assert entry["body"]["verdict_evidence_sha256"] == _evidence(candidate)["verdict"]["evidence_sha256"]
    assert _alias() == "1"
    assert tracking.client().get_model_version("triage", "1").tags["ledger_seq"] == str(entry["seq"])


def test_promoting_twice_changes_nothing() -> None:
    candidate = _candidate(1)
    evidence = _evidence(candidate)
    first = _promote(candidate, evidence)
    head = ledger.verify_ledger(usecase="triage")
    assert _promote(candidate, evidence) == first
    assert ledger.verify_ledger(usecase="triage") == head


REFUSED: list[tuple[str, str, dict[str, Any], str]] = [
    ("the gate failed", "verdict", {"verdict": "fail"}, "The gate said 'fail'"),
    ("the gate lacked evidence", "verdict", {"verdict": "insufficient"}, "The gate said 'insufficient'"),
    ("the gate saw other bytes", "verdict", {"candidate_sha256": "f" * 64}, "about other bytes"),
    ("the gate saw another version", "verdict", {"candidate_version": "9"}, "about other bytes"),
    ("a person rejected it", "approval", {"choice": "Reject"}, "no approval of this evidence"),
    ("nobody answered", "approval", {"choice": None}, "no approval of this evidence"),
    ("other evidence was approved", "approval", {"evidence_sha256": "0" * 64}, "no approval of this evidence"),
]


@pytest.mark.parametrize(("part", "change", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_promotion_is_refused_when(part: str, change: dict[str, Any], message: str) -> None:
    candidate = _candidate(1)
    evidence = _evidence(candidate)
    evidence[part] |= change
    with pytest.raises(EvidenceError, match=message):
        _promote(candidate, evidence)
    assert ledger.verify_ledger(usecase="triage")["entries"] == 0


@pytest.mark.parametrize("stamps", [{"smoke": True}, {"control": "shuffled_labels"}])
def test_a_smoke_or_control_run_is_never_promoted_whatever_gate_and_person_say(stamps: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError, match="can never be promoted"):
        _promote(_candidate(1, **stamps))
    assert ledger.verify_ledger(usecase="triage")["entries"] == 0


def test_a_verdict_against_a_former_champion_is_refused() -> None:
    first, second, third = _candidate(1), _candidate(2), _candidate(3)
    _promote(first)
    stale = _evidence(second)
    _promote(third)
    with pytest.raises(ReleaseError, match="Another version was promoted since the verdict"):
        _promote(second, stale)
    assert registry.find_champion(usecase="triage")["version"] == "3"


def _back(**more: Any) -> dict[str, Any]:
    return registry.rollback(usecase="triage", reason="worse on the ward", by="Dr. Who", **more)


def test_rollback_returns_to_the_champion_before_and_twice_is_once() -> None:
    _promote(_candidate(1))
    _promote(_candidate(2))
    assert _alias() == "2"
    assert _back()["version"] == "1"
    assert _alias() == "1"
    head = ledger.verify_ledger(usecase="triage")
    assert _back()["version"] == "1"
    assert ledger.verify_ledger(usecase="triage") == head
    assert _changes() == [("promotion", "1"), ("promotion", "2"), ("rollback", "1")]
    body = ledger.read_ledger(usecase="triage", kind="rollback")[0]["body"]
    assert (body["previous"], body["reason"], body["by"]) == ("2", "worse on the ward", "Dr. Who")


def test_the_first_champion_cannot_be_rolled_back() -> None:
    _promote(_candidate(1))
    with pytest.raises(ReleaseError, match="Version 1 is the first champion"):
        _back()
    assert _changes() == [("promotion", "1")]


def test_rollback_goes_to_promoted_versions_only() -> None:
    _promote(_candidate(1))
    _candidate(2)
    with pytest.raises(ReleaseError, match=r"Version '2' was never promoted. Promoted versions: \['1'\]"):
        _back(version="2")
    assert _alias() == "1"


def test_rollback_to_a_given_version_works_forth_and_back() -> None:
    for number in (1, 2, 3):
        _promote(_candidate(number))
    assert _back(version="1")["version"] == "1"
    assert _back(version="3")["version"] == "3"
    assert _back(version="1")["version"] == "1"
    assert _changes()[3:] == [("rollback", "1"), ("rollback", "3"), ("rollback", "1")]


def test_after_a_rollback_the_next_promotion_builds_on_who_serves() -> None:
    _promote(_candidate(1))
    _promote(_candidate(2))
    _back()
    _promote(_candidate(3))
    assert ledger.read_ledger(usecase="triage", kind="promotion")[-1]["body"]["previous"] == "1"
    assert _back()["version"] == "1"


def test_mlflows_alias_is_mended_from_the_ledger() -> None:
    _promote(_candidate(1))
    second = _candidate(2)
    evidence = _evidence(second)
    _promote(second, evidence)
    tracking.client().set_registered_model_alias("triage", "champion", "1")  # a crash between ledger and MLflow
    _promote(second, evidence)
    assert _alias() == "2"


def test_who_served_under_a_number_is_found_later() -> None:
    one = _candidate(1)
    _promote(one)
    _promote(_candidate(2))
    former = registry.find_champion(usecase="triage", version="1")
    assert (former["version"], former["release"]) == ("1", one["release"])


def test_days_find_the_champion_that_answered_them() -> None:
    one = _candidate(1)
    _promote(one)
    _promote(_candidate(2))
    event = {"day": {"rows": 3}, "predictions": {"release_version": "1"}}
    found = registry.add_champions(usecase="triage", events=[event])
    assert found[0]["champion"]["release"] == one["release"]
    assert (found[0]["day"], found[0]["predictions"]) == (event["day"], event["predictions"])


def test_figures_and_verdict_are_written_to_the_candidates_run() -> None:
    candidate = _candidate(1)
    verdict = _evidence(candidate)["verdict"] | {"verdict": "fail"}
    registry.annotate_version(usecase="triage", candidate=candidate, evidence=JUDGED, verdict=verdict)
    metrics = tracking.client().get_run(candidate["run_id"]).data.metrics
    assert metrics == {
        "candidate.accuracy": 0.5,
        "candidate.accuracy.low": 0.4,
        "candidate.accuracy.high": 0.6,
    }
    assert tracking.client().get_model_version("triage", "1").tags["gate"] == "fail"


@pytest.fixture
def starting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """The path of a use case that starts from these weights, beside the shipped one."""

    def make(start: str) -> str:
        raw = yaml.safe_load(tiny.TRIAGE.read_text(encoding="utf-8"))
        raw["finetune"]["start"] = start
        for name in ("triage", "another"):
            (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
        monkeypatch.setenv("LLMOPS_USECASES", str(tmp_path))
        return str(tmp_path / "another.yaml")

    return make


@pytest.mark.parametrize(("start", "promoted"), [("base", False), ("champion", False), ("champion:triage", True)])
def test_training_starts_from_the_weights_that_the_use_case_names(
    starting: Callable[[str], str], start: str, promoted: bool
) -> None:
    usecase, base = starting(start), _release(99)
    assert registry.find_starting_point(usecase=usecase, base=base) == base  # nobody is champion yet
    candidate = _candidate(1)
    _promote(candidate)
    wanted = candidate["release"] if promoted else base
    assert registry.find_starting_point(usecase=usecase, base=base) == wanted


def test_training_does_not_start_from_an_ensemble(starting: Callable[[str], str]) -> None:
    usecase = starting("champion:triage")
    _promote(_candidate(1, members=3))
    with pytest.raises(ModelError, match=r"champion of 'triage' is an ensemble of 3 members.* Set finetune\.start"):
        registry.find_starting_point(usecase=usecase, base=_release(99))
