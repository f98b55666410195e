"""Synthetic emergency-department notes for the demo and the tests. No real person, no real hospital.

The reference level follows from a written rule (`reference_level`) over the complaint and the vital
signs, so it can be learned; a second, "nurse" level disagrees with it about 15 % of the time. The true
places of all planted identifiers are written beside the notes. What this is not: a clinical model.
"""

from __future__ import annotations

import random
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from llmops_tasks.data.synthetic_files import folder, planted, write_csv, write_spans
from llmops_tasks.data.synthetic_words import (
    ALARMING,
    ARRIVALS,
    CALM,
    COMPLAINTS,
    DURATIONS,
    FIRST_NAMES,
    INJECTIONS,
    LAST_NAMES,
    QUALIFIERS,
    STREETS,
    SYNONYMS,
    TAILS,
    TOWNS,
    VOICES,
    VOICES_B,
)
from llmops_tasks.data.typos import lost, swapped

MIX = {"A": (0.02, 0.17, 0.38, 0.36, 0.07), "B": (0.06, 0.36, 0.36, 0.17, 0.05)}  # levels 1..5
SEXES = ("female", "male")
LABELLED_ONLY = ("triage_level", "nurse_level", "disposition")
FIRST_DAY = datetime(2026, 1, 5, tzinfo=UTC)

Case = dict[str, Any]
_REPLACEABLE = re.compile(r"\b(?:" + "|".join(sorted(SYNONYMS, key=len, reverse=True)) + r")\b")


def write_triage(
    *, out: str, notes: int = 1400, day_notes: int = 120, reviewed_notes: int = 160, seed: int = 11
) -> dict[str, Any]:
    """Write the demo's synthetic notes below a file:// folder; deterministic.

    `landing/history.csv`: labelled notes of hospital A. `inbox/date=.../notes.csv`: two days without
    labels, the second of hospital B. `reviewed/`: labelled notes of hospital B that land later, those of the
    second day among them. `truth/*.jsonl`: the identifier spans.

    Args:
        out: file:// folder.
        notes: number of notes in the history, over twelve weeks.
        day_notes: number on each of the two days.
        reviewed_notes: number reviewed: the second day's first, then those of the following week.
        seed: of the random numbers.

    Example:
        >>> write_triage(out="file:///var/inbox")
    """
    root, rng = folder(out, notes, day_notes, reviewed_notes), random.Random(seed)
    start = FIRST_DAY + timedelta(days=84)
    days = [(start + timedelta(days=offset)).date().isoformat() for offset in (0, 1)]
    later = max(0, reviewed_notes - day_notes)
    plan = [
        ("landing/history.csv", "A", notes, FIRST_DAY, 84, True),
        (f"inbox/date={days[0]}/notes.csv", "A", day_notes, start, 1, False),
        (f"inbox/date={days[1]}/notes.csv", "B", day_notes, start + timedelta(days=1), 1, False),
        ("reviewed/hospital_b.csv", "B", later, start + timedelta(days=2), 7, True),
    ]
    counter = 0
    second_day: list[Case] = []
    for name, hospital, count, first, span, labelled in plan:
        cases = second_day[:reviewed_notes] + _visits(rng, hospital, count, first, span, counter)
        second_day = cases if hospital == "B" else []
        counter += count
        columns = [column for column in COLUMNS if labelled or column not in LABELLED_ONLY]
        write_csv(root / name, columns, [_cells(case, columns) for case in cases])
        write_spans(root, name, cases, key="visit_id", column="note")
    return {"uri": out, "days": days, "notes": counter, "synthetic": True}


def reference_level(case: Case) -> int:
    """The written rule: 1 (immediate) to 5 (non-urgent), from complaint, vital signs, mental state, pain and age."""
    level = min(case["complaint_level"], _vital_level(case))
    frail = case["age"] >= 80 or case["age"] < 2
    if level == 4 and (case["pain"] >= 8 or frail):
        level = 3
    return int(level)


def _vital_level(case: Case) -> int:
    """What the vital signs and the mental state alone demand; 5 when all are calm."""
    if case["mental_state"] != "alert":
        return 1 if case["mental_state"] == "unresponsive" else 2
    for level, bands in ALARMING.items():
        if any(low <= case[name] <= high for name, (low, high) in bands.items()):
            return level
    return 5


def _visits(rng: random.Random, hospital: str, count: int, first: datetime, days: int, base: int) -> list[Case]:
    """`count` visits in order of time; about a third are of patients who come again."""
    minutes = sorted(rng.sample(range(days * 1440), count))
    patients: list[Case] = []
    cases = []
    for index, minute in enumerate(minutes):
        if patients and rng.random() < 0.3:
            patient = rng.choice(patients[-60:])
        else:
            patient = _patient(rng, hospital, base + index)
            patients.append(patient)
        case = patient | _presentation(rng, hospital, patient)
        case |= {"visit_id": f"V{base + index:06d}", "arrival_time": (first + timedelta(minutes=minute)).isoformat()}
        case["note"], case["spans"] = _note(rng, hospital, case)
        cases.append(_lose_vitals(rng, case))
    return cases


def _patient(rng: random.Random, hospital: str, number: int) -> Case:
    age = min(97, max(0, int(rng.gauss(64 if hospital == "B" else 46, 20))))
    return {
        "patient_id": f"P{number:06d}",
        "hospital": hospital,
        "patient_name": f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}",
        "phone": f"{rng.choice(('020', '0161', '0131'))} {rng.randint(200, 999)} {rng.randint(1000, 9999)}",
        "record_number": f"MRN-{rng.randint(1000000, 9999999)}",
        "address": f"{rng.randint(1, 240)} {rng.choice(STREETS)}, {rng.choice(TOWNS)}",
        "age": age,
        "sex": rng.choice(SEXES),
    }


def _presentation(rng: random.Random, hospital: str, patient: Case) -> Case:
    """A complaint with vital signs whose rule-derived level follows the hospital's mix.

    More than half of the urgent visits come with a harmless complaint and owe their level to the vital signs.
    """
    target = rng.choices((1, 2, 3, 4, 5), MIX[hospital])[0]
    by_vitals = target <= 3 and rng.random() < 0.6
    complaint_level = rng.randint(target + 1, 5) if by_vitals else target
    case = _calm(rng, complaint_level) | {"age": patient["age"], "complaint_level": complaint_level}
    if by_vitals or (target <= 3 and rng.random() < 0.3):
        case |= _alarming(rng, target)
    words = rng.choice(QUALIFIERS), _reworded(rng, rng.choice(COMPLAINTS[complaint_level])), rng.choice(DURATIONS)
    case |= {"complaint": "".join(words), "arrival_mode": rng.choices(ARRIVALS, (6 - target, target, 1))[0]}
    level = reference_level(case)
    nurse = level if rng.random() > 0.15 else min(5, max(1, level + rng.choice((-1, 1))))
    home = rng.random() < (level - 1) * 0.24
    return case | {"triage_level": level, "nurse_level": nurse, "disposition": "home" if home else "admitted"}


def _reworded(rng: random.Random, complaint: str) -> str:
    """The same complaint in other words."""
    return _REPLACEABLE.sub(lambda found: rng.choice((found[0], *SYNONYMS[found[0]])), complaint)


def _calm(rng: random.Random, complaint_level: int) -> Case:
    """Unremarkable vital signs, and pain that fits the complaint."""
    vitals = {
        name: min(high, max(low, round(rng.gauss(mean, spread)))) for name, (mean, spread, low, high) in CALM.items()
    }
    temperature = round(min(38.4, max(35.6, rng.gauss(36.8, 0.5))), 1)
    pain = max(0, min(10, round(rng.gauss(6.5 - complaint_level + (3 if rng.random() < 0.15 else 0), 1.5))))
    return vitals | {"temperature": temperature, "mental_state": "alert", "pain": pain}


def _alarming(rng: random.Random, target: int) -> Case:
    """One or two signs in the target level's bands."""
    if target <= 2 and rng.random() < 0.25:
        return {"mental_state": "unresponsive" if target == 1 else "confused"}
    bands = ALARMING[target]
    chosen = rng.sample(sorted(bands), min(len(bands), rng.choice((1, 1, 2))))
    draw = {name: rng.uniform(*bands[name]) for name in chosen}
    return {name: round(value, 1) if name == "temperature" else round(value) for name, value in draw.items()}


def _note(rng: random.Random, hospital: str, case: Case) -> tuple[str, list[dict[str, Any]]]:
    """Free text in one of several voices, and the spans of the identifiers planted in it."""
    parts = [rng.choice(VOICES_B if hospital == "B" else VOICES).format(complaint=_typos(rng, case["complaint"]))]
    if rng.random() < 0.3:
        parts.append(rng.choice(TAILS))
    if rng.random() < 0.006:
        parts.append(rng.choice(INJECTIONS))
    day = datetime.fromisoformat("2025-12-01") - timedelta(days=rng.randint(1, 900))
    values = {"name": case["patient_name"], "phone": case["phone"], "record_number": case["record_number"]}
    values |= {"address": case["address"], "date": day.strftime(rng.choice(("%d/%m/%Y", "%Y-%m-%d", "%d %B %Y")))}
    return planted(" ".join(parts), values)


def _typos(rng: random.Random, words: str) -> str:
    """Swap two letters in about one complaint of four; lose one to `??` more rarely."""
    if rng.random() < 0.25 and len(words) > 6:
        at = rng.randrange(1, len(words) - 2)
        words = swapped(words, at)
    if rng.random() < 0.03:
        at = rng.randrange(len(words) - 1)
        words = lost(words, at)
    return words


def _lose_vitals(rng: random.Random, case: Case) -> Case:
    """About one vital sign of twelve was never written down, unless the level depends on it."""
    calm = {name: mean for name, (mean, *_) in CALM.items()} | {"temperature": 36.8, "pain": 0}
    for name, value in calm.items():
        if rng.random() < 0.08 and reference_level(case | {name: value}) == case["triage_level"]:
            case[f"{name}_lost"] = True
    return case


COLUMNS = (
    "visit_id", "patient_id", "hospital", "arrival_time", "patient_name", "phone", "record_number", "address", "age",
    "sex", "arrival_mode", "note", "heart_rate", "respiratory_rate", "systolic_bp", "spo2", "temperature",
    "mental_state", "pain", *LABELLED_ONLY,
)  # fmt: skip


def _cells(case: Case, columns: list[str]) -> list[Any]:
    return ["" if case.get(f"{name}_lost") else case[name] for name in columns]
