"""The current configuration of a use case: its file, or the last valid one if the file is invalid or removed.

A run is bound to the configuration it started with: `bind` returns `<name>@<digest>`, which every verb accepts instead
of the name: for these an edit counts from the next run on. A DAG's own settings, and the approval rules and the gate that a
promotion is checked against, are those of now.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from llmops_tasks.config import kept, loading
from llmops_tasks.config.usecase import UseCase
from llmops_tasks.errors import ConfigError, InputError

log = logging.getLogger(__name__)


class Current(NamedTuple):
    """What a use case's DAGs are made from."""

    case: UseCase
    problem: str | None  # why this is not what its file says; None: it is


def bind(*, usecase: str) -> str:
    """Store the use case's current configuration and return its name, `<name>@<digest>`. It never changes.

    Args:
        usecase: name or YAML path; while its file is invalid or removed, the last valid configuration is used.

    Raises:
        ConfigError: if there was never a valid configuration.
        StorageError: if the store cannot be written.

    Example:
        >>> bind(usecase="triage")
    """
    if loading.is_bound(usecase):
        return usecase
    try:
        return loading.bound(loading.usecase_name(usecase), keep(usecase))
    except (ConfigError, InputError) as exc:
        if (sha256 := kept.newest(usecase)) is None:
            raise
        log.warning("the last valid configuration of '%s' is used: %s", usecase, exc)
        return loading.bound(usecase, sha256)


def keep(usecase: str) -> str:
    """Keep today's form, if it is valid and not the newest kept; returns the digits that name it."""
    loading.policy(usecase)  # reads the use case first: both must be valid
    return kept.add(loading.usecase_name(usecase), loading.raw_form(usecase))


def current(name: str) -> Current:
    """What a use case's DAGs are made from: its file, or its last valid form and what is wrong with the file.

    Raises:
        LLMOpsError: if there is no valid form at all.
    """
    try:
        loading.policy(name)  # reads the use case first: both must be valid
        return Current(loading.load(name), None)
    except (ConfigError, InputError) as exc:
        if (sha256 := kept.newest(name)) is None:
            raise
        return Current(loading.load(loading.bound(name, sha256)), str(exc))


def removed() -> list[str]:
    """Use cases whose file was removed but that were not retired: their runs may finish."""
    gone = set(kept.names()) - set(loading.usecase_names())
    return sorted(name for name in gone if kept.newest(name) is not None)


def retire(*, usecase: str) -> dict[str, str]:
    """Retire a use case whose file was removed: its DAGs disappear; ledger, models and predictions stay in the store.

    Raises:
        InputError: if its file still exists, or it was never known.

    Example:
        >>> retire(usecase="former")
    """
    if usecase in loading.usecase_names():
        raise InputError(f"'{usecase}' still has a file. Remove the file first, then retire the use case.")
    if usecase not in (known := removed()):
        raise InputError(f"No use case '{usecase:.60}' whose file is gone. Known: {known}.")
    kept.retire(usecase)
    return {"retired": usecase}


def in_charge(usecase: str) -> UseCase:
    """The current configuration, even if `usecase` is bound to an earlier one.

    Promotions are checked against it: the bound name travels by XCom, which an operator may edit.
    """
    return current(loading.usecase_name(usecase)).case if loading.is_bound(usecase) else loading.load(usecase)
