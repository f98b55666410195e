"""
### Select base model
Measures the use case's base model and its candidates on the same records, and recommends one.

`dataset → sample, candidates → measure each → decide → ledger → report`

A model whose licence the policy refuses is not opened. Nothing is changed: the report says what to write into the use
case. Start it manually. Earlier measurements are reused.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import TriggerRule, task
from llmops_dags import runs
from llmops_dags.stage import DIGEST, model_task, optional, stage

from llmops_tasks.config import UseCase
from llmops_tasks.release import record_selection
from llmops_tasks.training import choose_base_model, draw_sample, list_base_models, measure_base_model, report_selection

PARAMS = {"dataset": optional(DIGEST, "Dataset", "sha256 prefix of a dataset version. Empty: the newest.")}


@stage("select_base_model", schedule=lambda usecase, case: None, params=PARAMS, doc=__doc__)
def dags(usecase: Any, name: str, case: UseCase) -> None:
    """Wire one use case."""
    dataset = runs.dataset(usecase)
    drawn: Any = task(draw_sample)(usecase=usecase, dataset=dataset)
    names = task(list_base_models)(usecase=usecase)
    measured = model_task(
        measure_base_model, case, "evaluation", map_index_template="{{ task.op_kwargs['candidate'] }}"
    )
    measurements = measured.partial(usecase=usecase, sample=drawn).expand(candidate=names)
    # also if the policy allows no candidate: that is a decision too
    decision: Any = task(choose_base_model, trigger_rule=TriggerRule.NONE_FAILED)(
        usecase=usecase, measurements=measurements
    )
    task(record_selection)(usecase=usecase, decision=decision)
    task(report_selection)(usecase=usecase, decision=decision)


globals().update(dags)
