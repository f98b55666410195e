"""What a candidate for the base model is worth, before anything is trained: measured on the use case's own records.

All candidates get the same records and the same examples. None was trained on them, so records of the train split
are as new to them as any; those of the test split stay untouched for the gate. A candidate whose licence the policy
does not let in is not opened.
"""

from __future__ import annotations

import logging
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, cast

from llmops_tasks import artifacts, config, config_selection, generation, metrics, storage
from llmops_tasks.config import UseCase
from llmops_tasks.contracts import ArtifactRef, Measurement, Selected
from llmops_tasks.errors import EvidenceError, ModelError
from llmops_tasks.process import isolated
from llmops_tasks.prompts import templates
from llmops_tasks.training.base_model import base_model
from llmops_tasks.training.selection_figures import figures
from llmops_tasks.training.selection_policy import refusal, table

log = logging.getLogger(__name__)
Row = dict[str, Any]


def candidates(*, usecase: str) -> list[str]:
    """Whose licence the policy lets in, the use case's own base model (`current`) first."""
    policy, names = config.policy(usecase), []
    for name, choice in config.load(usecase).base_models().items():
        if reason := refusal(policy.licences, choice.licence):
            log.info("%s is not measured: %s", name, reason)
        else:
            names.append(name)
    return names


def measure(*, usecase: str, dataset: ArtifactRef, candidate: str = config_selection.CURRENT) -> Measurement:
    """Measure one candidate: quality with and without examples, bits per character, size, memory, speed.

    Memory is the peak of this very process: run it in one of its own.

    Args:
        usecase: name or YAML path.
        dataset: from `versions`.
        candidate: `current`, or a name in `selection.candidates`.

    Raises:
        ModelError: if the policy refuses its licence; nothing of it was opened then.
        EvidenceError: if there are too few records.
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    choice = case.candidate(candidate)
    if reason := refusal(config.policy(usecase).licences, choice.licence):
        raise ModelError(f"'{candidate}' is not measured: {reason}")
    found = isolated(base_model)(usecase=usecase, candidate=candidate)  # its memory is not the model's
    base = cast(ArtifactRef, {key: found[key] for key in ArtifactRef.__annotations__})
    inputs = {
        "model": base["sha256"],
        "context": choice.context_length,
        "dataset": dataset["sha256"],
        "config": case.digest("task", "prompt", "evaluation"),
        "selection": case.selection.model_dump(mode="json", include={"sample", "shots", "seed"}),
        "metric": case.gate.metric,
        "code": storage.code_digest(__file__, templates.__file__, generation.__file__, metrics.__file__),
    }
    build = partial(_build, case, dataset, base, choice.context_length)
    ref = artifacts.publish(usecase=name, kind="measurements", inputs=inputs, build=build)
    return {
        "candidate": candidate,
        "model_sha256": base["sha256"],
        "dataset_sha256": dataset["sha256"],
        "sample_sha256": ref["meta"]["sample_sha256"],
        "n": ref["rows"],
        "licence_in_files": base["meta"].get("licence"),
        "languages": base["meta"].get("languages") or choice.languages,
        "figures": ref["meta"]["figures"],
        "evidence": ref,
    }


def report(*, usecase: str, decision: Selected) -> ArtifactRef:
    """The decision as a page in Markdown, and in the log."""
    page = table(decision=decision)
    log.info("base model:\n%s", page)

    def build(out: Path) -> dict[str, Any]:
        (out / "README.md").write_text(page, encoding="utf-8")
        return {"rows": len(decision["ranking"]), "chosen": decision["chosen"]}

    name = config.usecase_name(usecase)
    return artifacts.publish(usecase=name, kind="base_model_selection", inputs={"page": page}, build=build)


def _build(case: UseCase, dataset: ArtifactRef, base: ArtifactRef, context: int | None, out: Path) -> dict[str, Any]:
    import pandas as pd

    folder = artifacts.fetch(base)
    rows, shots = sample(case, pd.read_parquet(artifacts.fetch(dataset) / "data.parquet").to_dict("records"))
    found, columns = figures(case=case, folder=folder, rows=rows, shots=shots, context=context)
    frame = pd.DataFrame({"record_id": [row["record_id"] for row in rows], **columns})
    frame.to_parquet(out / "answers.parquet", index=False)
    used = {"records": frame["record_id"].tolist(), "shots": [row["record_id"] for row in shots]}
    return {"rows": len(rows), "figures": found, "sample_sha256": storage.digest(used)}


# ---------------------------------------------------------------- records


def sample(case: UseCase, rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """The records to measure on and the examples to show: the same for the same seed and dataset.

    Of the validation split first, then of train, none made up, none of a group that an example is of.

    Raises:
        EvidenceError: if too few are left to say anything.
    """
    wanted = case.selection
    own = [row for row in rows if row["split"] != "test" and not row.get("augmented")]
    own.sort(key=lambda row: storage.digest([wanted.seed, row["record_id"]]))
    shots = _in_turn([row for row in own if row["split"] == "train"], case.task.type)[: wanted.shots]
    shown = {row["group"] for row in shots}
    rest = sorted((row for row in own if row["group"] not in shown), key=lambda row: str(row["split"]) == "train")
    if len(rest) < config_selection.MIN_SAMPLE:
        raise EvidenceError(
            f"{len(rest)} records are left to measure on. At least {config_selection.MIN_SAMPLE} are needed."
        )
    return rest[: wanted.sample], shots


def _in_turn(rows: list[Row], task: str) -> list[Row]:
    """One of each label, then a second of each, and so on; free text has no labels to take in turn."""
    if task != "classification":
        return rows
    seen: Counter[str] = Counter()
    turns = []
    for row in rows:
        turns.append((seen[row["label"]], row))
        seen[row["label"]] += 1
    return [row for _, row in sorted(turns, key=lambda turn: turn[0])]
