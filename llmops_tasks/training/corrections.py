"""Preference pairs: reviewed labels against predictions, where the two differ."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks import config
from llmops_tasks.config import UseCase
from llmops_tasks.config.training import Preferences
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import DataError, InputError
from llmops_tasks.models import chat
from llmops_tasks.prompts import interface
from llmops_tasks.prompts.interface import Interface
from llmops_tasks.store import artifacts, digests, objects
from llmops_tasks.store.sources import code_digest

if TYPE_CHECKING:
    import pandas as pd

HELD_OUT = 0.25  # of the pairs


def collect_corrections(*, usecase: str, dataset: ArtifactRef, start: ArtifactRef) -> ArtifactRef:
    """Collect preference pairs from scored partitions and reviewed records.

    Args:
        usecase: name or YAML path; a classification.
        dataset: from `build_dataset`; its train split has the reviewed labels.
        start: the champion's release, with its own prompt.

    Returns:
        A reference of kind "pairs": `pairs.parquet` with record_id, group, prompt, chosen, rejected, split.

    Raises:
        DataError: if the dataset was rendered with another template than the champion's, or there are fewer corrections than
            `finetune.preferences.min_pairs`.

    Example:
        >>> pairs = collect_corrections(usecase="triage", dataset=dataset, start=champion["release"])
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    asked = interface.of_start(case, start)
    if dataset["meta"].get("text_sha256") != asked.text_digest():
        raise DataError(
            "The dataset was rendered with another template than the champion's, so its corrections would train on "
            "other prompts. Train on records first: remove finetune.preferences for one run."
        )
    parts = objects.find(f"{objects.store_uri()}/{name}/predictions/date=*/part-*/{artifacts.MANIFEST}")
    answered = [ref for part in parts if (ref := artifacts.at(part.rsplit("/", 1)[0])) is not None]
    wanted = preferences_of(case)
    inputs = {
        "dataset": dataset["sha256"],
        "answered": [ref["sha256"] for ref in answered],
        "interface": asked.digest(),
        "min_pairs": wanted.min_pairs,
        "code": code_digest(__name__),
    }
    build = partial(_pair, asked, wanted, dataset, answered)
    return artifacts.publish(usecase=name, kind="pairs", inputs=inputs, build=build)


def preferences_of(case: UseCase) -> Preferences:
    """The settings of preference tuning.

    Raises:
        InputError: if the use case has none.
    """
    if case.finetune.preferences is None:
        raise InputError("The use case has no 'finetune.preferences'. Add it to train on corrections.")
    return case.finetune.preferences


def _pair(
    asked: Interface, wanted: Preferences, dataset: ArtifactRef, answered: list[ArtifactRef], out: Path
) -> dict[str, Any]:
    import pandas as pd

    truth = pd.read_parquet(
        artifacts.fetch(dataset) / "data.parquet", columns=["record_id", "group", "text", "label", "split"]
    )
    truth = truth[truth["split"] == "train"]
    given = [pd.read_parquet(artifacts.fetch(ref) / "predictions.parquet", columns=["record_id", "label"]) for ref in answered]  # fmt: skip
    both = truth.merge(pd.concat(given), on="record_id", suffixes=("", "_given")) if given else truth.head(0)
    known = set(asked.labels)  # an answer of a time with other labels corrects nothing
    wrong = both[(both["label"] != both["label_given"]) & both["label_given"].isin(known)] if given else both
    if len(wrong) < wanted.min_pairs:
        raise DataError(
            f"{len(wrong)} corrected answers among {len(both)} reviewed ones; finetune.preferences.min_pairs requires "
            f"{wanted.min_pairs}. Wait for more reviewed records, or lower the limit."
        )
    _told(asked, wrong).to_parquet(out / "pairs.parquet", index=False)
    return {"rows": len(wrong), "reviewed": len(both), "parents": [artifacts.parent(dataset)]}


def _told(asked: Interface, wrong: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    words = dict(zip(asked.labels, asked.answers, strict=True))
    held_out = wrong["record_id"].map(lambda name: int(digests.digest(name)[:8], 16) / 16**8 < HELD_OUT)
    return pd.DataFrame(
        {
            "record_id": wrong["record_id"],
            "group": wrong["group"],
            "prompt": [chat.dumped(asked.render_prompt(text)) for text in wrong["text"]],
            "chosen": wrong["label"].map(words),
            "rejected": wrong["label_given"].map(words),
            "split": held_out.map({True: "validation", False: "train"}),
        }
    )
