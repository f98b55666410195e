"""The invented world: the same for the same seed, with the mix, the noise and the truth it promises."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest

from llmops_tasks.data.synthetic import MIX, reference_level, write_triage
from llmops_tasks.errors import InputError

SIZES = {"notes": 4000, "day_notes": 400, "reviewed_notes": 50}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A world large enough to count in."""
    folder = tmp_path_factory.mktemp("synthetic")
    write_triage(out=folder.as_uri(), **SIZES)
    return folder


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    sizes = {"notes": 40, "day_notes": 5, "reviewed_notes": 5}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_triage(out=(tmp_path / name).as_uri(), seed=seed, **sizes)
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file())
    assert len(names) == 8
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    assert all((tmp_path / "a" / name).read_bytes() != (tmp_path / "c" / name).read_bytes() for name in names)


def test_levels_come_in_the_mix_of_hospital_a(written: Path) -> None:
    rows = _rows(written / "landing" / "history.csv")
    counts = Counter(row["triage_level"] for row in rows)
    wanted = {"1": 0.02, "2": 0.17, "3": 0.38, "4": 0.36, "5": 0.06}
    for level, share in wanted.items():
        assert counts[level] / len(rows) == pytest.approx(share, abs=0.05), level
    assert {row["hospital"] for row in rows} == {"A"}


def test_the_second_hospital_is_sicker_and_older(written: Path) -> None:
    one, two = (_rows(path / "notes.csv") for path in sorted((written / "inbox").iterdir()))
    assert ({row["hospital"] for row in one}, {row["hospital"] for row in two}) == ({"A"}, {"B"})
    mean_age = [sum(float(row["age"]) for row in rows) / len(rows) for rows in (one, two)]
    assert mean_age[1] > mean_age[0] + 5
    assert sum(MIX["B"][:2]) > 2 * sum(MIX["A"][:2])


def test_the_nurse_disagrees_in_about_fifteen_of_a_hundred_visits_by_one_level(written: Path) -> None:
    rows = _rows(written / "landing" / "history.csv")
    gaps = [abs(int(row["triage_level"]) - int(row["nurse_level"])) for row in rows]
    assert 0.10 <= sum(gap > 0 for gap in gaps) / len(gaps) <= 0.20
    assert max(gaps) == 1


def test_what_was_answered_on_the_second_day_is_reviewed_later(tmp_path: Path) -> None:
    """So there is something to correct. The rest of the reviewed notes are of the days after."""
    write_triage(out=tmp_path.as_uri(), notes=20, day_notes=5, reviewed_notes=8)
    second = _rows(sorted((tmp_path / "inbox").iterdir())[1] / "notes.csv")
    reviewed = _rows(tmp_path / "reviewed" / "hospital_b.csv")
    assert len(reviewed) == 8 and len({row["visit_id"] for row in reviewed}) == 8
    assert second == [{name: row[name] for name in second[0]} for row in reviewed[:5]]
    assert max(row["arrival_time"] for row in second) < min(row["arrival_time"] for row in reviewed[5:])
    history = {row["visit_id"] for row in _rows(tmp_path / "landing" / "history.csv")}
    assert not history & {row["visit_id"] for row in reviewed}


def test_days_have_no_column_that_is_known_only_later(written: Path) -> None:
    header = set(_rows(next((written / "inbox").iterdir()) / "notes.csv")[0])
    assert not header & {"triage_level", "nurse_level", "disposition"}
    assert {"visit_id", "note", "patient_name"} <= header


def test_spans_point_exactly_at_the_planted_identifiers(written: Path) -> None:
    rows = {row["visit_id"]: row for row in _rows(written / "landing" / "history.csv")}
    columns = {"name": "patient_name", "phone": "phone", "record_number": "record_number", "address": "address"}
    seen: Counter[str] = Counter()
    for line in (written / "truth" / "landing_history.jsonl").read_text(encoding="utf-8").splitlines():
        truth = json.loads(line)
        row = rows[truth["visit_id"]]
        for span in truth["spans"]:
            text = row["note"][span["start"] : span["end"]]
            seen[span["kind"]] += 1
            if span["kind"] == "date":
                assert any(char.isdigit() for char in text)
            else:
                assert text == row[columns[span["kind"]]]
    assert set(seen) == {*columns, "date"}
    assert len(rows) == SIZES["notes"]


def test_the_label_follows_from_the_written_rule_whatever_got_lost(written: Path) -> None:
    """Where a sign was never written down, the row's level may be lower than the rule alone would say: never higher."""
    calm = {"complaint_level": 5, "age": 40, "mental_state": "alert", "pain": 0}
    vitals = {"heart_rate": 75, "respiratory_rate": 16, "systolic_bp": 125, "spo2": 98, "temperature": 36.8}
    assert reference_level(calm | vitals) == 5
    for row in _rows(written / "landing" / "history.csv"):
        given = {name: float(row[name]) for name in [*vitals, "pain", "age"] if row[name]}
        alone = reference_level(calm | vitals | {"mental_state": row["mental_state"]} | given)
        assert int(row["triage_level"]) <= alone  # the complaint can only make it more urgent


@pytest.mark.parametrize(
    ("change", "level"),
    [
        ({}, 4),
        ({"mental_state": "unresponsive"}, 1),
        ({"mental_state": "confused"}, 2),
        ({"pain": 8}, 3),
        ({"age": 80}, 3),
        ({"age": 1}, 3),
        ({"complaint_level": 1}, 1),
        ({"complaint_level": 5}, 5),
        ({"complaint_level": 5, "pain": 9}, 5),
    ],
)
def test_the_rule(change: dict[str, object], level: int) -> None:
    case = {"complaint_level": 4, "age": 40, "mental_state": "alert", "pain": 2}
    case |= {"heart_rate": 75, "respiratory_rate": 16, "systolic_bp": 125, "spo2": 98, "temperature": 36.8}
    assert reference_level(case | change) == level


def test_some_vital_signs_are_missing(written: Path) -> None:
    rows = _rows(written / "landing" / "history.csv")
    assert 0.03 < sum(row["heart_rate"] == "" for row in rows) / len(rows) < 0.12


def test_about_a_third_of_the_visits_are_of_returning_patients_with_one_identity(written: Path) -> None:
    rows = _rows(written / "landing" / "history.csv")
    assert 0.2 < 1 - len({row["patient_id"] for row in rows}) / len(rows) < 0.4
    assert len({(row["patient_id"], row["phone"]) for row in rows}) == len({row["patient_id"] for row in rows})
    assert len({row["visit_id"] for row in rows}) == len(rows)


@pytest.mark.parametrize("arguments", [{"out": "/folder"}, {"out": "s3://b/x"}, {"out": "file:///folder", "notes": 0}])
def test_what_cannot_be_written_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError, match="Allowed: a file:// folder"):
        write_triage(**arguments)  # type: ignore[arg-type]
