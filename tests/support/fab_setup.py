"""Fills an empty database as FAB, Airflow's DAG processor and an administrator do. Run with the Python that has FAB.

    python -m tests.support.fab_setup '{"user": ["role", ...], ...}'

Everybody's password is their name. Says, as JSON, which errors there were when DAGs were read before there were roles,
and once they had been made.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def read_dags() -> Any:
    """As the DAG processor does; all DAG files at once."""
    from airflow.dag_processing.dagbag import BundleDagBag

    return BundleDagBag(str(ROOT / "dags"), bundle_path=ROOT / "dags", bundle_name="dags-folder")


def errors_of(bag: Any) -> list[str]:
    """Write the DAGs and their rights into the database; what went wrong, as people see it."""
    from airflow.dag_processing.dagbag import sync_bag_to_db
    from airflow.models.errors import ParseImportError
    from airflow.utils.session import create_session
    from sqlalchemy import select

    sync_bag_to_db(bag, "dags-folder", None)
    for thread in set(threading.enumerate()) - {threading.main_thread()}:
        thread.join(30)
    with create_session() as session:
        return [str(found).splitlines()[-1] for found in session.scalars(select(ParseImportError.stacktrace))]


def add_people(people: dict[str, list[str]]) -> None:
    """Accounts, with Airflow's own roles and those that there are."""
    from airflow.providers.fab.auth_manager.models import User
    from airflow.providers.fab.www.security_appless import ApplessAirflowSecurityManager
    from airflow.utils.session import create_session
    from werkzeug.security import generate_password_hash

    with create_session() as session:
        manager = ApplessAirflowSecurityManager(session=session)
        manager.bulk_sync_roles(manager.ROLE_CONFIGS)
        for name, roles in people.items():
            about = {"first_name": name, "last_name": name, "email": f"{name}@example.com", "active": True}
            user = User(username=name, password=generate_password_hash(name), **about)
            user.roles = [manager.find_role(role) for role in roles]
            session.add(user)


def disturb(role: str) -> None:
    """Somebody has given a role one of our rights, taken another, and added one that is none of ours."""
    from airflow.providers.fab.www.security_appless import ApplessAirflowSecurityManager
    from airflow.utils.session import create_session

    with create_session() as session:
        manager = ApplessAirflowSecurityManager(session=session)
        found = manager.find_role(role)
        manager.remove_permission_from_role(found, manager.get_permission("can_read", "Task Logs"))
        for right in (("can_edit", "Task Instances"), ("can_read", "Jobs")):
            manager.add_permission_to_role(found, manager.create_permission(*right))


def pause_all_but(dag_id: str) -> None:
    """What tests start of the others waits."""
    from airflow.models.dag import DagModel
    from airflow.utils.session import create_session
    from sqlalchemy import update

    with create_session() as session:
        session.execute(update(DagModel).where(DagModel.dag_id != dag_id).values(is_paused=True))


def main(people: dict[str, list[str]]) -> dict[str, list[str]]:
    """All of it."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.utils.db import initdb

    initdb()
    DagBundlesManager().sync_bundles_to_db()
    bag = read_dags()
    found = {"without_roles": errors_of(bag), "with_roles": errors_of(bag)}
    if found["with_roles"]:
        sys.exit(f"DAGs are not whole again: {found['with_roles']}")
    add_people(people)
    disturb("triage_viewers")
    pause_all_but("triage.promote")
    return found


if __name__ == "__main__":
    sys.stdout.write("\n" + json.dumps(main(json.loads(sys.argv[1]))) + "\n")
