"""Roles for FAB: few rights, by what a use case names; and nothing at all where there is no FAB."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import tiny

pytestmark = pytest.mark.airflow
NOBODYS = ("XComs", "Connections", "Variables", "Pools", "Configurations", "Assets", "DAGs")


@pytest.fixture
def roles(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(tiny.ROOT / "plugins"))
    import llmops_roles

    return llmops_roles


def _use_case(folder: Path, patch: pytest.MonkeyPatch, **access: list[str]) -> None:
    raw = yaml.safe_load(tiny.TRIAGE.read_text(encoding="utf-8")) | {"access": access}
    (folder / "triage.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    patch.setenv("LLMOPS_USECASES", str(folder))


def test_no_kind_of_role_changes_what_fab_cannot_tell_apart_by_dag(roles: Any) -> None:
    given = {right for rights in roles.RIGHTS.values() for right in rights}
    assert not [right for right in given if right[1] in NOBODYS and right[0] not in ("can_read", "menu_access")]
    assert {thing for action, thing in given if action == "can_read"} & set(NOBODYS) == {"XComs"}
    assert {action for action, _ in given} == {"can_read", "can_edit", "menu_access"}


def test_kinds_are_those_of_a_use_case_and_each_more_than_to_look(roles: Any) -> None:
    from llmops_tasks.config.airflow import Access

    assert set(roles.RIGHTS) == set(Access.model_fields)
    assert roles.LOOK < roles.OPERATE and roles.LOOK < roles.ANSWER
    assert not roles.OPERATE & (roles.ANSWER - roles.LOOK)


def test_a_role_of_two_kinds_has_the_rights_of_both(
    roles: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _use_case(tmp_path, monkeypatch, operators=["ward"], approvers=["ward", "board"])
    assert roles.wanted() == {"ward": roles.OPERATE | roles.ANSWER, "board": roles.ANSWER}


def test_a_use_case_that_cannot_be_read_keeps_no_other_from_its_roles(
    roles: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _use_case(tmp_path, monkeypatch, viewers=["ward"])
    (tmp_path / "broken.yaml").write_text("nothing: of use")
    assert set(roles.wanted()) == {"ward"}


class Job:
    """What Airflow calls a part of it that starts."""


@pytest.mark.parametrize(("manager", "made"), [("SimpleAuthManager", 0), ("FabAuthManager", 1)])
def test_roles_are_made_when_a_part_starts_and_only_for_fab(
    roles: Any, monkeypatch: pytest.MonkeyPatch, manager: str, made: int
) -> None:
    calls: list[int] = []
    monkeypatch.setenv("AIRFLOW__CORE__AUTH_MANAGER", manager)
    monkeypatch.setattr(roles, "ensure_roles", lambda: calls.append(1))
    roles.RoleListener().on_starting(Job())
    roles.RoleListener().on_starting(object())  # a task
    assert len(calls) == made


@pytest.mark.parametrize(("error", "made"), [("a role named 'x', but that role does not exist", 2), ("SyntaxError", 0)])
def test_a_missing_role_is_made_when_a_dag_names_it(
    roles: Any, monkeypatch: pytest.MonkeyPatch, error: str, made: int
) -> None:
    calls: list[int] = []
    monkeypatch.setenv("AIRFLOW__CORE__AUTH_MANAGER", "FabAuthManager")
    monkeypatch.setattr(roles, "ensure_roles", lambda: calls.append(1))
    monkeypatch.setattr(roles, "Thread", lambda target, daemon: _Now(target))
    roles.RoleListener().on_new_dag_import_error("promote.py", error)
    roles.RoleListener().on_existing_dag_import_error("promote.py", error)
    assert len(calls) == made


class _Now:
    """A thread that has run when it has started."""

    def __init__(self, target: Any) -> None:
        self.start = target


def test_the_plugin_brings_the_listener(roles: Any) -> None:
    import llmops_plugin

    assert any(isinstance(found, roles.RoleListener) for found in llmops_plugin.LLMOpsPlugin.listeners)
    assert "llmops_roles" in sys.modules
