"""Drift: quiet on days like the reference, loud when the world moved, and never about words or patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import EvidenceError
from llmops_tasks.monitoring import drift
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
    return frame


def _drifting(old: Any, new: Any) -> list[str]:
    return [signal["name"] for signal in drift.compare_days(CASE, old, new) if signal["drifted"]]


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


def test_lost_values_alarm() -> None:
    new = _frame(1, 160)
    new.loc[new.index % 2 == 0, "spo2"] = float("nan")
    assert _drifting(_frame(0, 600), new) == ["spo2"]


def test_a_shift_too_small_to_matter_does_not_alarm_however_many_rows_there_are() -> None:
    assert _drifting(_frame(0, 3000), _frame(1, 3000, age=48)) == []


def test_the_same_day_is_measured_alike() -> None:
    old, new = _frame(0, 300), _frame(1, 100)
    assert drift.compare_days(CASE, old, new) == drift.compare_days(CASE, old, new)


def test_every_watched_column_labels_and_words_are_signals() -> None:
    signals = drift.compare_days(CASE, _frame(0, 200), _frame(1, 100))
    assert [signal["name"] for signal in signals] == [*CASE.monitoring.columns, "predicted labels", "words"]
    assert [signal["limit"] for signal in signals][-2:] == [CASE.monitoring.psi, CASE.monitoring.text_js]


def test_psi_by_hand() -> None:
    import numpy as np

    p, q = [9.5 / 11, 1.5 / 11], [5.5 / 11, 5.5 / 11]  # half a row is added to every cell
    wanted = (q[0] - p[0]) * np.log(q[0] / p[0]) + (q[1] - p[1]) * np.log(q[1] / p[1])
    assert drift.psi(np.array([9.0, 1.0]), np.array([5.0, 5.0])) == pytest.approx(wanted)
    assert drift.psi(np.array([5.0, 5.0]), np.array([5.0, 5.0])) == 0
    assert np.isfinite(drift.psi(np.array([5.0, 0.0]), np.array([0.0, 5.0])))


def test_jensen_shannon_by_hand() -> None:
    import numpy as np
    from scipy.spatial.distance import jensenshannon

    assert drift.js(np.array([4.0, 0.0]), np.array([0.0, 7.0])) == pytest.approx(1)
    assert drift.js(np.array([2.0, 4.0]), np.array([1.0, 2.0])) == pytest.approx(0)
    one, two = np.array([5.0, 3.0, 2.0]), np.array([1.0, 1.0, 8.0])
    assert drift.js(one, two) == pytest.approx(jensenshannon(one, two, base=2) ** 2)


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
    champion = {"dataset": dataset, "report": {"predictions": _artifact("old", {}, predictions=answers["old"])}}
    day = _artifact(f"day{n}{change}", {"date": "2026-03-31"}, data=new.drop(columns="predicted"))
    predictions = _artifact(f"answers{n}{change}", {}, predictions=answers["new"])
    return drift.measure_drift(usecase="triage", day=day, predictions=predictions, champion=champion)


def test_a_report_is_left_for_people_and_machines_without_a_word_of_the_notes() -> None:
    report = _measured(mix=MIX_B)
    assert (report["alarm"], report["date"], report["n"]) == (True, "2026-03-31", 160)
    assert report["drifting"] == ["predicted labels"]
    kept = objects.read_json(f"{report['report']['uri']}/report.json")
    assert (kept["alarm"], kept["n"], kept["reference_n"]) == (True, 160, 600)
    assert kept["signals"] == report["signals"]
    page = (artifacts.fetch(report["report"]) / "report.html").read_text(encoding="utf-8")
    assert "Drift on 2026-03-31: alarm" in page
    assert not [word for word in WORDS if word in page or word in str(kept)]


def test_a_quiet_day_leaves_a_quiet_report() -> None:
    report = _measured()
    assert (report["alarm"], report["drifting"]) == (False, [])
    page = (artifacts.fetch(report["report"]) / "report.html").read_text(encoding="utf-8")
    assert "none" in page and "class=bad" not in page


def test_too_few_rows_say_nothing_about_drift() -> None:
    with pytest.raises(EvidenceError, match="2026-03-31 has 20 rows; 50 are needed"):
        _measured(n=20)
