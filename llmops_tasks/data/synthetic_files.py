"""Common parts of the synthetic data generators: check where to write, plant identifiers, write rows and truth."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from llmops_tasks.errors import InputError
from llmops_tasks.store.objects import local_path


def folder(out: str, *counts: int) -> Path:
    """The local folder behind a file:// address, if something is to be written there at all."""
    if not out.startswith("file://") or min(counts) < 1:
        raise InputError(f"Given out='{out}'. Allowed: a file:// folder, and counts of at least 1.")
    return local_path(out)


def planted(template: str, values: dict[str, str]) -> tuple[str, list[dict[str, Any]]]:
    """Put values into their places (`<name>`, `<phone>`, ...); returns the text and the span of each."""
    text, spans = "", []
    for piece in template.split("<"):
        kind, closed, rest = piece.partition(">")
        if not closed:
            text += piece
            continue
        spans.append({"start": len(text), "end": len(text) + len(values[kind]), "kind": kind})
        text += values[kind] + rest
    return text, spans


def write_csv(path: Path, columns: list[str], rows: Iterable[list[Any]]) -> None:
    """A comma-separated file with a header."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """One JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def write_spans(root: Path, name: str, cases: list[dict[str, Any]], *, key: str, column: str) -> None:
    """Where the identifiers planted in `column` of the file `name` are: `truth/<its path>.jsonl`, a line a row."""
    path = root / "truth" / f"{Path(name).with_suffix('').as_posix().replace('/', '_')}.jsonl"
    write_jsonl(path, ({key: case[key], "column": column, "spans": case["spans"]} for case in cases))
