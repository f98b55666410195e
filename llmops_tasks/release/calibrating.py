"""A release's temperature: fitted on the bytes that ship, over the validation split of the dataset it was trained on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.models import calibration
from llmops_tasks.models.generator import open_generator
from llmops_tasks.prompts import answering
from llmops_tasks.prompts.interface import Interface
from llmops_tasks.store import artifacts

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


def calibrate(
    folder: Path, asked: Interface, dataset: ArtifactRef, served: bool = False
) -> tuple[Interface, dict[str, Any]]:
    """Fit the temperature of the model in a folder.

    Args:
        folder: of the merged model, as it will be released.
        asked: as the model was trained.
        dataset: whose validation split is scored.
        served: a server will answer, which cannot have loaded the release yet.

    Returns:
        The interface with its temperature, and {temperature, records, reason}: of `reason` what kept it at 1.
    """
    rows = _validation(dataset)
    temperature, reason = (1.0, "a server answers") if served else _fit(folder, asked, dataset, rows)
    log.info("temperature %g from %d records %s", temperature, len(rows), reason)
    found = {"temperature": temperature, "records": len(rows), "reason": reason}
    return asked.model_copy(update={"temperature": temperature}), found


def _fit(folder: Path, asked: Interface, dataset: ArtifactRef, rows: pd.DataFrame) -> tuple[float, str]:
    if asked.task.type != "classification":
        return 1.0, "free text has no scores"
    if not asked.task.calibrate:
        return 1.0, "task.calibrate is off"
    if dataset["meta"].get("text_sha256") != asked.text_digest():
        return 1.0, "the dataset was rendered with another template than the release's"
    if len(rows) < calibration.MIN_RECORDS or not set(rows["label"]) <= set(asked.labels):
        return (
            1.0,
            f"{len(rows)} records with the release's labels to calibrate on, {calibration.MIN_RECORDS} are needed",
        )
    prompts = [asked.render_prompt(text) for text in rows["text"]]
    scores = answering.scores(asked, open_generator("transformers", folder, number_format=asked.number_format), prompts)
    return calibration.fit(scores, rows["label"].map(asked.labels.index).to_numpy())


def _validation(dataset: ArtifactRef) -> pd.DataFrame:
    import pandas as pd

    path = artifacts.fetch(dataset) / "data.parquet"
    frame = pd.read_parquet(path, columns=["text", "label", "split"])
    return frame[frame["split"] == "validation"]
