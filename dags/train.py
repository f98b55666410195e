"""
### Train
Fine-tunes the base model on a dataset version, merges the adapter, and registers the release as a candidate.

`dataset → base model → (starting point) → (search) → fine-tune → package → register → announce`

A use case with a `search` runs trials first, one task per trial; a `start` other than the base model, and the datasets
of a `mix` or `domain`, are resolved once. With `finetune.preferences` the champion is trained on corrections instead:
`corrections → preference tuning` replace search and fine-tuning.

Started by a new dataset, it trains on the newest dataset without a training, and is skipped if there is none. A manual run
can choose an earlier dataset, a negative control (shuffled labels) or a smoke run (a few steps); the last two are marked
and can never be promoted. An interrupted fine-tuning continues from its newest verified checkpoint.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, task
from llmops_dags import runs
from llmops_dags.assets import announced, assets_of
from llmops_dags.stage import DIGEST, model_task, optional, stage

from llmops_tasks.config import UseCase
from llmops_tasks.contracts import CONTROLS
from llmops_tasks.release import find_starting_point, package_release, register_release
from llmops_tasks.training import (
    choose_trial,
    collect_corrections,
    fetch_base_model,
    find_mixed_datasets,
    finetune,
    plan_trials,
    run_trial,
    tune_preferences,
)

PARAMS = {
    "dataset": optional(DIGEST, "Dataset", "sha256 prefix of a dataset version. Empty: the newest."),
    "control": Param(
        "none",
        enum=list(CONTROLS),
        title="Negative control",
        description_md="`shuffled_labels` trains on shuffled labels; the gate must refuse the result.",
    ),
    "max_steps": Param(
        None, type=["null", "integer"], minimum=1, title="Smoke run", description_md="Stop after this many steps."
    ),
}


@task
def options() -> dict[str, Any]:
    """The form's values."""
    return {name: runs.parameter(name) for name in ("control", "max_steps")}


@task
def register(usecase: str, release: Any) -> dict[str, Any]:
    """With the user who started the training, who may not approve it under `approval.four_eyes`."""
    return register_release(usecase=usecase, release=release, started_by=runs.started_by())


def _searched(case: UseCase, common: dict[str, Any]) -> Any:
    """Every trial is a task; the best settings go into the fine-tuning."""
    numbers = task(plan_trials)(usecase=common["usecase"], max_steps=common["max_steps"])
    tried = model_task(run_trial, case, "search").partial(**common).expand(number=numbers)
    return task(choose_trial, multiple_outputs=True)(**common, tried=tried)["settings"]


@stage("train", schedule=lambda usecase, case: [assets_of(usecase).dataset], params=PARAMS, doc=__doc__)
def dags(usecase: Any, name: str, case: UseCase) -> None:
    """Wire one use case."""
    chosen, dataset = options(), runs.dataset(usecase)
    base = model_task(fetch_base_model, case, "download")(usecase=usecase)
    start: Any = base
    if case.finetune.start != "base":
        start = task(find_starting_point, multiple_outputs=True)(usecase=usecase, base=base)
    if case.finetune.preferences:
        pairs = task(collect_corrections, multiple_outputs=True)(usecase=usecase, dataset=dataset, start=start)
        trained = model_task(tune_preferences, case, "training")(
            usecase=usecase, pairs=pairs, start=start, control=chosen["control"], max_steps=chosen["max_steps"]
        )
    else:
        mixed = case.finetune.mix or case.finetune.domain
        common = {
            "usecase": usecase,
            "dataset": dataset,
            "start": start,
            "max_steps": chosen["max_steps"],
            "others": task(find_mixed_datasets)(usecase=usecase) if mixed else None,
        }
        settings = _searched(case, common) if case.search else None
        trained = model_task(finetune, case, "training")(**common, settings=settings, control=chosen["control"])
    release = model_task(package_release, case, "training")(
        usecase=usecase, trained=trained, base=start, dataset=dataset
    )
    candidate: Any = register(usecase, release)
    announced(assets_of(name).candidate, {"sha256": release["sha256"], "version": candidate["version"]})


globals().update(dags)
