"""Promotion needs a passed gate and a person's approval of the same evidence; the ledger decides, MLflow follows."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks import tracking
from llmops_tasks.errors import InputError, IntegrityError, ModelError, ReleaseError
from llmops_tasks.release import ledger, promotion, registry
from llmops_tasks.store import artifacts
from tests.support import tiny
from tests.support.releases import (
    champion_alias,
    promoted,
    promoted_as_it_is,
    registered,
    released,
    reported,
    rolled_back,
    verdict_on,
)

pytestmark = pytest.mark.usefixtures("mlflow")


def test_registering_twice_keeps_the_version() -> None:
    first = registered(1)
    assert first["version"] == "1"
    assert registered(1) == first
    assert registered(2)["version"] == "2"
    found = tracking.client().get_model_version_by_alias("triage", "challenger")
    assert (str(found.version), found.tags["release_sha256"]) == ("2", released(2)["sha256"])


def test_mlflow_keeps_the_card_and_the_manifest_but_no_weights() -> None:
    run = registered(1)["run_id"]
    names = {Path(item.path).name for item in tracking.client().list_artifacts(run, "release")}
    assert names == {"README.md", "release.json", artifacts.MANIFEST}


def test_a_damaged_release_is_not_registered() -> None:
    release = released(1)
    (artifacts.fetch(release) / "model.safetensors").write_text("other bytes")
    with pytest.raises(IntegrityError):
        registry.register_release(usecase="triage", release=release)
    assert tracking.client().search_model_versions("name = 'triage'") == []


def test_nobody_serves_before_the_first_promotion() -> None:
    assert registry.find_champion(usecase="triage")["version"] is None
    with pytest.raises(ReleaseError, match="Nothing was promoted yet"):
        promotion.rollback(usecase="triage", reason="x", by="me")


def test_mlflows_alias_is_fixed_from_the_ledger() -> None:
    promoted(registered(1))
    second = registered(2)
    promoted(second)
    tracking.client().set_registered_model_alias("triage", "champion", "1")  # a crash between ledger and MLflow
    promoted_as_it_is(second)
    assert champion_alias() == "2"


def test_who_served_under_a_number_is_found_later() -> None:
    one = registered(1)
    promoted(one)
    promoted(registered(2))
    former = registry.find_champion(usecase="triage", version="1")
    assert (former["version"], former["release"]) == ("1", one["release"])


def test_the_champion_comes_with_the_ledgers_head() -> None:
    """They keep it, and are witnesses of it."""
    nobody = registry.find_champion(usecase="triage")
    assert (nobody["seq"], nobody["head"]) == (0, {"seq": 0, "sha256": ledger.GENESIS})
    promoted(registered(1))
    promotion = ledger.head(usecase="triage")
    promoted(registered(2))
    rolled_back()
    again = registry.find_champion(usecase="triage")
    assert (again["version"], again["seq"]) == ("1", promotion["seq"])  # the promotion's number, not the rollback's
    assert again["head"] == ledger.head(usecase="triage") != promotion


def test_who_served_at_a_time_is_found_by_the_times_of_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    moments = iter(datetime.datetime(2026, 3, day, 12, tzinfo=datetime.UTC) for day in (1, 2, 3))

    class Clock(datetime.datetime):
        at = datetime.datetime(2026, 2, 1, tzinfo=datetime.UTC)

        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls.at

    monkeypatch.setattr(ledger, "datetime", Clock)
    for change in (lambda: promoted(registered(1)), lambda: promoted(registered(2)), rolled_back):
        Clock.at = next(moments)
        change()
    served = {
        at: registry.find_champion(usecase="triage", as_of=at)["version"]
        for at in (
            "2026-03-01T11:59:59+00:00", "2026-03-01T12:00:00+00:00", "2026-03-02T12:59:00+02:00",
            "2026-03-02T14:00:00+02:00", "2026-03-03T12:00:00+00:00", "2026-04-01T00:00:00+00:00",
        )
    }  # fmt: skip
    assert list(served.values()) == [None, "1", "1", "2", "1", "1"]


@pytest.mark.parametrize("when", ["2026-03-01", "2026-03-01T12:00:00", "9999-01-01T00:00:00+00:00", "yesterday"])
def test_a_time_without_an_offset_or_in_the_future_is_refused(when: str) -> None:
    with pytest.raises(InputError, match="2026-03-30T06:00:00"):
        registry.find_champion(usecase="triage", as_of=when)


def test_figures_and_verdict_are_written_to_the_candidates_run() -> None:
    candidate = registered(1)
    ref = verdict_on(candidate, said="fail")
    told = registry.annotate_version(usecase="triage", candidate=candidate, verdict=ref)
    run = told["run_id"]
    assert told == {"run_id": candidate["run_id"], "verdict": "fail"}
    kept = json.loads(Path(tracking.client().download_artifacts(run, "evaluation.json")).read_text())
    assert kept["verdict"]["verdict"] == "fail"
    assert kept["evidence"] == {"reports": [reported(candidate)], "comparisons": []}
    metrics = tracking.client().get_run(run).data.metrics
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


@pytest.mark.parametrize(("start", "follows"), [("base", False), ("champion", False), ("champion:triage", True)])
def test_training_starts_from_the_weights_that_the_use_case_names(
    starting: Callable[[str], str], start: str, follows: bool
) -> None:
    usecase, base = starting(start), released(99)
    assert registry.find_starting_point(usecase=usecase, base=base) == base  # nobody is champion yet
    candidate = registered(1)
    promoted(candidate)
    wanted = candidate["release"] if follows else base
    assert registry.find_starting_point(usecase=usecase, base=base) == wanted


def test_training_does_not_start_from_an_ensemble(starting: Callable[[str], str]) -> None:
    usecase = starting("champion:triage")
    promoted(registered(1, members=3))
    with pytest.raises(ModelError, match=r"champion of 'triage' is an ensemble of 3 members.* Set finetune\.start"):
        registry.find_starting_point(usecase=usecase, base=released(99))
