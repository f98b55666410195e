"""Which kind of error ends the program with which exit code."""

from __future__ import annotations

from llmops_tasks.errors import LLMOpsError

USAGE, INTERRUPTED = 2, 130
# Whoever adds an exception gives it a code here; a test asks for it.
OF_ERRORS = {
    "LLMOpsError": 1,
    "ConfigError": 3,
    "InputError": 4,
    "SourceError": 5,
    "DataError": 5,
    "StorageError": 6,
    "IntegrityError": 6,
    "ConflictError": 6,
    "ModelError": 7,
    "ContextError": 7,
    "ConstraintError": 7,
    "ServerError": 7,
    "TrainingError": 7,
    "BudgetError": 7,
    "EvidenceError": 8,
    "ReleaseError": 8,
}
MEANINGS = {
    0: "done",
    1: "another error, a bug, or a problem found by doctor",
    USAGE: "unknown command or option, or a value that cannot be parsed",
    3: "the use case's file is invalid",
    4: "an argument is not allowed",
    5: "a source cannot be read, or its data must not be used",
    6: "the store refused, is unreachable, or holds something else",
    7: "a model, its server, a training, or its budget",
    8: "a decision lacks evidence, or a release is not allowed",
    INTERRUPTED: "interrupted",
}


def of(error: LLMOpsError | str) -> int:
    """The exit code of an error, or of a kind of error by its name."""
    return OF_ERRORS.get(error if isinstance(error, str) else type(error).__name__, 1)
