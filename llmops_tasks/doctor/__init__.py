"""Checks of an installation, with a fix for every problem: one small function per check.

machine     Python, memory, disk, ports, GPU
packages    installed as the project asks for
services    store, MLflow, Airflow and its pool
settings    keys, use cases
findings    what a check finds

Nothing is changed, and no secret is shown. Airflow is asked through its REST API, like any other service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from llmops_tasks.doctor import machine, packages, services, settings
from llmops_tasks.doctor.findings import PROJECT, Finding

__all__ = ["PROJECT", "Finding", "examine"]
_CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    machine.python,
    machine.memory,
    machine.disk,
    machine.ports,
    machine.gpu,
    packages.packages,
    services.store,
    services.mlflow,
    services.airflow,
    settings.pseudonym_key,
    settings.airflow_keys,
)


def examine(*, usecase: str | None = None) -> list[Finding]:
    """Run all checks.

    Args:
        usecase: the only use case to look at; all of the folder by default.

    Raises:
        InputError: if there is no such use case.
    """
    cases = list(settings.usecases(usecase))
    return [*(finding for check in _CHECKS for finding in check()), *cases]
