"""A use case with few columns, for tests that look at single rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

HEADER = "visit,patient,seen,level,age,note,phone,nurse"
LANDING_ONLY = ("incremental", "watch_seconds", "allowed_lateness_hours")  # what a batch source has not
COLUMNS: dict[str, dict[str, Any]] = {
    "visit": {"role": "id", "required": True},
    "patient": {"role": "group", "required": True},
    "seen": {"role": "time", "type": "timestamp", "required": True},
    "level": {"role": "label", "required": True},
    "age": {"role": "input", "type": "number", "min": 0, "max": 120, "cap": 90},
    "note": {"role": "input", "required": True, "max_length": 2000},
    "phone": {"role": "identifier", "kind": "phone"},
    "nurse": {"role": "leakage"},
}


def usecase(
    folder: Path,
    source: dict[str, Any],
    columns: dict[str, dict[str, Any]] | None = None,
    name: str = "small",
    **data: Any,
) -> str:
    """Write the use case; `columns` are merged into COLUMNS by name, `data` into its section."""
    merged = {key: {**COLUMNS.get(key, {}), **(columns or {}).get(key, {})} for key in [*COLUMNS, *(columns or {})]}
    raw = {
        "version": 1,
        "description": "A small one.",
        "owner": "tests",
        "task": {
            "type": "classification",
            "labels": [
                {"name": "urgent", "values": ["1", "U"], "text": " urgent"},
                {"name": "calm", "values": ["2"], "text": " less"},
            ],
        },
        "data": {
            "source": source,
            "columns": merged,
            "text": "{{ note }} {% if age is not none %}{{ age | int }}y{% endif %}",
            "min_rows": 1,
            "mask": ["name", "phone", "email", "record_number", "address", "date", "url"],
            "split": {"train": 0.5, "validation": 0.2, "test": 0.3, "cohort": 10},
            **data,
        },
        "prompt": {"template": "Note: {{ text }}\nPriority:"},
        "base_model": {"uri": "file:///no-model", "licence": "none"},
        "gate": {"limits": [{"metric": "accuracy", "at_least": 0.5}]},
        "batch": {"source": {**_whole(source), "uri": source["uri"].replace(".csv", "-{date}.csv")}},
        "monitoring": {"columns": ["age"]},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return str(path)


def _whole(source: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in source.items() if key not in LANDING_ONLY}


def row(number: int, **values: str) -> str:
    """One CSV line that has no fault unless told."""
    plain = {
        "visit": f"V{number}",
        "patient": f"P{number}",
        "seen": f"2026-01-{1 + number % 28:02d}T10:{number % 60:02d}:00Z",
        "level": "1",
        "age": "40",
        "note": f"sore throat {number}",
        "phone": "",
        "nurse": "2",
    } | values
    return ",".join(plain.values())


def csv(folder: Path, lines: list[str], name: str = "rows.csv", header: str = HEADER) -> str:
    """Write a CSV file; returns its address."""
    (folder / name).write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return f"file://{folder}/{name}"
