"""How good a subject is, and whether that is enough. The room's verbs, each by its module; all else is private to the room."""

from llmops_tasks import lazily

VERBS = {
    "list_subjects": "quality",  # who is to be measured: candidate, baselines, champion
    "evaluate": "quality",  # one subject's figures on a split
    "compare_pair": "comparison",  # candidate minus another, on the same records
    "compare_subjects": "comparison",  # all comparisons: what the gate judges on
    "judge_candidate": "gate",  # the verdict by the use case's policy, on evidence that is handed in
    "apply_gate": "verdict",  # the verdict on the reports as the store has them, kept with its evidence
    "has_passed": "verdict",  # is a person to be asked?
    "render_gate_table": "gate_table",  # the verdict as a table for the approver
}
__getattr__ = lazily(__name__, VERBS)
