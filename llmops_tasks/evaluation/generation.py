"""How good written answers are on a dataset's split, beside those of the base model and of the nearest training record.

`quality` asks this module where a task is a generation; what it leaves is an artifact like that of a classification,
with answers for labels. Answers and the references' bits are kept in shards by content, as there.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks.config import UseCase
from llmops_tasks.config.server import Server
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import EvidenceError
from llmops_tasks.evaluation import exposure, text_metrics, texts
from llmops_tasks.models.chat import Prompt
from llmops_tasks.models.generator import Generator
from llmops_tasks.prompts import opening, shards, writing
from llmops_tasks.prompts.interface import Interface
from llmops_tasks.store import artifacts, digests
from llmops_tasks.store.sources import code_digest

if TYPE_CHECKING:
    import pandas as pd

RETRIEVAL = {"ngram_range": (1, 2), "sublinear_tf": True}  # TF-IDF of words and word pairs; nearest by cosine
CHUNK = 256  # records compared with the train split at once


def build(
    case: UseCase,
    usecase: str,
    asked: Interface,
    dataset: ArtifactRef,
    split: str,
    model: ArtifactRef | None,
    frames: Callable[[str], pd.DataFrame],
    out: Path,
) -> dict[str, Any]:
    """Write `predictions.parquet` (record_id, group, truth, reference_bits, and the answers' columns); returns its meta.

    Args:
        case: says how figures are made.
        usecase: its name.
        asked: how records are asked.
        dataset: whose records.
        split: that is measured.
        model: that answers; None for retrieval.
        frames: from a split to its rows.
        out: the folder.

    Raises:
        EvidenceError: if the split has no records, or a reference without text.
    """
    train, rows = (
        frame.assign(label=frame["label"].map(asked.render_answer)) for frame in map(frames, ("train", split))
    )
    _check(rows, split)
    rows["text"] = texts.as_read_by(asked, dataset, rows)
    written, bits, cut = _by_model(case, usecase, asked, model, rows) if model else (retrieve(train, rows), None, 0)
    result = rows[["record_id", "group"]].assign(truth=rows["label"]).reset_index(drop=True).join(written)
    result["reference_bits"] = float("nan") if bits is None else bits
    result.to_parquet(out / "predictions.parquet", index=False)
    about = {"model_sha256": model["sha256"] if model else None, "model_kind": model["kind"] if model else None}
    return {
        "rows": len(result),
        "split": split,
        "dataset_sha256": dataset["sha256"],
        **about,
        "metrics": _figures(case, result, bits),
        "labels": [],
        "cut_prompts": cut,
        "finish_reasons": result["finish_reason"].value_counts().sort_index().to_dict(),
        "overlap": exposure.overlap(model, rows["group"], train["group"]),
    }


def _check(rows: pd.DataFrame, split: str) -> None:
    if rows.empty:
        raise EvidenceError(f"The split '{split}' has no records. Splits: train, validation, test.")
    if empty := int((rows["label"].str.strip() == "").sum()):
        raise EvidenceError(
            f"{empty} records of the split '{split}' have an empty answer, so nothing can be compared with it. Set "
            "data.columns.<answer>.required, and prepare the data again."
        )


def _by_model(
    case: UseCase, usecase: str, asked: Interface, model: ArtifactRef, rows: pd.DataFrame
) -> tuple[pd.DataFrame, list[float | None], int]:
    """Answers, bits of the references, and how many prompts were cut."""
    server, texts = case.inference.server, rows["text"].tolist()
    opened = cache(partial(opening.open_model, model, asked.number_format, server))
    written, cut = writing.kept_answers(usecase, model, opened, asked, texts, case.evaluation.batch_size, server)
    prompts = [asked.render_prompt(text) for text in texts]
    bits = _reference_bits(usecase, model, opened, prompts, rows["label"].tolist(), asked, server)
    return written, bits, cut


def _figures(case: UseCase, result: pd.DataFrame, bits: list[float | None] | None) -> dict[str, Any]:
    return dict(
        text_metrics.measure(
            truth=result["truth"].tolist(),
            written=result["answer"].tolist(),
            groups=result["group"].tolist(),
            bits=bits,
            resamples=case.evaluation.bootstrap,
            confidence=case.evaluation.confidence,
        )
    )


def retrieve(train: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The answer to the most similar training text, for every row: what must be beaten to be worth a language model."""
    import pandas as pd
    from sklearn.feature_extraction.text import TfidfVectorizer

    if train.empty:
        raise EvidenceError("The train split has no records, so none can be retrieved. Prepare more data.")
    words = TfidfVectorizer(**RETRIEVAL)
    known = words.fit_transform(train["text"]).T.tocsr()
    asked = words.transform(rows["text"])
    nearest: list[int] = []
    for start in range(0, asked.shape[0], CHUNK):
        nearest += (asked[start : start + CHUNK] @ known).toarray().argmax(axis=1).tolist()
    found = pd.DataFrame({"answer": train["label"].iloc[nearest].tolist(), "tokens": 0, "finish_reason": "stop"})
    return found.assign(error=None, bits=float("nan")).astype(writing.COLUMNS)


# ---------------------------------------------------------------- bits of the references


def _reference_bits(
    usecase: str,
    model: ArtifactRef,
    opened: Callable[[], Generator],
    prompts: list[Prompt],
    truth: list[str],
    asked: Interface,
    server: Server | None,
) -> list[float | None]:
    """How unexpected the model finds each reference after its prompt, None of one beyond its context; kept in shards."""
    inputs = {
        "model": model["sha256"],
        "max_length": asked.max_length,
        "engine": opening.engine(asked.number_format, server),
        "code": code_digest(__name__),
    }
    pairs, build = list(zip(prompts, truth, strict=True)), partial(_shard_bits, opened, asked.max_length)
    found: list[float | None] = []
    for ref in shards.kept(usecase=usecase, kind="reference_bits", items=pairs, inputs=inputs, build=build):
        found += json.loads((artifacts.fetch(ref) / "bits.json").read_bytes())
    return found


def _shard_bits(
    opened: Callable[[], Generator], max_length: int, pairs: Sequence[tuple[Prompt, str]], out: Path
) -> dict[str, Any]:
    prompts, truth = [prompt for prompt, _ in pairs], [text for _, text in pairs]
    bits = [None if math.isnan(found) else found for found in opened().bits(prompts, truth, max_length)]
    (out / "bits.json").write_bytes(digests.canonical(bits))
    return {"rows": len(bits)}


# ---------------------------------------------------------------- comparisons


def difference(case: UseCase, both: pd.DataFrame) -> Any:
    """Candidate minus reference in the gate's metric; `both` has truth, ours, theirs and group."""
    columns = {name: both[name].tolist() for name in ("truth", "ours", "theirs")}
    return text_metrics.difference(
        **columns,
        groups=both["group"].tolist(),
        metric=case.gate.metric,
        resamples=case.evaluation.bootstrap,
        confidence=case.evaluation.confidence,
    )
