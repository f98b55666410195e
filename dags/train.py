"""
### Train
Fine-tunes the base model on a dataset version, merges, and registers the release as a candidate.

`receive dataset → base model → (starting point) → (search) → fine-tune → package → register → announce`

A use case with a `search` tries settings first, one task a trial; a `start` other than the base model, and the datasets
of a `mix` or `domain`, are resolved once.
With `finetune.preferences` the champion learns from corrections instead: `corrections → prefer` stand in place of search and fine-tuning.

An interrupted fine-tuning continues from its newest verified checkpoint. Started by a new dataset, or by hand:
the form takes an earlier dataset, a control run on shuffled labels, or a smoke run of a few steps. Control and
smoke runs are marked and can never be promoted.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param, get_current_context, task
from llmops_dags.assets import assets_of
from llmops_dags.events import announced, received
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
    "dataset": optional(
        DIGEST, "Dataset", "The beginning of a dataset's sha256. Empty: the one that started the run, or the newest."
    ),
    "control": Param(
        "none", enum=list(CONTROLS), title="Control", description_md="`shuffled_labels` must be refused by the gate."
    ),
    "max_steps": Param(
        None, type=["null", "integer"], minimum=1, title="Smoke run", description_md="Stop after so many steps."
    ),
}


@task
def options() -> dict[str, Any]:
    """What the form says."""
    params = get_current_context()["params"]
    return {"control": params["control"], "max_steps": params["max_steps"]}


def _searched(case: UseCase, common: dict[str, Any]) -> Any:
    """Every trial is a task; what won goes into the fine-tuning."""
    numbers = task(plan_trials)(usecase=common["usecase"], max_steps=common["max_steps"])
    tried = model_task(run_trial, case).partial(**common).expand(number=numbers)
    return task(choose_trial, multiple_outputs=True)(**common, tried=tried)["settings"]


@stage("train", schedule=lambda usecase, case: [assets_of(usecase).dataset], params=PARAMS, doc=__doc__)
def dags(usecase: str, case: UseCase) -> None:
    """Wire one use case."""
    chosen, event = options(), received(assets_of(usecase).dataset, field="dataset")
    dataset = event["dataset"]
    base = model_task(fetch_base_model, case)(usecase=usecase)
    start: Any = base
    if case.finetune.start != "base":
        start = task(find_starting_point, multiple_outputs=True)(usecase=usecase, base=base)
    if case.finetune.preferences:
        pairs = task(collect_corrections, multiple_outputs=True)(usecase=usecase, dataset=dataset, start=start)
        trained = model_task(tune_preferences, case)(
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
        trained = model_task(finetune, case)(**common, settings=settings, control=chosen["control"])
    release = model_task(package_release, case)(usecase=usecase, trained=trained, base=start, dataset=dataset)
    candidate = task(register_release)(usecase=usecase, release=release)
    extra = {"sha256": release["sha256"], "version": candidate["version"], "candidate": candidate, "dataset": dataset}
    announced(assets_of(usecase).candidate, extra)


globals().update(dags)
