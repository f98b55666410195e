"""Releases: packaging, registration, promotion, rollback, and the ledger. Public verbs by module; everything else is private to the package."""

from llmops_tasks import lazily

VERBS = {
    "package_release": "packaging",  # one folder with everything that serves
    "register_release": "registry",  # a version in MLflow, with the alias `challenger`
    "annotate_version": "registry",  # a version's figures and verdict in MLflow
    "find_champion": "registry",  # who serves, by the ledger
    "find_starting_point": "registry",  # the weights that training starts from
    "find_due": "due",  # everything that waits, as the runs that would do it
    "find_due_candidates": "due",  # registered versions that wait for a verdict
    "find_due_questions": "due",  # passed verdicts that wait for an answer
    "find_due_days": "due",  # scored partitions that wait for a drift verdict, each with its release
    "find_due_dataset": "due",  # the newest dataset, if nothing was trained on it
    "find_dataset": "due",  # a dataset version: the newest, or by its digest
    "find_candidate": "due",  # a registered version with its dataset
    "find_question": "due",  # what an approver is asked
    "find_answer": "due",  # the recorded answer
    "may_be_promoted": "due",  # is the last answer an approval that still counts?
    "promote": "promotion",  # an approved candidate becomes the champion
    "rollback": "promotion",  # back to an earlier champion
    "rebuild_registry": "rebuild",  # MLflow's versions and aliases again, from ledger and store alone
    "record_entry": "ledger",  # an entry in the ledger, once
    "record_verdict": "records",  # what the gate said
    "record_approval": "records",  # an approver's answer, or a timeout
    "record_decisions": "records",  # decisions to retrain, or not to
    "record_selection": "records",  # the choice of a base model
    "find_retrainings": "records",  # decisions to retrain that still hold others back
    "read_ledger": "ledger",  # entries in order, the chain verified
    "verify_ledger": "ledger",  # is the whole chain intact, its end included?
}
__getattr__ = lazily(__name__, VERBS)
