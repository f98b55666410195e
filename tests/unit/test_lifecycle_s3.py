"""The whole life cycle with landing, inbox, models, store and ledger on S3: two use cases, and no local store at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks import chain, config, tracking
from llmops_tasks.data import anonymize, ingest, render_day, validate
from llmops_tasks.monitoring import decide_for_days, first_retraining, measure_drift_of_days
from llmops_tasks.release import (
    find_answer,
    find_champion,
    find_due_candidates,
    find_due_days,
    find_due_questions,
    find_retrainings,
    promote,
    rebuild_registry,
    record_approval,
    record_decisions,
    rollback,
    verify_ledger,
)
from llmops_tasks.serving import predict_batch
from llmops_tasks.store import objects
from tests.support import tiny

DAYS = ("2026-03-30", "2026-03-31")
# Whatever a random model answers may pass here: it is not the gate that is tried.
LENIENT = {
    "limits": [{"metric": "quadratic_kappa", "at_least": -1.0}],
    "beats": [],
    "min_n": 10,
    "champion_margin": 2.0,
}


@pytest.fixture
def cloud(s3: Any, tmp_path: Path, notes: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything in one bucket; the folder is that of the use cases."""
    for root, prefix in ((notes, ""), (tiny_model, "models/tiny/")):
        for path in root.rglob("*"):
            if path.is_file():
                s3.put_object(Bucket="bucket", Key=f"{prefix}{path.relative_to(root)}", Body=path.read_bytes())
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    monkeypatch.setenv("LLMOPS_PSEUDONYM_KEY", "tests")
    monkeypatch.setenv("LLMOPS_USECASES", str(tmp_path / "usecases"))
    return tmp_path / "usecases"


def _usecase(folder: Path, name: str, seed: int) -> str:
    source = {"uri": "s3://bucket/inbox/date={date}/*.csv", "format": "csv", "null_values": [""]}
    sections: dict[str, Any] = {
        "batch": {"source": source},
        "finetune": {"seed": seed},
        "gate": LENIENT,
        "evaluation": {"baselines": []},
        "base_model": {"uri": "s3://bucket/models/tiny", "licence": "apache-2.0"},
    }
    path = tiny.usecase(folder, Path("/not/on/this/disk"), "s3://bucket/landing/*.csv", name=name, **sections)
    return path.stem


def _change(folder: Path, name: str, seed: int) -> None:
    path = folder / f"{name}.yaml"
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["finetune"]["seed"] = seed
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")


def _promoted(usecase: str) -> dict[str, Any]:
    """From landing to champion, as the DAGs do it."""
    done = chain.chain(usecase=usecase)
    assert done["gate"]["verdict"] == "pass", done["gate"]["reasons"]
    response = {"chosen_options": ["Approve"], "responded_by_user": {"name": "Dr. Who"}, "responded_at": "noon"}
    version = done["register"]["version"]
    assert find_due_candidates(usecase=usecase) == []
    (question,) = find_due_questions(usecase=usecase)
    assert question["version"] == version
    record_approval(usecase=usecase, **question, response=response)
    assert find_answer(usecase=usecase, **question)
    return promote(usecase=usecase, version=version)


def _answered(usecase: str, date: str) -> dict[str, Any]:
    champion = find_champion(usecase=usecase)
    records = ingest(usecase=usecase, date=date)
    good = validate(usecase=usecase, records=records, labelled=False)
    anonymous = anonymize(usecase=usecase, records=good)
    day = render_day(usecase=usecase, records=anonymous, date=date, champion=champion)
    answered = predict_batch(usecase=usecase, day=day, champion=champion)
    assert predict_batch(usecase=usecase, day=day, champion=champion)["parts"] == answered["parts"]
    return {"day": day, "predictions": answered}


def _decided(usecase: str) -> list[dict[str, Any]]:
    drifts = measure_drift_of_days(usecase=usecase, days=find_due_days(usecase=usecase))
    history = find_retrainings(usecase=usecase, drifts=drifts)
    return record_decisions(usecase=usecase, decisions=decide_for_days(usecase=usecase, drifts=drifts, history=history))


@pytest.mark.usefixtures("mlflow")
def test_two_use_cases_live_on_s3_from_landing_to_rollback(cloud: Path, home: Path, s3: Any) -> None:
    first, second = _usecase(cloud, "first", 1), _usecase(cloud, "second", 2)
    one = _promoted(first)
    assert one["version"] == "1" == _promoted(second)["version"]
    events = [_answered(first, date) for date in DAYS]
    due = [day["predictions"]["sha256"] for day in find_due_days(usecase=first)]
    assert due == [event["predictions"]["sha256"] for event in events]
    decisions = _decided(first)
    assert [decision["retrain"] for decision in decisions] == [False, True]  # the second day is another hospital's
    assert _decided(first) == []
    assert (first_retraining(decisions=decisions) or {})["date"] == DAYS[1]
    _change(cloud, first, 3)
    two = _promoted(first)
    assert (two["version"], two["release"]["sha256"] != one["release"]["sha256"]) == ("2", True)
    assert rollback(usecase=first, reason="worse", by="Dr. Who")["release"] == one["release"]
    assert find_champion(usecase=second)["version"] == "1"
    assert verify_ledger(usecase=first)["witnesses"] >= 2  # MLflow, and the days that were answered
    assert tracking.client().get_model_version_by_alias(first, "champion").version in ("1", 1)
    assert rebuild_registry(usecase=first)["champion"] == "1"
    assert not (home / "store").exists()
    assert objects.find("s3://bucket/store/first/ledger/*") and config.usecase_names() == ["first", "second"]
