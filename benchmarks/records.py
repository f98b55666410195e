"""Records of any number for the benchmarks of data preparation: a CSV file and its use case, the same for the same seed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import yaml

WORDS = [
    "chest",
    "pain",
    "fever",
    "cough",
    "fall",
    "wound",
    "headache",
    "rash",
    "swelling",
    "burn",
    "nausea",
    "vertigo",
    "bite",
    "sprain",
    "since",
    "hours",
    "days",
    "left",
    "right",
    "mild",
]
COLUMNS: dict[str, dict[str, Any]] = {
    "visit": {"role": "id", "required": True},
    "patient": {"role": "group", "required": True},
    "seen": {"role": "time", "type": "timestamp"},
    "level": {"role": "label"},
    "age": {"role": "input", "type": "number", "min": 0, "max": 120},
    "heart_rate": {"role": "input", "type": "number", "min": 20, "max": 260},
    "sex": {"role": "input", "values": ["female", "male", "other"]},
    "note": {"role": "input"},
}
RULES = 8  # visit missing and repeated, patient and level missing, level and sex known, age and heart rate in range


def write(folder: Path, rows: int, seed: int = 0) -> str:
    """Write `rows.csv` and `records.yaml`; about one row in a hundred breaks a rule. Returns the YAML's path."""
    rng, folder = random.Random(seed), folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "rows.csv").open("w", encoding="utf-8") as file:
        file.write(",".join(COLUMNS) + "\n")
        for number in range(rows):
            file.write(_row(rng, number) + "\n")
    path = folder / "records.yaml"
    path.write_text(yaml.safe_dump(_usecase(folder), sort_keys=False), encoding="utf-8")
    return str(path)


def _row(rng: random.Random, number: int) -> str:
    bad = rng.random() < 0.01
    note = " ".join(rng.choices(WORDS, k=rng.randint(8, 30)))
    seen = f"2026-{1 + number * 7 // 4_000_000 % 12:02d}-{1 + number % 28:02d}T{number % 24:02d}:{number % 60:02d}:{number // 60 % 60:02d}Z"
    age = rng.choice(["-3", "old"]) if bad else str(rng.randint(0, 99))
    sex = rng.choice(["female", "male", "other"])
    return f"V{number},P{number // 2},{seen},{rng.randint(1, 3)},{age},{rng.randint(40, 160)},{sex},{note} {number}"


def _usecase(folder: Path) -> dict[str, Any]:
    labels = [
        {"name": name, "values": [value], "text": f" {name}"}
        for name, value in (("high", "1"), ("middle", "2"), ("low", "3"))
    ]
    return {
        "version": 1,
        "description": "Records for a bench.",
        "owner": "benchmarks",
        "task": {"type": "classification", "labels": labels},
        "data": {
            "source": {"uri": f"file://{folder}/rows.csv"},
            "columns": COLUMNS,
            "text": "{{ note }} {{ age | int if age is not none else '' }}",
            "min_rows": 1,
        },
        "prompt": {"template": "{{ text }}"},
        "base_model": {"uri": "file:///no-model", "licence": "none"},
        "gate": {"limits": [{"metric": "accuracy", "at_least": 0.5}]},
    }
