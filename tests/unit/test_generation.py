"""A use case whose answers are text goes through the whole life cycle, and its negative control is refused."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.chain import chain
from llmops_tasks.data import anonymize, ingest, render_day, validate
from llmops_tasks.data.synthetic_faq import DAYS
from llmops_tasks.evaluation.gate_table import as_table
from llmops_tasks.monitoring import decide_for_days, first_retraining, measure_drift_of_days
from llmops_tasks.release import (
    find_champion,
    find_due_days,
    find_due_questions,
    find_retrainings,
    ledger,
    promote,
    record_approval,
    record_decisions,
)
from llmops_tasks.serving import predict_batch
from llmops_tasks.store import artifacts
from tests.support import desk


def _promoted(usecase: str) -> dict[str, Any]:
    done = chain(usecase=usecase)
    assert done["gate"]["verdict"] == "pass", done["gate"]["reasons"]
    (question,) = find_due_questions(usecase=usecase)
    assert "| token_f1 |" in as_table(done["gate"])
    response = {"chosen_options": ["Approve"], "responded_by_user": {"name": "Dr. Who"}, "responded_at": "noon"}
    record_approval(usecase=usecase, **question, response=response)
    return {**done, "champion": promote(usecase=usecase, version=question["version"])}


def _answered(usecase: str, date: str) -> Any:
    """What was written, and the texts that it answers."""
    import pandas as pd

    champion = find_champion(usecase=usecase)
    records = ingest(usecase=usecase, date=date)
    anonymous = anonymize(usecase=usecase, records=validate(usecase=usecase, records=records, labelled=False))
    day = render_day(usecase=usecase, records=anonymous, date=date, champion=champion)
    (part,) = predict_batch(usecase=usecase, day=day, champion=champion)["parts"]
    found = pd.read_parquet(artifacts.fetch(part) / "predictions.parquet")
    texts = pd.read_parquet(artifacts.fetch(day) / "data.parquet").set_index("record_id")["text"]
    return found, found["record_id"].map(texts)


@pytest.fixture
def usecase(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("LLMOPS_USECASES", str(tmp_path / "usecases"))
    return desk.usecase(
        tmp_path / "usecases", tiny_model, desk.write(tmp_path / "faq"), gate=desk.LENIENT, monitoring={"min_rows": 40}
    ).stem


@pytest.mark.usefixtures("mlflow")
def test_questions_become_a_champion_that_answers_days_which_are_watched(usecase: str) -> None:
    import mlflow
    import pandas as pd

    done = _promoted(usecase)
    subjects = {report["subject"]: report for report in done["evaluate"]}
    assert set(subjects) == {"candidate", "base", "retrieval"}
    assert all("bits_per_character" in subjects[name]["metrics"] for name in ("candidate", "base"))
    assert "bits_per_character" not in subjects["retrieval"]["metrics"]
    days, texts = zip(*(_answered(usecase, date) for date in DAYS), strict=True)
    assert list(days[0]) == [
        "record_id", "answer", "tokens", "read_sha256", "finish_reason", "error", "bits", "release_version", "release_sha256"
    ]  # fmt: skip
    assert [len(day) for day in days] == [50, 50] and set(days[0]["finish_reason"]) <= {"stop", "length"}
    assert days[0]["error"].isna().all() and (days[0]["tokens"] <= 12).all() and (days[0]["bits"] > 0).all()
    drifts = measure_drift_of_days(usecase=usecase, days=find_due_days(usecase=usecase))
    names = [signal["name"] for signal in drifts[0]["signals"]]
    assert names == ["answer length", "finish reasons", "refusals", "words"]
    history = find_retrainings(usecase=usecase, drifts=drifts)
    decided = decide_for_days(usecase=usecase, drifts=drifts, history=history)
    decisions = record_decisions(usecase=usecase, decisions=decided)
    assert [decision["retrain"] for decision in decisions] == [False, True]  # the second day asks for other things
    assert (first_retraining(decisions=decisions) or {})["date"] == DAYS[1]
    model = mlflow.pyfunc.load_model(f"models:/{usecase}@champion")
    found = model.predict(pd.DataFrame({"text": texts[0]}))
    assert found["answer"].tolist() == days[0]["answer"].tolist()
    assert found["tokens"].tolist() == days[0]["tokens"].tolist()
    assert found["bits"].tolist() == pytest.approx(days[0]["bits"].tolist(), rel=1e-4)


EASY = {"red": "Stop at once.", "green": "Go on slowly.", "blue": "Wait here."}


def _easy(folder: Path, rows: int = 300) -> Path:
    """Questions whose answer one word gives away: even a random two-layer model learns to write them."""
    rng = random.Random(3)
    asked = [rng.choice(sorted(EASY)) for _ in range(rows)]
    lines = [{"prompt": f"{word} light {number}", "completion": EASY[word]} for number, word in enumerate(asked)]
    (folder / "landing").mkdir(parents=True)
    (folder / "landing" / "faq.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.mark.usefixtures("mlflow")
def test_the_gate_passes_true_answers_and_refuses_shuffled_ones(tmp_path: Path, tiny_model: Path) -> None:
    training = {"method": "full", "epochs": 6, "batch_size": 8, "learning_rate": 0.003, "checkpoint_every": 500}
    limits = [{"metric": "exact_match", "at_least": 0.7}, {"metric": "bits_per_character", "at_most": 1.0}]
    gate = {"limits": limits, "beats": ["base"], "min_n": 30}
    sections: dict[str, Any] = {"finetune": training, "gate": gate, "evaluation": {"baselines": ["base"]}}
    usecase = str(desk.usecase(tmp_path / "usecases", tiny_model, _easy(tmp_path / "easy"), name="easy", **sections))
    true, shuffled = (chain(usecase=usecase, control=control)["gate"] for control in ("none", "shuffled_labels"))
    assert (true["verdict"], shuffled["verdict"]) == ("pass", "fail"), true["reasons"]
    assert any(reason.startswith("exact_match") for reason in shuffled["reasons"])
    assert any(reason.startswith("a negative control") for reason in shuffled["reasons"])
    recorded = [entry["body"]["verdict"] for entry in ledger.read_ledger(usecase=usecase, kind="gate")]
    assert [verdict["verdict"] for verdict in recorded] == ["pass", "fail"]
