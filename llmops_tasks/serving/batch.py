"""Batch inference: one day's records through one release, one Parquet partition, written once.

A partition is never overwritten: who asks what was answered in March gets what was answered in March.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

from llmops_tasks import config
from llmops_tasks.config import UseCase
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import ConflictError, EvidenceError, InputError
from llmops_tasks.models.generator import open_generator
from llmops_tasks.prompts import templates
from llmops_tasks.store import artifacts, objects
from llmops_tasks.store.sources import code_digest

log = logging.getLogger(__name__)


def predict_batch(
    *, usecase: str, day: ArtifactRef, champion: dict[str, Any], requested: str | None = None
) -> ArtifactRef:
    """Answer a day's records.

    Args:
        usecase: name or YAML path.
        day: from `versions.day`.
        champion: from `registry.champion`, resolved once for the whole run.
        requested: the version somebody asked for by number, if any.

    Returns:
        A reference to `<store>/<usecase>/predictions/date=YYYY-MM-DD/` with `predictions.parquet`: record_id,
        label, score, one `p_<label>` each, release_version, release_sha256.

    Raises:
        EvidenceError: if nothing was promoted yet.
        ConflictError: if the day was answered by another version than requested, or had other records.
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    if case.task.type != "classification":
        raise InputError("Only classification is served so far. Use a task of type 'classification'.")
    if champion["version"] is None:
        raise EvidenceError("No version was promoted yet, so nobody may answer. Train, evaluate and approve one first.")
    at = f"{objects.store_uri()}/{name}/predictions/date={day['meta']['date']}"
    if (done := _answered(at, day, requested)) is not None:
        return done
    inputs = {
        "day": day["sha256"],
        "release": champion["release"]["sha256"],
        "code": code_digest(__name__),
    }
    return artifacts.publish(
        usecase=name, kind="predictions", inputs=inputs, build=partial(_build, case, day, champion), at=at
    )


def _answered(at: str, day: ArtifactRef, requested: str | None) -> ArtifactRef | None:
    """The partition, if these records were answered; answers are kept even if another release serves now."""
    done = artifacts.at(at)
    if done is None or done["meta"]["day_sha256"] != day["sha256"]:
        return None
    version = done["meta"]["release_version"]
    if requested not in (None, version):
        raise ConflictError(
            f"'{at}' was answered by version {version} and is kept; version {requested} may not replace it."
        )
    log.info("%s was answered by version %s: skipped", day["meta"]["date"], version)
    return done


def _build(case: UseCase, day: ArtifactRef, champion: dict[str, Any], out: Path) -> dict[str, Any]:
    import pandas as pd

    frame = pd.read_parquet(artifacts.fetch(day) / "data.parquet")
    names = [label.name for label in case.task.labels]
    prompts = [templates.render_prompt(case, text) for text in frame["text"]]
    batch_size = case.batch.batch_size if case.batch else 16
    generator = open_generator("transformers", artifacts.fetch(champion["release"]))
    scores = generator.scores(prompts, [label.text for label in case.task.labels], batch_size)
    best = [max(range(len(names)), key=row.__getitem__) for row in scores]
    result = pd.DataFrame({"record_id": frame["record_id"], "label": [names[code] for code in best]})
    result["score"] = [max(row) for row in scores]
    for code, name in enumerate(names):
        result[f"p_{name}"] = [row[code] for row in scores]
    release = champion["release"]
    result["release_version"], result["release_sha256"] = champion["version"], release["sha256"]
    result.to_parquet(out / "predictions.parquet", index=False)
    mix = {name: int((result["label"] == name).sum()) for name in names}
    stamp = {"date": day["meta"]["date"], "day_sha256": day["sha256"], "release_version": champion["version"]}
    return {"rows": len(result), "labels": mix, **stamp}
