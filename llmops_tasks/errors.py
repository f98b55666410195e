"""Every exception of the package.

LLMOpsError
├── ConfigError          the use-case file is wrong (all mistakes at once)
├── InputError           an argument from outside (Param, CLI, REST) is not allowed
├── SourceError          a source cannot be read: absent, empty, unreadable, wrong format
├── DataError            rows were read, but the data may not be used
├── StorageError         the store refused, or is unreachable
│   ├── IntegrityError   stored bytes are not what their manifest says
│   └── ConflictError    the address is taken by another content
├── ModelError           a model cannot be loaded or does not fit the use case
│   ├── ContextError     a prompt and its answer are longer than the model's context
│   └── ConstraintError  no continuation of an answer fits its JSON Schema
├── ServerError          an inference server is away, busy or incomprehensible
├── TrainingError        training had to stop (NaN loss, nothing to learn from, ...)
│   └── BudgetError      a run would cost more than it may; nothing was started
├── EvidenceError        a decision lacks the evidence it needs
└── ReleaseError         a promotion, rollback or lookup is not allowed

A message says what was given, what is allowed and what to do next. It never holds record text.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class LLMOpsError(Exception):
    """Base of all errors of this package."""


class ConfigError(LLMOpsError):
    """The use-case file is wrong; `problems` lists every mistake with its path in the file."""

    def __init__(self, message: str, problems: list[str] | None = None) -> None:
        self.problems = problems or []
        super().__init__("\n  - ".join([message, *self.problems]))


class InputError(LLMOpsError):
    """An argument given from outside is not allowed."""


class SourceError(LLMOpsError):
    """A source cannot be read."""


class DataError(LLMOpsError):
    """The data was read but may not be used."""


class StorageError(LLMOpsError):
    """The store refused or cannot be reached."""


class IntegrityError(StorageError):
    """Stored bytes are not what their manifest says."""


class ConflictError(StorageError):
    """The address is taken by another content."""


class ModelError(LLMOpsError):
    """A model cannot be loaded or does not fit the use case."""


class ContextError(ModelError):
    """A prompt and its answer are longer than the model's context."""


class ConstraintError(ModelError):
    """No continuation of an answer fits its JSON Schema."""


class ServerError(LLMOpsError):
    """An inference server gave no usable answer."""


class TrainingError(LLMOpsError):
    """Training had to stop."""


class BudgetError(TrainingError):
    """A run would cost more than it may; nothing was started."""


class EvidenceError(LLMOpsError):
    """A decision lacks the evidence it needs."""


class ReleaseError(LLMOpsError):
    """A promotion, rollback or lookup is not allowed."""


def nearest(given: str, allowed: Iterable[str]) -> str | None:
    """The allowed word that is spelled most like the given one, if any is near."""
    near = difflib.get_close_matches(given, list(allowed), n=1)
    return near[0] if near else None


def did_you_mean(given: str, allowed: Iterable[str]) -> str:
    """Return " Did you mean 'x'?" for the nearest allowed word, or an empty string."""
    near = nearest(given, allowed)
    return f" Did you mean '{near}'?" if near else ""
