"""Secrets, identifiers and words of notes that stand nowhere else, and a search for them in all that a run leaves."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.store import artifacts, objects
from tests.support import datasets

NOTE, PATIENT, RECORD = "zebrafishitis", "Pblorb", "Vquux"
SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "hush-aws-4711",
    "AWS_SESSION_TOKEN": "hush-session-4711",
    "MLFLOW_TRACKING_PASSWORD": "hush-mlflow-4711",
    "LLMOPS_PSEUDONYM_KEY": "hush-pseudonym-4711",
}
ADDRESS = "http://nurse:hush-address-4711@127.0.0.1:9"  # of an MLflow that nobody runs
TOKENS = (NOTE, PATIENT, RECORD, "hush-address-4711", *SECRETS.values())
ANSWERS = {
    "resuscitation": " res",
    "emergent": " emergent",
    "urgent": " urgent",
    "less-urgent": " less",
    "non-urgent": " non",
}


def rows(count: int = 40, **columns: Callable[[int], Any]) -> list[dict[str, Any]]:
    """Records with planted words; a column is replaced by what its function makes of the number."""
    names = list(ANSWERS)
    plain: dict[str, Callable[[int], Any]] = {
        "record_id": lambda n: f"{RECORD}{n}",
        "group": lambda n: f"{PATIENT}{n}",
        "text": lambda n: f"{NOTE} for {n} days, seen by {PATIENT}{n}",
        "label": lambda n: names[n % 5],
        "completion": lambda n: ANSWERS[names[n % 5]],
        "split": lambda n: ("train", "train", "validation", "test")[n % 4],
    }
    return [{name: make(n) for name, make in {**plain, **columns}.items()} for n in range(count)]


def dataset(count: int = 40, like: str = "triage", **columns: Callable[[int], Any]) -> ArtifactRef:
    """A dataset of such records."""
    return datasets.publish(rows(count, **columns), like=like)


def day(count: int = 40, **columns: Callable[[int], Any]) -> ArtifactRef:
    """A day of such records, as `render_day` makes it."""
    return _table("day", "data.parquet", rows(count, **columns), date="2026-03-30", text_sha256=datasets.text_of())


def predictions(count: int = 40, **columns: Callable[[int], Any]) -> ArtifactRef:
    """Answers to such records."""
    return _table("predictions", "predictions.parquet", rows(count, **columns))


def _table(kind: str, file: str, content: list[dict[str, Any]], **meta: Any) -> ArtifactRef:
    def build(out: Path) -> dict[str, Any]:
        import pandas as pd

        pd.DataFrame(content).to_parquet(out / file, index=False)
        return {"rows": len(content), **meta}

    return artifacts.publish(usecase="tiny", kind=kind, inputs={"rows": content}, build=build)


def torn(ref: ArtifactRef, name: str) -> ArtifactRef:
    """A copy in this test's store whose file lost its end after it was published."""
    import shutil

    def build(out: Path) -> dict[str, Any]:
        shutil.copytree(artifacts.fetch(ref), out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("_manifest.json"))
        return {"rows": ref["rows"], **ref["meta"]}

    made = artifacts.publish(usecase="tiny", kind=ref["kind"], inputs={"of": ref["sha256"]}, build=build)
    path = objects.local_path(made["uri"]) / name
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-50])
    return made


def files(home: Path) -> dict[Path, bytes]:
    """All that lies in a home."""
    return {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}


def found(text: str | bytes) -> list[str]:
    """The planted words that are told."""
    text = text if isinstance(text, bytes) else text.encode()
    return [token for token in TOKENS if token.encode() in text]


def failed(
    run: Callable[[], Any], home: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> tuple[BaseException, dict[str, list[str]]]:
    """Run what fails. Its error, and what is told of the planted words: by it, the log, the output, and new files."""
    before = files(home)
    capfd.readouterr()
    with caplog.at_level(logging.DEBUG), pytest.raises(Exception) as caught:
        run()
    out, err = capfd.readouterr()
    told = {"error": "".join(traceback.format_exception(caught.value)), "log": caplog.text, "out": out, "err": err}
    left = {str(path): content for path, content in files(home).items() if before.get(path) != content}
    return caught.value, {place: found(text) for place, text in {**told, **left}.items() if found(text)}
