"""What each role may do under FAB and what it may not, by REST and by the plugin's page, as one table."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.fab import Fab

pytestmark = [pytest.mark.fab, pytest.mark.timeout(300)]

# `other` may do everything with another use case, `guest` has an account and no role, a stranger has none.
WHO = ("viewer", "operator", "approver", "steward", "other", "guest", "stranger")
RUN, UNPAUSED = {"logical_date": None, "conf": {}}, {"is_paused": False}
BACK = {"logical_date": None, "conf": {"reason": "a drill"}}
CLEAR = {"dry_run": True, "only_failed": False}
NEITHER = {
    "chosen_options": ["Neither"],
    "params_input": {},
}  # refused for what it says, with 400, where nobody's role is
POOL = {"pool": "compute", "slots": 9, "description": "", "include_deferred": False}
TRAIN, ASKED, ROLLBACK = "/dags/triage.train", "/dags/triage.promote", "/dags/triage.rollback"
OTHERS = "/dags/reviews.train"
XCOM = f"{ASKED}/dagRuns/<1>/taskInstances/question/xcomEntries"
BACKFILL = {"dag_id": "triage.train", "from_date": "2026-01-01T00:00:00Z", "to_date": "2026-01-02T00:00:00Z"}
TABLE: list[tuple[str, str, str, Any, str]] = [
    # what                              how       where                                        with       view oper appr stew othe gues stra
    ("list DAGs",                       "GET",    "/dags",                                     None,     "200 200 200 200 200 403 401"),
    ("read a DAG",                      "GET",    TRAIN,                                       None,     "200 200 200 200 403 403 401"),
    ("read a run",                      "GET",    f"{ASKED}/dagRuns/<1>",                      None,     "200 200 200 200 403 403 401"),
    ("read its tasks",                  "GET",    f"{ASKED}/dagRuns/<1>/taskInstances",        None,     "200 200 200 200 403 403 401"),
    ("read a log",                      "GET",    f"{ASKED}/dagRuns/<1>/taskInstances/question/logs/1", None, "200 200 200 200 403 403 401"),
    ("read a question",                 "GET",    f"{ASKED}/dagRuns/<1>/taskInstances/approve/-1/hitlDetails", None, "200 200 200 200 403 403 401"),
    ("read an XCom",                    "GET",    f"{XCOM}/return_value",                      None,     "403 200 403 200 403 403 401"),
    ("open a page",                     "GET",    "<page>",                                    None,     "200 200 200 200 403 403 401"),
    ("open a page that is none",        "GET",    "<page>/../model.safetensors",               None,     "404 404 404 404 403 403 401"),
    ("start a stage",                   "POST",   f"{TRAIN}/dagRuns",                          RUN,      "403 200 403 200 403 403 401"),
    ("pause a stage",                   "PATCH",  TRAIN,                                       {"is_paused": True}, "403 200 403 200 403 403 401"),
    ("clear a stage",                   "POST",   f"{TRAIN}/clearTaskInstances",               CLEAR,    "403 200 403 200 403 403 401"),
    ("mark a task",                     "PATCH",  f"{TRAIN}/dagRuns/<triage.train>/taskInstances/finetune/dry_run", {"new_state": "success"}, "403 200 403 200 403 403 401"),
    ("answer",                          "PATCH",  f"{ASKED}/dagRuns/<1>/taskInstances/approve/-1/hitlDetails", NEITHER, "403 403 400 400 403 403 401"),
    ("ask",                             "POST",   f"{ASKED}/dagRuns",                          {**RUN, "conf": {"version": "none"}}, "403 403 403 400 403 403 401"),
    ("pause what asks",                 "PATCH",  ASKED,                                       UNPAUSED, "403 403 200 200 403 403 401"),
    ("clear what asks",                 "POST",   f"{ASKED}/clearTaskInstances",               CLEAR,    "403 403 403 200 403 403 401"),
    ("mark an approval",                "PATCH",  f"{ASKED}/dagRuns/<1>/taskInstances/approve/dry_run", {"new_state": "success"}, "403 403 403 200 403 403 401"),
    ("mark a run that asks",            "PATCH",  f"{ASKED}/dagRuns/<none>",                   {"state": "success"}, "403 403 403 404 403 403 401"),
    ("roll back",                       "POST",   f"{ROLLBACK}/dagRuns",                       BACK,     "403 403 403 200 403 403 401"),
    ("write an XCom",                   "POST",   XCOM,                                        {"key": "x", "value": 1}, "403 403 403 403 403 403 401"),
    ("edit an XCom",                    "PATCH",  f"{XCOM}/return_value",                      {"value": 1}, "403 403 403 403 403 403 401"),
    ("delete an XCom",                  "DELETE", f"{XCOM}/return_value",                      None,     "403 403 403 403 403 403 401"),
    ("delete a run",                    "DELETE", f"{ASKED}/dagRuns/<1>",                      None,     "403 403 403 403 403 403 401"),
    ("delete a DAG",                    "DELETE", ROLLBACK,                                    None,     "403 403 403 403 403 403 401"),
    ("read another's run",              "GET",    f"{OTHERS}/dagRuns/<reviews.train>",         None,     "403 403 403 403 200 403 401"),
    ("start another's stage",           "POST",   f"{OTHERS}/dagRuns",                         RUN,      "403 403 403 403 200 403 401"),
    ("clear another's stage",           "POST",   f"{OTHERS}/clearTaskInstances",              CLEAR,    "403 403 403 403 200 403 401"),
    ("write an event",                  "POST",   "/assets/events",                            {"asset_id": 1, "extra": {}}, "403 403 403 403 403 403 401"),
    ("list assets",                     "GET",    "/assets",                                   None,     "403 403 403 403 403 403 401"),
    ("list pools",                      "GET",    "/pools",                                    None,     "403 403 403 403 403 403 401"),
    ("edit a pool",                     "PATCH",  "/pools/compute",                            POOL,     "403 403 403 403 403 403 401"),
    ("list connections",                "GET",    "/connections",                              None,     "403 403 403 403 403 403 401"),
    ("list variables",                  "GET",    "/variables",                                None,     "403 403 403 403 403 403 401"),
    ("read the configuration",          "GET",    "/config",                                   None,     "403 403 403 403 403 403 401"),
    ("list import errors",              "GET",    "/importErrors",                             None,     "403 403 403 403 403 403 401"),
    ("read the audit log",              "GET",    "/eventLogs",                                None,     "403 403 403 403 403 403 401"),
    ("list accounts",                   "GET",    "<base>/auth/fab/v1/users",                  None,     "403 403 403 403 403 403 401"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "codes"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_who_may(fab: Fab, runs: dict[str, str], page: str, method: str, path: str, body: Any, codes: str) -> None:
    for word, value in {**runs, "page": page, "base": fab.base}.items():
        path = path.replace(f"<{word}>", value)
    seen = {name: fab.code(name, method, path, body) for name in WHO}
    assert seen == dict(zip(WHO, map(int, codes.split()), strict=True))


@pytest.mark.parametrize("name", [*WHO[:4], "other"])
def test_everybody_sees_the_dags_of_their_use_case_alone(fab: Fab, name: str) -> None:
    found = {dag.partition(".")[0] for dag in fab.people[name].dags()}
    assert found == ({"reviews"} if name == "other" else {"triage"})


@pytest.mark.parametrize("name", ["operator", "steward"])
def test_a_request_about_many_dags_changes_those_alone_that_one_may_change(
    fab: Fab, runs: dict[str, str], name: str
) -> None:
    """Airflow lets it in by the right on tasks anywhere, and looks at each DAG later."""
    about = {"dag_id": "reviews.train", "dag_run_id": runs["reviews.train"], "task_id": "finetune", "map_index": -1}
    update = {"action": "update", "entities": [{**about, "new_state": "success"}], "action_on_non_existence": "skip"}
    done = fab.people[name].call("PATCH", "/dags/~/dagRuns/~/taskInstances", {"actions": [update]})
    assert done["update"]["success"] == [] and done["update"]["errors"]
    assert fab.states("reviews.train", runs["reviews.train"])["finetune"] is None


def test_dags_that_name_a_role_which_does_not_exist_are_whole_again_once_it_is_made(fab: Fab) -> None:
    """If they were not, nothing here would have begun."""
    assert any("that role does not exist" in error for error in fab.seen["without_roles"])
    assert fab.seen["with_roles"] == []


def test_a_part_of_airflow_that_starts_puts_roles_right_and_leaves_what_was_added_by_hand(fab: Fab) -> None:
    rights = fab.rights()["triage_viewers"]
    assert ("can_read", "Task Logs") in rights and ("can_edit", "Task Instances") not in rights
    assert ("can_read", "Jobs") in rights


def test_no_role_may_change_what_is_not_of_its_use_case(fab: Fab) -> None:
    """The table cannot try everything; the rights themselves are few enough to look at."""
    ours = {name: rights for name, rights in fab.rights().items() if name.startswith(("triage_", "reviews_"))}
    assert len(ours) == 8
    anywhere = {
        (action, thing)
        for rights in ours.values()
        for action, thing in rights
        if not thing.startswith(("DAG:", "DAG Run:")) and action not in ("can_read", "menu_access")
    }
    assert anywhere == {("can_edit", name) for name in ("DAG Runs", "Task Instances", "HITL Detail", "My Password")}
    elsewhere = {(name, thing) for name, rights in ours.items() for _, thing in rights if ":" in thing and f":{name.partition('_')[0]}." not in thing}  # fmt: skip
    assert elsewhere == set()
