"""
### Evaluate
Measures the bytes that would ship, judges them by the use case's policy, and asks a person.

`receive candidate → evaluate each subject → compare → gate → ledger → approve → promote → announce`

A candidate that the gate does not pass is recorded and goes no further. Whoever approves sees the gate's table;
no answer in time means reject. Approval counts for this evidence and this champion only.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import TriggerRule, get_current_context, task
from llmops_dags.approval import Approval
from llmops_dags.assets import assets_of
from llmops_dags.events import announced, received
from llmops_dags.stage import MEASURED, VERSION, model_task, optional, stage

from llmops_tasks.config import UseCase
from llmops_tasks.evaluation import (
    compare_subjects,
    evaluate,
    has_passed,
    judge_candidate,
    list_subjects,
    needs_verdict,
    render_gate_table,
)
from llmops_tasks.release import annotate_version, find_champion, promote, record_approval, record_verdict
from llmops_tasks.training import fetch_base_model

PARAMS = {
    "version": optional(
        VERSION, "Candidate", "A registered version. Empty: the one that started the run, or the newest."
    )
}


@task(trigger_rule=TriggerRule.NONE_FAILED)
def answer() -> dict[str, Any]:
    """What the person said, also if it was no.

    A rejection skips the tasks right behind `approve`, so this one stands behind `approved` and reads for itself.
    """
    response: dict[str, Any] = get_current_context()["ti"].xcom_pull(task_ids="approve", key="answer")
    return response


@stage(
    "evaluate",
    schedule=lambda usecase, case: [assets_of(usecase).candidate],
    params=PARAMS,
    doc=__doc__,
    only=MEASURED,
    asks=True,
)
def dags(usecase: str, case: UseCase) -> None:
    """Wire one use case."""
    event = received(assets_of(usecase).candidate, field="version")
    candidate, dataset = event["candidate"], event["dataset"]
    now = task(find_champion)(usecase=usecase)
    base = model_task(fetch_base_model, case)(usecase=usecase)
    open_question = task.short_circuit(needs_verdict)(candidate=candidate, champion=now)
    plan = task(list_subjects)(usecase=usecase, candidate=candidate, champion=now, base=base)
    measured = model_task(evaluate, case, map_index_template="{{ task.op_kwargs['subject'] }}")
    reports = measured.partial(usecase=usecase, dataset=dataset).expand_kwargs(plan)
    evidence = task(compare_subjects)(usecase=usecase, reports=reports, champion=now)
    verdict = task(judge_candidate, task_id="gate")(
        usecase=usecase, evidence=evidence, candidate=candidate, champion=now
    )
    shown = task(render_gate_table, task_id="gate_table")(verdict=verdict)
    entry = task(record_verdict)(usecase=usecase, verdict=verdict)
    noted = task(annotate_version)(usecase=usecase, candidate=candidate, evidence=evidence, verdict=verdict)
    go_on = task.short_circuit(has_passed)(verdict=verdict)

    approve = Approval(
        task_id="approve",
        subject=f"Promote this candidate of {usecase}?",
        body="{{ ti.xcom_pull(task_ids='gate_table')['markdown'] }}",
        response_timeout=timedelta(hours=case.approval.timeout_hours),
        defaults="Reject",
    )
    approved = EmptyOperator(task_id="approved")  # skipped when rejected; what follows a rejection hangs on it
    said = answer()
    decision: Any = task(record_approval)(
        usecase=usecase, candidate=candidate, verdict=verdict, champion=now, response=said
    )
    promoted = task(promote)(
        usecase=usecase, candidate=candidate, verdict=verdict, approval=decision, evidence=evidence, dataset=dataset
    )
    told = announced(assets_of(usecase).champion, {"sha256": event["sha256"], "version": event["version"]})
    open_question >> [base, plan]
    [shown, entry, noted] >> go_on >> approve >> approved >> said
    approved >> promoted >> told


globals().update(dags)
