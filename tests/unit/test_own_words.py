"""77 labels in their own words, from a YAML file to the gate: told apart by their whole texts, calibrated, abstaining."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import chain
from llmops_tasks.contracts import ABSTAINED
from llmops_tasks.prompts import answering, interface
from llmops_tasks.store import artifacts
from tests.support import banking, naive

pytestmark = pytest.mark.usefixtures("mlflow")
ALIKE = ("balance_not_updated_after_bank_transfer", "balance_not_updated_after_cheque_or_cash_deposit")
SURE = 0.9
TRAINING = {"method": "full", "epochs": 12, "learning_rate": 0.004, "batch_size": 16}


def _read(report: dict[str, Any]) -> Any:
    import pandas as pd

    return pd.read_parquet(artifacts.fetch(report["predictions"]) / "predictions.parquet")


def test_labels_in_their_own_words_go_from_data_to_the_gate(tmp_path: Path, tiny_model: Path) -> None:
    done = chain.chain(usecase=banking.usecase(tmp_path, tiny_model, finetune=TRAINING, task={"abstain_below": SURE}))
    candidate, base = done["evaluate"]
    found, release = _read(candidate), done["package"]
    checks = {check["name"]: check for check in done["gate"]["checks"]}
    assert checks["accuracy"]["n"] == checks["coverage"]["n"] == len(found) > 150
    assert checks["coverage"]["verdict"] == "pass"

    assert candidate["metrics"]["accuracy"]["value"] > 0.3 > base["metrics"]["accuracy"]["value"]
    clear = found["record_id"].map(lambda name: not banking.is_vague(int(name[1:].partition("-")[0])))
    rows = found[found["truth"].isin(ALIKE) & clear]
    assert set(rows["truth"]) == set(ALIKE)

    # calibrated on the validation split; those who are not sure abstain, and a base model never does
    asked = interface.of_release(release)
    figures = candidate["predictions"]["meta"]["calibration"]
    assert figures["temperature"] == asked.temperature != 1 == base["predictions"]["meta"]["calibration"]["temperature"]
    assert figures["nll_calibrated"] != figures["nll_uncalibrated"]
    assert ((found["label"] == ABSTAINED) == (found["score"] < SURE)).all()
    share = (found["label"] == ABSTAINED).mean()
    assert share > 0 and candidate["metrics"]["coverage"]["value"] == pytest.approx(1 - share, abs=1e-6)
    assert ABSTAINED not in set(_read(base)["label"]) and "coverage" not in base["metrics"]

    # served as evaluated, and as whole forward passes say
    texts = {row["message_id"]: row["message"] for row in banking.messages()}
    some, truth = [texts[name] for name in rows["record_id"]], rows["truth"].tolist()
    prompts, generator = [asked.render_prompt(text) for text in some], answering.open_release(release)
    wanted = naive.probabilities(artifacts.fetch(release), prompts[:3], asked.answers, asked.rule)
    assert answering.scores(asked, generator, prompts)[:3] == [pytest.approx(row, abs=1e-5) for row in wanted]
    table = answering.answer(asked, generator, some)
    assert table["label"].tolist() == rows["label"].tolist()
    assert table["score"].tolist() == pytest.approx(rows["score"].tolist(), abs=1e-5)

    # told apart where the first four words are the same
    one, other = (table[f"p_{name}"].tolist() for name in ALIKE)
    assert [ALIKE[left < right] for left, right in zip(one, other, strict=True)] == truth
