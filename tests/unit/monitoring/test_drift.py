"""Drift: quiet on days like the reference, loud when the world moved, and never about words or patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.contracts import ABSTAINED, ArtifactRef
from llmops_tasks.monitoring import drift
from llmops_tasks.prompts import interface
from llmops_tasks.store import artifacts, objects

CASE = config.load("triage")
NAMES = [label.name for label in CASE.task.labels]
MIX_A, MIX_B = [0.02, 0.17, 0.38, 0.36, 0.07], [0.06, 0.36, 0.36, 0.17, 0.05]
WORDS = [f"{a}{b}" for a in ("pain", "fall", "cut", "fever", "cough", "rash") for b in ("one", "two", "three", "four")]


def _frame(seed: int, n: int, mix: list[float] = MIX_A, age: float = 46, words: list[str] = WORDS) -> Any:
    """Days of one hospital: labels, vital signs, words, all drawn independently."""
    import numpy as np
    import pandas as pd

    rng = np.random.default_rng(seed)
    frame = pd.DataFrame({name: rng.normal(age if name == "age" else 80, 15, n) for name in CASE.monitoring.columns})
    frame[rng.random(frame.shape) < 0.08] = np.nan
    frame["predicted"] = rng.choice(NAMES, n, p=mix)
    frame["text"] = [" ".join(rng.choice(words, 8)) for _ in range(n)]
    frame["record_id"] = [f"V{seed}-{number}" for number in range(n)]
    frame["group"] = frame["record_id"]
    return frame


def _drifting(old: Any, new: Any) -> list[str]:
    return [signal["name"] for signal in drift.compare_days(CASE, NAMES, old, new) if signal["drifted"]]


def test_days_like_the_reference_rarely_alarm() -> None:
    reference = _frame(0, 300)
    alarms = sum(bool(_drifting(reference, _frame(seed, 160))) for seed in range(1, 61))
    assert alarms <= 3


@pytest.mark.parametrize(
    ("change", "signal"),
    [
        ({"mix": MIX_B}, "predicted labels"),
        ({"age": 64}, "age"),
        ({"words": [f"{word}x" for word in WORDS]}, "words"),
    ],
)
def test_a_world_that_moved_alarms_by_its_own_signal(change: dict[str, Any], signal: str) -> None:
    reference = _frame(0, 600)
    found = [_drifting(reference, _frame(seed, 160, **change)) for seed in range(1, 6)]
    assert sum(signal in names for names in found) == 5
    assert sum(len(set(names) - {signal}) for names in found) <= 1


def test_a_day_on_which_more_is_abstained_alarms() -> None:
    """Also where unknown answers, which share a cell, became fewer: an abstention has a cell of its own."""
    old, new = _frame(0, 600), _frame(1, 160)
    old.loc[old.index % 3 == 0, "predicted"] = "an answer of a time with other labels"
    new.loc[new.index % 3 == 0, "predicted"] = ABSTAINED
    signals = drift.compare_days(CASE, [*NAMES, ABSTAINED], old, new)
    assert [signal["name"] for signal in signals if signal["drifted"]] == ["predicted labels"]


def test_lost_values_alarm() -> None:
    new = _frame(1, 160)
    new.loc[new.index % 2 == 0, "spo2"] = float("nan")
    assert _drifting(_frame(0, 600), new) == ["spo2"]


def test_a_shift_too_small_to_matter_does_not_alarm_however_many_rows_there_are() -> None:
    assert _drifting(_frame(0, 3000), _frame(1, 3000, age=48)) == []


def test_the_same_day_is_measured_alike() -> None:
    old, new = _frame(0, 300), _frame(1, 100)
    assert drift.compare_days(CASE, NAMES, old, new) == drift.compare_days(CASE, NAMES, old, new)


def test_every_watched_column_labels_and_words_are_signals() -> None:
    signals = drift.compare_days(CASE, NAMES, _frame(0, 200), _frame(1, 100))
    assert [signal["name"] for signal in signals] == [*CASE.monitoring.columns, "predicted labels", "words"]
    assert [signal["limit"] for signal in signals][-2:] == [CASE.monitoring.psi, CASE.monitoring.text_js]


def _clinic(seed: int, patients: int, visits: int) -> Any:
    """Patients who come often, each with an age, a level and words of their own."""
    import numpy as np

    rng = np.random.default_rng(seed)
    frame = _frame(seed, patients).loc[lambda one: one.index.repeat(visits)].reset_index(drop=True)
    frame["text"] = [f"{text} {rng.choice(WORDS)}" for text in frame["text"]]
    return frame


@pytest.mark.parametrize(("patients", "day", "visits"), [(300, 100, 1), (60, 20, 10)])
def test_patients_who_come_often_raise_no_false_alarms(patients: int, day: int, visits: int) -> None:
    """Whatever the limits: by chance alone, days of the same world are found special once in a hundred."""
    found = []
    for seed in range(100):
        signals = drift.compare_days(CASE, NAMES, _clinic(seed, patients, visits), _clinic(1000 + seed, day, visits))
        found.append(any(signal["p"] <= drift.ALPHA / len(signals) for signal in signals))
    assert sum(found) <= 4


def test_of_very_many_patients_some_are_drawn_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(drift, "GROUPS", 10)
    frame = _clinic(1, 50, 3).assign(split=["test", "train", "test"] * 50)
    frame.to_parquet(tmp_path / "data.parquet")
    drawn = drift._drawn(tmp_path / "data.parquet", ["group", "text"], "where split = 'test'")
    assert drawn["group"].nunique() == 10 and len(drawn) == 20
    again = drift._drawn(tmp_path / "data.parquet", ["group", "text"], "where split = 'test'")
    assert sorted(again["group"]) == sorted(drawn["group"])


def _artifact(name: str, meta: dict[str, Any], **frames: Any) -> ArtifactRef:
    def build(out: Path) -> dict[str, Any]:
        for file, frame in frames.items():
            frame.to_parquet(out / f"{file}.parquet", index=False)
        return {"rows": len(next(iter(frames.values()))), **meta}

    return artifacts.publish(usecase="triage", kind="parts", inputs={"name": name}, build=build)


def _measured(n: int = 160, **change: Any) -> dict[str, Any]:
    """All the artifacts that `measure` reads, and its report."""
    old, new = _frame(0, 600), _frame(1, n, **change)
    answers = {
        name: frame[["record_id", "predicted"]].rename(columns={"predicted": "label"})
        for name, frame in (("old", old), ("new", new))
    }
    dataset = _artifact("dataset", {}, data=old.drop(columns="predicted").assign(split="test"))
    report = {"n": 600, "predictions": _artifact("old", {}, predictions=answers["old"])}
    champion = {"dataset": dataset, "report": report, "release": _release()}
    day = _artifact(f"day{n}{change}", {"date": "2026-03-31"}, data=new.drop(columns="predicted"))
    halves = (answers["new"][: n // 2], answers["new"][n // 2 :])
    parts = [_artifact(f"answers{n}{change}{at}", {}, predictions=half) for at, half in enumerate(halves)]
    predictions: Any = {"parts": parts, "sha256": f"{n}{change}"}
    return drift.measure_drift(usecase="triage", day=day, predictions=predictions, champion=champion)


def _release() -> ArtifactRef:
    def build(out: Path) -> dict[str, Any]:
        interface.of_usecase(CASE).write(out)
        return {}

    return artifacts.publish(usecase="triage", kind="release", inputs={}, build=build)


def test_a_report_is_left_for_people_and_machines_without_a_word_of_the_notes() -> None:
    report = _measured(mix=MIX_B)
    assert (report["alarm"], report["verdict"], report["date"], report["n"]) == (True, "alarm", "2026-03-31", 160)
    assert report["drifting"] == ["predicted labels"]
    kept = objects.read_json(f"{report['report']['uri']}/report.json")
    assert (kept["alarm"], kept["n"], kept["reference_n"]) == (True, 160, 600)
    assert kept["signals"] == report["signals"]
    page = (artifacts.fetch(report["report"]) / "report.html").read_text(encoding="utf-8")
    assert "Drift on 2026-03-31: alarm" in page
    assert not [word for word in WORDS if word in page or word in str(kept)]


def test_a_quiet_day_leaves_a_quiet_report() -> None:
    report = _measured()
    assert (report["alarm"], report["verdict"], report["drifting"]) == (False, "quiet", [])
    page = (artifacts.fetch(report["report"]) / "report.html").read_text(encoding="utf-8")
    assert "none" in page and "class=bad" not in page


def test_a_day_with_too_few_rows_is_insufficient_and_stops_no_other() -> None:
    small = _measured(n=20)
    assert (small["verdict"], small["alarm"], small["signals"], small["n"]) == ("insufficient", False, [], 20)
    page = (artifacts.fetch(small["report"]) / "report.html").read_text(encoding="utf-8")
    assert "too few records" in page and "50 are needed" in page
    assert _measured(mix=MIX_B)["verdict"] == "alarm"
