"""Pairs to prefer are the answers that people corrected, and no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.errors import ConfigError, DataError, InputError
from llmops_tasks.store import artifacts
from llmops_tasks.training.corrections import collect_corrections
from tests.support.corrections import START, answer, collected, reviewed

pytestmark = pytest.mark.usefixtures("mlflow")
Make = Callable[..., dict[str, Any]]
SETTINGS = {"learning_rate": 5e-3, "epochs": 3, "min_pairs": 10}


def test_pairs_are_the_answers_that_were_corrected(training: Make) -> None:
    import pandas as pd

    usecase = training(start="champion", dropout=0.0, preferences=SETTINGS)["usecase"]
    pairs = collected(usecase)
    frame = pd.read_parquet(artifacts.fetch(pairs) / "pairs.parquet").set_index("record_id")
    wanted = {f"r{n}" for n in range(60) if n % 3 and n % 10 != 9}  # answered wrongly, and not of the test_records
    assert set(frame.index) == wanted
    assert set(frame["rejected"]) == {" emergent"}
    assert frame.loc["r1", "chosen"] == " urgent" and frame.loc["r2", "chosen"] == " non"
    assert frame.loc["r1", "prompt"] == "Note: note 1 with pain\nPriority:"
    assert set(frame["split"]) == {"train", "validation"}
    assert collect_corrections(usecase=usecase, dataset=reviewed(), start=START) == pairs


def test_answers_of_a_time_with_other_labels_correct_nothing(training: Make, tmp_path: Path) -> None:
    """Nobody can say whether they were wrong, and they have no words that could be rejected."""
    import pandas as pd
    import yaml

    usecase = training(start="champion", dropout=0.0, preferences=SETTINGS)["usecase"]
    pairs = collected(usecase)
    raw = yaml.safe_load(Path(usecase).read_text(encoding="utf-8"))
    (label,) = [label for label in raw["task"]["labels"] if label["name"] == "emergent"]
    label["name"] = "very urgent"
    raw["task"]["severe"] = ["very urgent"]
    raw["gate"]["limits"] = raw["gate"]["limits"][:1]
    Path(usecase).write_text(yaml.safe_dump(raw), encoding="utf-8")
    with pytest.raises(DataError, match="0 corrected answers among 54 reviewed ones"):
        collect_corrections(usecase=usecase, dataset=reviewed(), start=START)
    assert pd.read_parquet(artifacts.fetch(pairs) / "pairs.parquet")["rejected"].notna().all()


def test_too_few_corrections_are_said_with_their_number(training: Make) -> None:
    usecase = training(start="champion", dropout=0.0, preferences=SETTINGS)["usecase"]
    with pytest.raises(DataError, match=r"0 corrected answers among 0 reviewed ones; .* requires 10"):
        collect_corrections(usecase=usecase, dataset=reviewed(), start=START)
    answer("2026-03-01", range(9))
    with pytest.raises(DataError, match="6 corrected answers among 9 reviewed ones"):
        collect_corrections(usecase=usecase, dataset=reviewed(), start=START)


def test_without_the_choice_nothing_is_tuned(training: Make) -> None:
    with pytest.raises(InputError, match=r"has no 'finetune\.preferences'"):
        collect_corrections(usecase=training()["usecase"], dataset=reviewed(), start=START)


def test_preferences_need_a_champion_to_start_from(training: Make) -> None:
    arguments = training(dropout=0.0, preferences=SETTINGS)
    with pytest.raises(ConfigError, match="preferences tune a champion"):
        collect_corrections(usecase=arguments["usecase"], dataset=reviewed(), start=START)
