"""
### Train
Fine-tunes the base model on a dataset version, merges, and registers the release as a candidate.

`receive dataset → base model → fine-tune → package → register → announce`

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
from llmops_tasks.release.package import package
from llmops_tasks.release.registry import register, starting_point
from llmops_tasks.training.base_model import base_model
from llmops_tasks.training.finetune import CONTROLS, finetune

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


@stage("train", schedule=lambda usecase, case: [assets_of(usecase).dataset], params=PARAMS, doc=__doc__)
def dags(usecase: str, case: UseCase) -> None:
    """Wire one use case."""
    chosen, event = options(), received(assets_of(usecase).dataset, field="dataset")
    dataset = event["dataset"]
    base = model_task(base_model)(usecase=usecase)
    start = (
        task(starting_point, multiple_outputs=True)(usecase=usecase, base=base)
        if case.finetune.start != "base"
        else base
    )
    trained = model_task(finetune)(
        usecase=usecase, dataset=dataset, base=start, control=chosen["control"], max_steps=chosen["max_steps"]
    )
    release = model_task(package)(usecase=usecase, trained=trained, base=start, dataset=dataset)
    candidate = task(register)(usecase=usecase, release=release)
    extra = {"sha256": release["sha256"], "version": candidate["version"], "candidate": candidate, "dataset": dataset}
    announced(assets_of(usecase).candidate, extra)


globals().update(dags)
