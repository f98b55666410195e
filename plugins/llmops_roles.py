"""Makes the roles that use cases name in `access`, where FAB is Airflow's auth manager; `python llmops_roles.py` does it by hand.

A right on a DAG's runs, tasks or questions has two halves in FAB. One is about that DAG and comes with the DAG, by
`access_control`; the other is about things of that kind anywhere, and is given here. Neither does anything alone. What
FAB cannot restrict by DAG, such as XComs to edit, connections, variables, pools and assets, is given to no role.

A DAG that names a role which does not exist is an import error of its file, hence of that stage in all use cases. So
roles are made before DAGs are read, and again when one is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from threading import Lock, Thread
from typing import Any

from airflow.configuration import conf
from airflow.listeners import hookimpl

log = logging.getLogger(__name__)
Right = tuple[str, str]
_READABLE = (
    "Website", "DAG Runs", "DAG Versions", "DAG Warnings", "Task Instances", "Task Logs", "HITL Detail", "My Profile", "My Password"
)  # fmt: skip
LOOK: frozenset[Right] = frozenset(
    {("can_read", thing) for thing in _READABLE}
    | {("menu_access", "DAGs"), ("menu_access", "HITL Detail"), ("can_edit", "My Password")}
)
# to start a run is a right on the DAG alone
OPERATE = LOOK | {("can_read", "XComs"), ("can_edit", "DAG Runs"), ("can_edit", "Task Instances")}
ANSWER = LOOK | {("can_edit", "HITL Detail")}
RIGHTS = {"viewers": LOOK, "operators": OPERATE, "approvers": ANSWER, "stewards": OPERATE | ANSWER}
_ONE_AT_A_TIME = Lock()  # a role that is missing is missed by many files at once
_MISSING = "that role does not exist"  # in the error that FAB raises of such a DAG


class RoleListener:
    """Airflow's listener, of its parts and of DAG files that cannot be used."""

    @hookimpl
    def on_starting(self, component: Any) -> None:
        """Before DAGs are read. Which part starts is not known yet; a task is none, and has no database."""
        if type(component).__name__ == "Job" and is_fab():
            log.info("roles made or changed: %s", ensure_roles() or "none")

    @hookimpl
    def on_new_dag_import_error(self, filename: Any, stacktrace: Any) -> None:
        """A use case has named a role since."""
        _heal(filename, stacktrace)

    @hookimpl
    def on_existing_dag_import_error(self, filename: Any, stacktrace: Any) -> None:
        """The same, still."""
        _heal(filename, stacktrace)


def _heal(filename: Any, stacktrace: Any) -> None:
    if _MISSING in str(stacktrace) and is_fab():
        log.warning("%s names a role that did not exist: it is made, and the file is read again soon", filename)
        # The caller is about to write what it has read, and on SQLite no other process writes before it has.
        Thread(target=ensure_roles, daemon=True).start()


def is_fab() -> bool:
    """Whether there are such roles at all."""
    return "FabAuthManager" in conf.get("core", "auth_manager")


def ensure_roles() -> list[str]:
    """Make what is missing and take back what is no longer due; returns the roles that were made or changed.

    Of a role's rights, only those that are given here are looked at; what was added by hand stays.
    """
    from airflow.providers.fab.www.security_appless import ApplessAirflowSecurityManager
    from airflow.utils.session import create_session

    with _ONE_AT_A_TIME, create_session() as session:
        manager = ApplessAirflowSecurityManager(session=session)
        return [name for name, rights in sorted(wanted().items()) if _changed(manager, name, rights)]


def _changed(manager: Any, name: str, rights: set[Right]) -> bool:
    from airflow.providers.fab.auth_manager.security_manager.override import EXISTING_ROLES

    role = manager.add_role(name)  # or the one that there is
    if name in EXISTING_ROLES:  # Airflow's own, whose rights are Airflow's business
        return False
    held = {(permission.action.name, permission.resource.name) for permission in role.permissions}
    ours = held & RIGHTS["stewards"]
    for right in sorted(rights - ours):
        manager.add_permission_to_role(role, manager.create_permission(*right))
    for right in sorted(ours - rights):
        manager.remove_permission_from_role(role, manager.get_permission(*right))
    return ours != rights


def wanted() -> dict[str, set[Right]]:
    """The roles that use cases name, each with the rights of all kinds that it is."""
    found: dict[str, set[Right]] = {}
    for access in _accesses():
        for kind, rights in RIGHTS.items():
            for role in getattr(access, kind):
                found[role] = found.get(role, set()) | rights
    return found


def _accesses() -> Iterator[Any]:
    """The section of every use case that has DAGs."""
    from llmops_tasks import config
    from llmops_tasks.errors import LLMOpsError

    for name in {*config.usecase_names(), *config.removed()}:
        try:
            yield config.current(name).case.access
        except LLMOpsError as exc:
            log.warning("use case '%s' is passed over: %s", name, type(exc).__name__)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    log.info("roles made or changed: %s", ensure_roles() or "none")
