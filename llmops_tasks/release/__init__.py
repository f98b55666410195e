"""What ships, who serves, and who decided that. The room's verbs, each by its module; all else is private to the room."""

from llmops_tasks import lazily

VERBS = {
    "package_release": "packaging",  # one folder with everything that serves
    "register_release": "registry",  # a version in MLflow, with the alias `challenger`
    "annotate_version": "registry",  # a version's figures and verdict in MLflow
    "find_champion": "registry",  # who serves, by the ledger
    "find_starting_point": "registry",  # the weights that training starts from
    "add_champions": "registry",  # answered days with the release that answered each
    "promote": "registry",  # an approved candidate becomes the champion
    "rollback": "registry",  # back to an earlier champion
    "record_entry": "ledger",  # an entry in the ledger, once
    "record_verdict": "ledger",  # what the gate said
    "record_approval": "ledger",  # what a person answered
    "record_decisions": "ledger",  # decisions to retrain, or not to
    "record_selection": "ledger",  # the choice of a base model
    "read_ledger": "ledger",  # entries in order, the chain verified
    "verify_ledger": "ledger",  # is the whole chain intact?
}
__getattr__ = lazily(__name__, VERBS)
