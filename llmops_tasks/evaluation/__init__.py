"""Evaluation: metrics of a candidate and its references, and the gate. Public verbs by module; everything else is private to the package."""

from llmops_tasks import lazily

VERBS = {
    "list_subjects": "quality",  # the subjects: candidate, baselines, champion
    "evaluate": "quality",  # one subject's figures on a split
    "compare_pair": "comparison",  # candidate minus another, on the same records
    "compare_subjects": "comparison",  # all comparisons: what the gate judges on
    "judge_candidate": "gate",  # the verdict by the use case's policy, on evidence that is handed in
    "apply_gate": "verdict",  # the verdict on the reports as the store has them, kept with its evidence
    "has_passed": "verdict",  # is approval to be requested?
    "render_gate_table": "gate_table",  # the verdict as a table for the approver
}
__getattr__ = lazily(__name__, VERBS)
