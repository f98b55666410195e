"""
### Evaluate
Evaluates the packaged release beside the champion and the baselines, and applies the gate.

`candidate → evaluate each subject → gate → ledger → ask for approval`

Each run judges one candidate: the newest registered version without a current verdict, or the one named in the form. It
starts a run for every other candidate that waits. A candidate that passes the gate goes to `promote` for human approval;
any other verdict is recorded, and nothing is promoted.
"""

from __future__ import annotations

from typing import Any

from airflow.sdk import task
from llmops_dags import runs
from llmops_dags.assets import assets_of
from llmops_dags.stage import VERSION, model_task, optional, stage

from llmops_tasks.config import UseCase
from llmops_tasks.evaluation import apply_gate, evaluate, has_passed, list_subjects, render_gate_table
from llmops_tasks.release import annotate_version, find_champion, find_due, record_verdict
from llmops_tasks.training import fetch_base_model

PARAMS = {
    "version": optional(VERSION, "Candidate", "A registered version. Empty: the newest without a current verdict.")
}


@stage("evaluate", schedule=lambda usecase, case: [assets_of(usecase).candidate], params=PARAMS, doc=__doc__)
def dags(usecase: Any, name: str, case: UseCase) -> None:
    """Wire one use case."""
    candidate = runs.candidate(usecase)
    others = task(find_due, task_id="other_candidates")(usecase=usecase, stage="evaluate", but=candidate["version"])
    runs.start(name, others, task_id="start_others")

    champion = task(find_champion)(usecase=usecase)
    base = model_task(fetch_base_model, case, "download")(usecase=usecase)
    plan = task(list_subjects)(usecase=usecase, candidate=candidate, champion=champion, base=base)
    measured = model_task(evaluate, case, "evaluation", map_index_template="{{ task.op_kwargs['subject'] }}")
    reports = measured.partial(usecase=usecase, dataset=candidate["dataset"]).expand_kwargs(plan)
    verdict: Any = task(apply_gate, task_id="gate")(
        usecase=usecase, reports=reports, candidate=candidate, champion=champion, dataset=candidate["dataset"]
    )
    shown = task(render_gate_table, task_id="gate_table")(verdict=verdict)
    entry = task(record_verdict)(usecase=usecase, verdict=verdict)
    noted = task(annotate_version)(usecase=usecase, candidate=candidate, verdict=verdict)
    passed = task.short_circuit(has_passed)(verdict=verdict)
    runs.notify("candidate_refused", name, case, verdict, lambda ref: ref["meta"].get("verdict") != "pass")
    asked = task(find_due, task_id="open_questions")(usecase=usecase, stage="promote")
    [shown, entry, noted] >> passed >> asked
    runs.start(name, asked, task_id="ask")


globals().update(dags)
