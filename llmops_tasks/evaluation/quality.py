"""How good a subject is on a dataset's split: the released bytes, the untuned base model, or a baseline.

Answers of a classification are judged here, those of a generation by `generation`.

Every subject is asked as its own release says, and leaves its predictions beside its figures, so that any two can be
compared record by record. Base model and baselines are asked as the candidate's release says, but never abstain: with a
limit that weak models do not reach, abstaining would make them easy to beat.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from llmops_tasks import config, metrics
from llmops_tasks.config import UseCase
from llmops_tasks.contracts import BASELINES, ArtifactRef, Report
from llmops_tasks.errors import EvidenceError, InputError, did_you_mean
from llmops_tasks.evaluation import exposure, generation, texts
from llmops_tasks.models import calibration, frozen_layers, layers
from llmops_tasks.models.generator import Generator
from llmops_tasks.prompts import answering, interface, opening, scoring
from llmops_tasks.prompts.interface import Interface
from llmops_tasks.store import artifacts
from llmops_tasks.store.sources import code_digest

if TYPE_CHECKING:
    import pandas as pd

TFIDF = {"ngram_range": (1, 2), "min_df": 2, "sublinear_tf": True}
TFIDF_C = 10.0  # inverse regularisation; of 1, 10 and 100 it made the strongest baseline on the demo's notes (kappa 0.56, 0.62, 0.60)
Predict = Callable[
    ["pd.DataFrame", "pd.DataFrame"], tuple[list[list[float]], int]
]  # train, rows -> scores, cut prompts


def list_subjects(
    *, usecase: str, candidate: dict[str, Any], champion: dict[str, Any], base: ArtifactRef
) -> list[dict[str, Any]]:
    """List the subjects to evaluate, as arguments for `evaluate`, the candidate first.

    Example:
        >>> list_subjects(usecase="triage", candidate=candidate, champion=champion, base=base)
    """
    release = candidate["release"]
    models = {"candidate": release, "base": base}
    names = ["candidate", *config.load(usecase).baselines()]
    plan = [{"subject": name, "model": models.get(name), "asked_as": release} for name in names]
    if champion["version"] is not None:
        plan.append({"subject": "champion", "model": champion["release"], "asked_as": champion["release"]})
    return plan


def evaluate(
    *,
    usecase: str,
    dataset: ArtifactRef,
    subject: str,
    asked_as: ArtifactRef,
    model: ArtifactRef | None = None,
    split: str = "test",
) -> Report:
    """Evaluate one subject on a split.

    Args:
        usecase: name or YAML path.
        dataset: from `build_dataset`.
        subject: "candidate", "champion" or "base" (with `model`), or what learns here, from the train split: "tfidf" of
            a classification, "retrieval" of a generation.
        asked_as: the release whose prompt, labels and text template are used.
        model: the release or base model to evaluate.
        split: of the dataset.

    Raises:
        EvidenceError: if the split has no records, or labels that the release does not know.
        DataError: if the records lack a column that the release's text template reads.

    Example:
        >>> report = evaluate(usecase="triage", dataset=dataset, subject="candidate", asked_as=release, model=release)
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    asked = interface.of_release(asked_as)
    _check_subject(asked.task.type, subject, model)
    asked = interface.with_format_of(asked, model) if model else asked
    if asked.task.type == "classification" and (model is None or model["kind"] != "release"):
        asked = asked.without_decisions()
    inputs = {
        "dataset": dataset["sha256"],
        "model": model["sha256"] if model else TFIDF_C,
        "split": split,
        "asked": asked.digest(),
        "evaluation": case.evaluation.model_dump(mode="json"),
        "code": code_digest(__name__),
    }
    if asked.task.type == "generation":
        build = partial(generation.build, case, name, asked, dataset, split, model, partial(_split, dataset))
    else:
        predict = partial(_by_model, case, asked, name, model) if model else partial(_by_tfidf, asked)
        build = partial(_build, case, asked, dataset, split, model, predict)
    ref = artifacts.publish(usecase=name, kind="evaluations", inputs=inputs, build=build)
    subject_sha256 = model["sha256"] if model else ref["key"]
    report = {"subject": subject, "subject_sha256": subject_sha256, "dataset_sha256": dataset["sha256"], "split": split}
    figures = {"n": ref["rows"], "metrics": ref["meta"]["metrics"], "overlap": ref["meta"]["overlap"]}
    return cast(Report, {**report, **figures, "predictions": ref})


def _check_subject(task: str, subject: str, model: ArtifactRef | None) -> None:
    here = [name for name in BASELINES[task] if name != "base"]
    known = ["candidate", "champion", "base", *here]
    if subject not in known:
        raise InputError(f"No subject '{subject:.40}' of a {task}.{did_you_mean(subject, known)} Known: {known}.")
    if (model is None) != (subject in here):
        raise InputError(
            f"Subject '{subject}' {'takes no' if model else 'needs a'} model. '{here[0]}' is trained here, all others are given."
        )


def _build(
    case: UseCase,
    asked: Interface,
    dataset: ArtifactRef,
    split: str,
    model: ArtifactRef | None,
    predict: Predict,
    out: Path,
) -> dict[str, Any]:
    train, rows = _split(dataset, "train"), _split(dataset, split)
    _check(rows, split, asked)
    rows["text"] = texts.as_read_by(asked, dataset, rows)
    scores, cut = predict(train, rows)
    names, calibrated = answering.decide(asked, scores)
    result = rows[["record_id", "group"]].assign(truth=rows["label"], label=names)
    result["score"] = [max(row) for row in calibrated]
    result.to_parquet(out / "predictions.parquet", index=False)
    about = {"model_sha256": model["sha256"] if model else None, "model_kind": model["kind"] if model else None}
    return {
        "rows": len(result),
        "split": split,
        "dataset_sha256": dataset["sha256"],
        **about,
        "metrics": _figures(case, asked, result),
        "calibration": calibration.figures(scores, rows["label"].map(asked.labels.index).to_numpy(), asked.temperature),
        "labels": asked.labels,
        "cut_prompts": cut,
        "overlap": exposure.overlap(model, rows["group"], train["group"]),
    }


def _split(dataset: ArtifactRef, split: str) -> pd.DataFrame:
    import pandas as pd

    columns, filters = ["record_id", "group", "text", "label"], [("split", "==", split)]
    return pd.read_parquet(artifacts.fetch(dataset) / "data.parquet", columns=columns, filters=filters)


def _check(rows: pd.DataFrame, split: str, asked: Interface) -> None:
    if rows.empty:
        raise EvidenceError(f"The split '{split}' has no records. Splits: train, validation, test.")
    if unknown := sorted(set(rows["label"]) - set(asked.labels)):
        raise EvidenceError(
            f"The records have the labels {unknown}, which the release does not know: {asked.labels}. Answers on another "
            "scale cannot be compared: give the new scale a use case of its own."
        )


def _by_model(
    case: UseCase, asked: Interface, usecase: str, model: ArtifactRef, train: pd.DataFrame, rows: pd.DataFrame
) -> tuple[list[list[float]], int]:
    """Scores of every row, kept in shards of consecutive rows: what a grown dataset shares is not scored again."""
    prompts = [asked.render_prompt(text) for text in rows["text"]]
    opened = cache(partial(_open, case, usecase, model, asked.number_format))  # only if a shard is missing
    size, server = case.evaluation.batch_size, case.inference.server
    return scoring.kept_scores(usecase, model, opened, asked, prompts, size, server)


def _open(case: UseCase, usecase: str, model: ArtifactRef, number_format: str) -> Generator:
    """What candidate, champion and base model have in common is run once for all of them."""
    shared = None
    if case.finetune.method == "lora":
        count = layers.count(next(artifacts.fetch(model).rglob("config.json")).parent)
        cut = max(0, count - case.finetune.top_layers)
        shared = frozen_layers.Shared(usecase, cut, case.finetune.activations_gib)
    return opening.open_model(model, number_format, case.inference.server, shared)


def _by_tfidf(asked: Interface, train: pd.DataFrame, rows: pd.DataFrame) -> tuple[list[list[float]], int]:
    """TF-IDF of words and word pairs with logistic regression: what must be beaten to be worth a language model."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(**TFIDF)
    model = LogisticRegression(max_iter=3000, C=TFIDF_C).fit(words.fit_transform(train["text"]), train["label"])
    known = dict(zip(model.classes_, model.predict_proba(words.transform(rows["text"])).T, strict=True))
    count = range(len(rows))
    return [[float(known[name][row]) if name in known else 0.0 for name in asked.labels] for row in count], 0


def _figures(case: UseCase, asked: Interface, predictions: pd.DataFrame) -> dict[str, Any]:
    truth, predicted = (predictions[column].map(asked.outcomes.index).to_numpy() for column in ("truth", "label"))
    return cast(
        dict[str, Any],
        metrics.measure(
            truth=truth,
            predicted=predicted,
            groups=predictions["group"].tolist(),
            labels=asked.labels,
            severe=asked.task.severe,
            selective=asked.task.abstain_below is not None,
            resamples=case.evaluation.bootstrap,
            confidence=case.evaluation.confidence,
        ),
    )
