"""Batch inference: one day's records through one release, as parts of a partition, each written once.

A record that was scored keeps its prediction forever. Records that arrive late are scored in a further part of the
partition, by the champion of that time. The prompt interface is that of the release.
"""

from __future__ import annotations

import logging
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks import config
from llmops_tasks.config import UseCase
from llmops_tasks.contracts import ArtifactRef, Partition
from llmops_tasks.errors import ConflictError, EvidenceError
from llmops_tasks.prompts import answering, scoring, writing
from llmops_tasks.prompts.interface import Interface
from llmops_tasks.store import artifacts, digests, partitions
from llmops_tasks.store.sources import code_digest

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
_ATTEMPTS = 20


def predict_batch(
    *, usecase: str, day: ArtifactRef, champion: dict[str, Any], requested: str | None = None
) -> Partition:
    """Score the records of a day that were not scored yet.

    Args:
        usecase: name or YAML path.
        day: from `render_day`, for this champion.
        champion: from `find_champion`, resolved once for the whole run.
        requested: the version requested by number, if any.

    Returns:
        All parts of `<store>/<usecase>/predictions/date=YYYY-MM-DD/part-NNNN/`, each with `predictions.parquet`:
        record_id, label (or `abstained`), score, one `p_<label>` each, read_sha256 (of the text), release_version,
        release_sha256. Of a generation record_id, answer, tokens, read_sha256, finish_reason, error, bits, release_version,
        release_sha256; answers are kept in shards, so that a run that is killed goes on where it was.

    Raises:
        EvidenceError: if nothing was promoted yet, or the day was rendered for a release with another text template.
        ConflictError: if records were scored by another version than requested, or other runs keep scoring.

    Example:
        >>> partition = predict_batch(usecase="triage", day=day, champion=champion)
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    if champion["version"] is None:
        raise EvidenceError(
            "No version was promoted yet, so records cannot be scored. Train, evaluate and approve one first."
        )
    asked = answering.asked_as(champion["release"])
    _check(asked, day)
    for _ in range(_ATTEMPTS):
        parts = find_predictions(usecase=usecase, date=day["meta"]["date"])
        _check_version(parts, requested)
        rows, changed = _unanswered(day, parts)
        if rows.empty and parts:
            log.info("%s: every record is scored already: skipped", day["meta"]["date"])
            return partitions.together(day["meta"]["date"], parts, changed=changed)
        made = _answer(case, asked, name, day, champion, rows, len(parts) + 1)
        if made is not None:
            return partitions.together(day["meta"]["date"], [*parts, made], added=made["rows"], changed=changed)
    raise ConflictError(
        f"Other runs keep scoring {day['meta']['date']} of '{name}'. Score a day with one run at a time."
    )


def find_predictions(*, usecase: str, date: str) -> list[ArtifactRef]:
    """Find a scored partition, part by part; together they are one table.

    Args:
        usecase: name or YAML path.
        date: YYYY-MM-DD.

    Example:
        >>> find_predictions(usecase="triage", date="2026-03-02")
    """
    return partitions.parts(config.usecase_name(usecase), config.checked_date(date))


def _check(asked: Interface, day: ArtifactRef) -> None:
    if day["meta"]["text_sha256"] != asked.text_digest():
        raise EvidenceError(
            f"{day['meta']['date']} was rendered for a release with another text template. Render it again for this one."
        )


def _check_version(parts: list[ArtifactRef], requested: str | None) -> None:
    """Existing predictions are kept, even if another version is requested."""
    versions = sorted({part["meta"]["release_version"] for part in parts})
    if requested is not None and versions and versions != [requested]:
        raise ConflictError(
            f"{parts[0]['meta']['date']} was scored by version {', '.join(versions)}; version {requested} "
            "must not replace its predictions."
        )


def _unanswered(day: ArtifactRef, parts: list[ArtifactRef]) -> tuple[pd.DataFrame, int]:
    """Records without an answer, and how many of the others had another text when they were answered."""
    import pandas as pd

    frame = pd.read_parquet(artifacts.fetch(day) / "data.parquet", columns=["record_id", "text"])
    read = frame.set_index("record_id")["text"].map(_read_digest)
    known: set[str] = set()
    changed = 0
    for part in parts:
        alike = part["meta"].get("text_sha256") == day["meta"]["text_sha256"]  # rendered by one template
        columns = ["record_id", *["read_sha256"] * alike]
        given = pd.read_parquet(artifacts.fetch(part) / "predictions.parquet", columns=columns).set_index("record_id")
        known |= set(given.index)
        if alike:
            both = given.join(read, how="inner")
            changed += int((both["read_sha256"] != both["text"]).sum())
    if changed:
        log.warning("%s: %d scored records arrived again with another text: their predictions are kept", day["meta"]["date"], changed)  # fmt: skip
    return frame[~frame["record_id"].isin(known)], changed


def _read_digest(text: str) -> str:
    return digests.digest(text.encode())[:32]


def _answer(
    case: UseCase,
    asked: Interface,
    usecase: str,
    day: ArtifactRef,
    champion: dict[str, Any],
    rows: pd.DataFrame,
    number: int,
) -> ArtifactRef | None:
    """The next part; None if another run wrote it first, with other records or another release."""
    inputs = {
        "records": digests.digest(rows[["record_id", "text"]].to_numpy().tolist()),
        "release": champion["release"]["sha256"],
        "code": code_digest(__name__),
    }
    at = f"{partitions.folder(usecase, day['meta']['date'])}/part-{number:04d}"
    build = partial(_build, case, asked, usecase, day, champion, rows)
    try:
        return artifacts.publish(usecase=usecase, kind="predictions", inputs=inputs, build=build, at=at)
    except ConflictError:
        log.info("another run scored records of %s first: reading again", day["meta"]["date"])
        return None


def _answers(
    case: UseCase, asked: Interface, usecase: str, release: ArtifactRef, texts: list[str]
) -> tuple[pd.DataFrame, int]:
    """Answers to texts, kept in shards: a run that was killed goes on where it was."""
    size = case.batch.batch_size if case.batch else answering.BATCH_SIZE
    server = case.inference.server
    opened = cache(partial(answering.open_release, release, server))
    if asked.task.type == "generation":
        return writing.kept_answers(usecase, release, opened, asked, texts, size, server)
    prompts = [asked.render_prompt(text) for text in texts]
    scores, cut = scoring.kept_scores(usecase, release, opened, asked, prompts, size, server)
    return answering.labelled(asked, scores), cut


def _build(
    case: UseCase,
    asked: Interface,
    usecase: str,
    day: ArtifactRef,
    champion: dict[str, Any],
    rows: pd.DataFrame,
    out: Path,
) -> dict[str, Any]:
    result, cut = _answers(case, asked, usecase, champion["release"], rows["text"].tolist())
    result.insert(0, "record_id", rows["record_id"].tolist())
    result.insert(3, "read_sha256", [_read_digest(text) for text in rows["text"]])
    result["release_version"], result["release_sha256"] = champion["version"], champion["release"]["sha256"]
    words = ["record_id", "read_sha256", "release_version", "release_sha256"]
    kinds = dict.fromkeys(words, "string")  # of a day without records, too
    result.astype(kinds).to_parquet(out / "predictions.parquet", index=False)
    column, names = (
        ("finish_reason", writing.FINISHED) if asked.task.type == "generation" else ("label", asked.outcomes)
    )
    mix = {f"{column}s": {name: int((result[column] == name).sum()) for name in names}}
    of_day = {"date": day["meta"]["date"], "text_sha256": day["meta"]["text_sha256"]}
    of_day |= {"parents": [artifacts.parent(day)], "release_version": champion["version"]}
    witness = {"ledger_seq": champion["seq"], "ledger_head": champion.get("head")}
    return {"rows": len(result), **mix, "cut_prompts": cut, **of_day, **witness}
