"""A candidate trained on shuffled labels is refused, one trained on true labels passes; the ledger shows both."""

from __future__ import annotations

import csv
import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from llmops_tasks.chain import chain
from llmops_tasks.release import ledger
from tests.support import tiny

WORDS = {"1": "lifeless", "2": "crushing", "3": "vomiting", "4": "twisted", "5": "renewal"}


def easy_notes(path: Path, rows: int = 420) -> None:
    """Notes whose level one word gives away: so easy that even a random two-layer model learns them."""
    rng, start = random.Random(3), datetime(2026, 1, 1, tzinfo=UTC)
    columns = ["visit_id", "patient_id", "arrival_time", "triage_level", "age", "sex", "arrival_mode", "note", "heart_rate", "respiratory_rate", "systolic_bp", "spo2", "temperature", "mental_state", "pain", "patient_name", "phone", "record_number", "address", "nurse_level", "disposition"]  # fmt: skip
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, columns)
        writer.writeheader()
        for number in range(rows):
            level = rng.choice("12345")
            known = {
                "visit_id": f"V{number}",
                "patient_id": f"P{number}",
                "triage_level": level,
                "age": rng.randint(1, 99),
            }
            when = (start + timedelta(hours=number)).isoformat()
            writer.writerow(
                known | {"arrival_time": when, "note": WORDS[level], "sex": "female", "mental_state": "alert"}
            )


@pytest.fixture
def easy_usecase(tmp_path: Path, tiny_model: Path) -> str:
    easy_notes(tmp_path / "easy.csv")
    training = {"method": "full", "epochs": 6, "batch_size": 8, "learning_rate": 0.003, "checkpoint_every": 500}
    gate = {"limits": [{"metric": "quadratic_kappa", "at_least": 0.8}], "beats": ["base"], "min_n": 100}
    sections = {"finetune": training, "gate": gate, "evaluation": {"baselines": ["base"]}}
    return str(
        tiny.usecase(tmp_path / "usecases", tiny_model, (tmp_path / "easy.csv").as_uri(), name="easy", **sections)
    )


def test_the_gate_refuses_shuffled_labels_and_passes_true_ones_and_the_ledger_shows_it(easy_usecase: str) -> None:
    true = chain(usecase=easy_usecase)["gate"]
    shuffled = chain(usecase=easy_usecase, control="shuffled_labels")["gate"]
    assert (true["verdict"], shuffled["verdict"]) == ("pass", "fail")
    assert any(reason.startswith("quadratic_kappa") for reason in shuffled["reasons"])
    recorded = [entry["body"]["verdict"] for entry in ledger.read_ledger(usecase=easy_usecase, kind="gate")]
    assert [verdict["verdict"] for verdict in recorded] == ["pass", "fail"]
    assert recorded[0]["candidate_sha256"] != recorded[1]["candidate_sha256"]
