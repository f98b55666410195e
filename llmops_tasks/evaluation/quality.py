"""How good a subject is on a dataset's split: the released bytes, the untuned base model, or a baseline.

Every subject leaves its predictions beside its figures, so that any two can be compared record by record.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from llmops_tasks import config, metrics
from llmops_tasks.config import UseCase
from llmops_tasks.contracts import EARLIER, ArtifactRef, Comparison, Evidence, Report
from llmops_tasks.errors import EvidenceError, InputError
from llmops_tasks.models import trunk
from llmops_tasks.models.generator import Generator, open_generator
from llmops_tasks.prompts import templates
from llmops_tasks.store import artifacts, digests
from llmops_tasks.store.sources import code_digest

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
SHARD = 128  # records scored and kept together
TFIDF = {"ngram_range": (1, 2), "min_df": 2, "sublinear_tf": True}
TFIDF_C = 10.0  # inverse regularisation; of 1, 10 and 100 it made the strongest baseline on the demo's notes (kappa 0.56, 0.62, 0.60)


def evaluate(
    *, usecase: str, dataset: ArtifactRef, subject: str, model: ArtifactRef | None = None, split: str = "test"
) -> Report:
    """Measure a subject on a split.

    Args:
        usecase: name or YAML path.
        dataset: from `versions`.
        subject: "candidate", "champion" or "base" (with `model`), or "tfidf" (trained here, on the train split).
        model: a release or base model, whose very bytes are measured.
        split: of the dataset.

    Raises:
        EvidenceError: if the split has no records.
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    if case.task.type != "classification":
        raise InputError("Only classification is measured so far. Use a task of type 'classification'.")
    if (model is None) != (subject == "tfidf"):
        raise InputError(
            f"Subject '{subject}' {'takes no' if model else 'needs a'} model. 'tfidf' is trained here, all others are given."
        )
    inputs = {
        "dataset": dataset["sha256"],
        "model": model["sha256"] if model else TFIDF_C,
        "split": split,
        "config": case.digest("task", "prompt", "evaluation"),
        "code": _code(),
    }
    predict = partial(_by_model, case, name, model) if model else partial(_by_tfidf, case)
    build = partial(_build, case, dataset, split, predict)
    ref = artifacts.publish(usecase=name, kind="evaluations", inputs=inputs, build=build)
    subject_sha256 = model["sha256"] if model else ref["key"]
    report = {"subject": subject, "subject_sha256": subject_sha256, "dataset_sha256": dataset["sha256"], "split": split}
    return cast(Report, {**report, "n": ref["rows"], "metrics": ref["meta"]["metrics"], "predictions": ref})


def _code() -> str:
    return code_digest(__name__)


def _build(case: UseCase, dataset: ArtifactRef, split: str, predict: Callable[..., Any], out: Path) -> dict[str, Any]:
    import pandas as pd

    frame = pd.read_parquet(artifacts.fetch(dataset) / "data.parquet")
    rows = frame[frame["split"] == split]
    if rows.empty:
        raise EvidenceError(f"The split '{split}' has no records. Splits: {sorted(frame['split'].unique())}.")
    names = [label.name for label in case.task.labels]
    scores = predict(frame[frame["split"] == "train"], rows, names)
    predicted = [max(range(len(names)), key=row.__getitem__) for row in scores]
    result = pd.DataFrame(
        {"record_id": rows["record_id"], "truth": rows["label"], "label": [names[code] for code in predicted]}
    )
    result["score"] = [max(row) for row in scores]
    result.to_parquet(out / "predictions.parquet", index=False)
    figures = _figures(case, result)
    return {
        "rows": len(result),
        "metrics": {name: metrics.interval(values, case.evaluation.confidence) for name, values in figures.items()},
    }


def _by_model(
    case: UseCase, usecase: str, model: ArtifactRef, train: pd.DataFrame, rows: pd.DataFrame, names: list[str]
) -> list[list[float]]:
    """Scores of every row, kept in shards of consecutive rows: what a grown dataset shares is not scored again."""
    prompts = [templates.render_prompt(case, text) for text in rows["text"]]
    answers = [label.text for label in case.task.labels]
    opened = cache(partial(_open, case, usecase, model))  # only if a shard is missing
    result: list[list[float]] = []
    for start in range(0, len(prompts), SHARD):
        shard = prompts[start : start + SHARD]
        inputs = {"model": model["sha256"], "prompts": digests.digest(shard), "answers": answers}
        inputs["code"] = _code()
        build = partial(_score_shard, opened, shard, answers, case.evaluation.batch_size)
        ref = artifacts.publish(usecase=usecase, kind="scores", inputs=inputs, build=build)
        result += json.loads((artifacts.fetch(ref) / "scores.json").read_bytes())
    return result


def _open(case: UseCase, usecase: str, model: ArtifactRef) -> Generator:
    """What candidate, champion and base model have in common is run once for all of them."""
    folder, shared = artifacts.fetch(model), None
    if case.finetune.method == "lora":
        layers = json.loads(next(folder.rglob("config.json")).read_bytes())["num_hidden_layers"]
        shared = trunk.Shared(usecase, max(0, layers - case.finetune.top_layers))
    return open_generator("transformers", folder, shared)


def _score_shard(
    opened: Callable[[], Generator], prompts: list[str], answers: list[str], batch_size: int, out: Path
) -> dict[str, Any]:
    scores = opened().scores(prompts, answers, batch_size)
    (out / "scores.json").write_bytes(digests.canonical(scores))
    return {"rows": len(scores)}


def _by_tfidf(case: UseCase, train: pd.DataFrame, rows: pd.DataFrame, names: list[str]) -> list[list[float]]:
    """TF-IDF of words and word pairs with logistic regression: what must be beaten to be worth a language model."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(**TFIDF)
    model = LogisticRegression(max_iter=3000, C=TFIDF_C).fit(words.fit_transform(train["text"]), train["label"])
    known = dict(zip(model.classes_, model.predict_proba(words.transform(rows["text"])).T, strict=True))
    return [[float(known[name][row]) if name in known else 0.0 for name in names] for row in range(len(rows))]


def _figures(case: UseCase, predictions: pd.DataFrame) -> dict[str, metrics.Figures]:
    names = [label.name for label in case.task.labels]
    truth, predicted = (predictions[column].map(names.index).to_numpy() for column in ("truth", "label"))
    counts = metrics.resampled_counts(truth, predicted, len(names), case.evaluation.bootstrap)
    return metrics.figures(counts, [names.index(name) for name in case.task.severe])


def list_subjects(
    *, usecase: str, candidate: dict[str, Any], champion: dict[str, Any], base: ArtifactRef
) -> list[dict[str, Any]]:
    """Who is to be measured: arguments for `evaluate`, the candidate first."""
    models = {"candidate": candidate["release"], "base": base, "tfidf": None, "champion": champion["release"]}
    names = ["candidate", *config.load(usecase).evaluation.baselines, *["champion"] * (champion["version"] is not None)]
    return [{"subject": name, "model": models[name]} for name in names]


def compare_subjects(*, usecase: str, reports: list[Report], champion: dict[str, Any] | None = None) -> Evidence:
    """Compare the candidate with every other subject: all that the gate judges on.

    Args:
        usecase: name or YAML path; with `gate.max_forgetting`, the champion is met again on the records of its own exam.
        reports: from `evaluate`.
        champion: from `registry.champion`.
    """
    # what a process cost is no evidence: only a report's own keys count
    reports = [cast(Report, {name: report[name] for name in Report.__annotations__}) for report in reports]  # type: ignore[literal-required]
    candidate = next(report for report in reports if report["subject"] == "candidate")
    others = [report for report in reports if report["subject"] != "candidate"]
    comparisons = [compare_pair(usecase=usecase, candidate=candidate, reference=other) for other in others]
    serving = next((report for report in others if report["subject"] == "champion"), None)
    if serving and champion and config.load(usecase).gate.max_forgetting is not None:
        earlier = _exam(champion["dataset"])
        found = compare_pair(usecase=usecase, candidate=candidate, reference=serving, only=earlier)
        comparisons.append({**found, "reference": EARLIER})
    return {"reports": [candidate, *others], "comparisons": comparisons}


def _exam(dataset: ArtifactRef) -> set[str]:
    """The ids of the records that a dataset tests on."""
    import pandas as pd

    frame = pd.read_parquet(artifacts.fetch(dataset) / "data.parquet", columns=["record_id", "split"])
    return set(frame.loc[frame["split"] == "test", "record_id"])


def compare_pair(*, usecase: str, candidate: Report, reference: Report, only: set[str] | None = None) -> Comparison:
    """Candidate minus reference in the gate's metric, on the same records, with a paired bootstrap interval.

    Args:
        usecase: name or YAML path.
        candidate: from `evaluate`.
        reference: from `evaluate`, on the same dataset and split.
        only: the ids of the records that count; None: all.

    Raises:
        EvidenceError: if the two were not measured on the same records, or none is left.
    """
    import pandas as pd

    case = config.load(usecase)
    ours, theirs = (
        pd.read_parquet(artifacts.fetch(report["predictions"]) / "predictions.parquet").sort_values("record_id")
        for report in (candidate, reference)
    )
    if ours["record_id"].tolist() != theirs["record_id"].tolist():
        raise EvidenceError(
            f"'{candidate['subject']}' and '{reference['subject']}' were measured on different records."
        )
    if only is not None:
        ours, theirs = (frame[frame["record_id"].isin(only)] for frame in (ours, theirs))
    if ours.empty:
        raise EvidenceError(
            "No record of the champion's exam is among those measured. Measure on a dataset that has them."
        )
    metric = case.gate.metric
    difference = _figures(case, ours)[metric] - _figures(case, theirs)[metric]
    return {
        "reference": reference["subject"],
        "metric": metric,
        "n": len(ours),
        "difference": metrics.interval(difference, case.evaluation.confidence),
    }
