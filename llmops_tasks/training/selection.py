"""Measurement of candidate base models on the use case's records, before any training.

All candidates get the same records and the same examples. None was trained on them, so records of the train split
are as new to them as any; those of the test split stay untouched for the gate. A candidate whose licence the policy
does not allow is not opened.
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from llmops_tasks import config
from llmops_tasks.config import UseCase, selection
from llmops_tasks.contracts import ArtifactRef, Measurement, Selected
from llmops_tasks.errors import EvidenceError, ModelError
from llmops_tasks.process import isolated
from llmops_tasks.store import artifacts, digests
from llmops_tasks.store.sources import code_digest
from llmops_tasks.training.base_model import fetch_base_model
from llmops_tasks.training.selection_figures import figures
from llmops_tasks.training.selection_policy import refusal, table

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)


def list_base_models(*, usecase: str) -> list[str]:
    """List candidate base models whose licence the policy allows, the current one first.

    Example:
        >>> list_base_models(usecase="triage")
    """
    policy, names = config.policy(usecase), []
    for name, choice in config.load(usecase).base_models().items():
        if reason := refusal(policy.licences, choice.licence):
            log.info("%s is not measured: %s", name, reason)
        else:
            names.append(name)
    return names


def draw_sample(*, usecase: str, dataset: ArtifactRef) -> ArtifactRef:
    """Draw the records and few-shot examples for measuring candidates, once per dataset.

    From the validation split first, then from train; no synthetic records, and no group that an example belongs to.

    Raises:
        EvidenceError: if too few records are left.

    Example:
        >>> sample = draw_sample(usecase="triage", dataset=dataset)
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    inputs = {
        "dataset": dataset["sha256"],
        "task": case.task.type,
        "selection": case.selection.model_dump(mode="json", include={"sample", "shots", "seed"}),
        "code": code_digest(__name__),
    }
    return artifacts.publish(usecase=name, kind="samples", inputs=inputs, build=partial(_draw, case, dataset))


def measure_base_model(*, usecase: str, sample: ArtifactRef, candidate: str = selection.CURRENT) -> Measurement:
    """Measure one candidate: quality with and without examples, bits per character, size, memory, speed.

    Memory is the peak of the current process, so run it in a process of its own.

    Args:
        usecase: name or YAML path.
        sample: from `draw_sample`.
        candidate: `current`, or a name in `selection.candidates`.

    Raises:
        ModelError: if the policy refuses its licence; the model is not opened then.

    Example:
        >>> measurement = measure_base_model(usecase="triage", sample=sample)
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    choice = case.candidate(candidate)
    if reason := refusal(config.policy(usecase).licences, choice.licence):
        raise ModelError(f"'{candidate}' is not measured: {reason}")
    found = isolated(fetch_base_model)(usecase=usecase, candidate=candidate)  # its memory is not the model's
    base = cast(ArtifactRef, {key: found[key] for key in ArtifactRef.__annotations__})
    inputs = {
        "model": base["sha256"],
        "context": choice.context_length,
        "sample": sample["sha256"],
        "config": case.digest("task", "prompt", "evaluation"),
        "metric": case.gate.metric,
        "code": code_digest(__name__),
    }
    build = partial(_build, case, sample, base, choice.context_length)
    ref = artifacts.publish(usecase=name, kind="measurements", inputs=inputs, build=build)
    return {
        "candidate": candidate,
        "model_sha256": base["sha256"],
        "sample_sha256": sample["sha256"],
        "n": ref["rows"],
        "licence_in_files": base["meta"].get("licence"),
        "languages": base["meta"].get("languages") or choice.languages,
        "figures": ref["meta"]["figures"],
        "evidence": artifacts.parent(ref),
    }


def report_selection(*, usecase: str, decision: Selected) -> ArtifactRef:
    """Publish the decision as a Markdown page, and log it.

    Example:
        >>> report_selection(usecase="triage", decision=decision)
    """
    page = table(decision=decision)
    log.info("base model:\n%s", page)

    def build(out: Path) -> dict[str, Any]:
        (out / "README.md").write_text(page, encoding="utf-8")
        return {"rows": len(decision["ranking"]), "chosen": decision["chosen"]}

    name = config.usecase_name(usecase)
    return artifacts.publish(usecase=name, kind="base_model_selection", inputs={"page": page}, build=build)


def _draw(case: UseCase, dataset: ArtifactRef, out: Path) -> dict[str, Any]:
    import pandas as pd

    frame = pd.read_parquet(artifacts.fetch(dataset) / "data.parquet", filters=[("split", "!=", "test")])
    rows, shots = drawn(case, frame)
    rows.to_parquet(out / "rows.parquet", index=False)
    shots.to_parquet(out / "shots.parquet", index=False)
    return {"rows": len(rows), "shots": len(shots), "parents": [artifacts.parent(dataset)]}


def drawn(case: UseCase, frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Records and examples: what is drawn follows from the seed and the ids, not from the order of the rows."""
    wanted = case.selection
    if "augmented" in frame:
        frame = frame[frame["augmented"] == ""]
    frame = frame.sort_values("record_id", key=lambda ids: ids.map(lambda one: digests.digest([wanted.seed, one])))
    train = frame[frame["split"] == "train"]
    if case.task.labels:  # one of each label, then a second of each, and so on
        train = train.iloc[train.groupby("label").cumcount().argsort(kind="stable")]
    shots = train[: wanted.shots]
    rest = frame[~frame["group"].isin(shots["group"])]
    rest = rest.sort_values("split", key=lambda split: split == "train", kind="stable")
    if len(rest) < selection.MIN_SAMPLE:
        least = selection.MIN_SAMPLE
        raise EvidenceError(f"{len(rest)} records are left to measure on, {least} are needed. Prepare more data.")
    return rest[: wanted.sample], shots


def _build(case: UseCase, sample: ArtifactRef, base: ArtifactRef, context: int | None, out: Path) -> dict[str, Any]:
    import pandas as pd

    drawn = artifacts.fetch(sample)
    rows, shots = (pd.read_parquet(drawn / f"{name}.parquet").to_dict("records") for name in ("rows", "shots"))
    found, columns = figures(case=case, folder=artifacts.fetch(base), rows=rows, shots=shots, context=context)
    frame = pd.DataFrame({"record_id": [row["record_id"] for row in rows], **columns})
    frame.to_parquet(out / "answers.parquet", index=False)
    return {"rows": len(rows), "figures": found, "parents": [artifacts.parent(sample), artifacts.parent(base)]}
