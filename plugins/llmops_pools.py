"""Creates the pools that use cases name, with one slot each, when the scheduler starts; existing pools are not changed.

Tasks in a pool that does not exist would wait forever, which Airflow reports only in the scheduler's log.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from typing import Any

from airflow.listeners import hookimpl

log = logging.getLogger(__name__)
NOTE = "Tasks that load a model: one slot per CPU or GPU. Created by LLMOps; adjust the size as needed."


class PoolListener:
    """Airflow's lifecycle listener."""

    @hookimpl
    def on_starting(self, component: Any) -> None:
        """Called before a scheduler, DAG processor or triggerer runs, which have the database; a task has not."""
        if type(component).__name__ != "Job":
            return
        # what is raised here is logged by Airflow, and is no reason for it not to start
        log.info("pools created: %s", ensure_pools() or "none, all exist")


def ensure_pools() -> list[str]:
    """Create missing pools; returns their names."""
    from airflow.models.pool import Pool
    from airflow.utils.session import create_session
    from sqlalchemy import select
    from sqlalchemy.exc import IntegrityError

    made = []
    for name in sorted(_wanted()):
        with suppress(IntegrityError), create_session() as session:  # another part of Airflow is as quick as this one
            if session.scalar(select(Pool).where(Pool.pool == name)) is None:
                session.add(Pool(pool=name, slots=1, description=NOTE, include_deferred=False))
                session.flush()
                made.append(name)
    return made


def _wanted() -> set[str]:
    from llmops_tasks import config
    from llmops_tasks.errors import LLMOpsError

    wanted = {"compute"}
    for name in config.usecase_names():
        try:
            wanted |= set(config.current(name).case.airflow.pools())
        except LLMOpsError as exc:
            log.warning("use case '%s' is skipped: %s", name, type(exc).__name__)
    return wanted - {"default_pool"}
