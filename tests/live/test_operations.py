"""What an operator does to a running Airflow loses no work: pausing, clearing, editing, killing, competing for a slot.

Goes on from where `test_lifecycle` ends: `tiny` has champion 1, and a candidate 3 that came while `evaluate` was paused.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import secrets
import shutil
import signal
import time
import urllib.error
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks.release import due, ledger, registry
from llmops_tasks.store import artifacts
from tests.support.running import World
from tests.support.sinks import Sinks

log = logging.getLogger(__name__)
PARTS = ("scheduler", "triggerer", "dag-processor", "api-server", "worker")
pytestmark = [pytest.mark.airflow, pytest.mark.live, pytest.mark.timeout(900)]


def _candidate(usecase: str, number: int) -> str:
    """Another release of the same weights, registered by no run: so there is no event of it. Returns its version."""
    first = ledger.read_ledger(usecase=usecase, kind="registration")[0]["body"]["release"]

    def build(out: Path) -> dict[str, Any]:
        shutil.copytree(
            artifacts.fetch(first), out, dirs_exist_ok=True, ignore=shutil.ignore_patterns(artifacts.MANIFEST)
        )
        (out / "README.md").write_text(f"once more, {number}")
        return dict(first["meta"])

    made = artifacts.publish(usecase=usecase, kind="release", inputs={"again": number}, build=build)
    return str(registry.register_release(usecase=usecase, release=made)["version"])


def _judged(usecase: str) -> dict[str, str]:
    entries = ledger.read_ledger(usecase=usecase, kind="gate")
    return {e["body"]["verdict"]["candidate_version"]: e["body"]["verdict"]["verdict"] for e in entries}


def test_what_came_while_a_stage_was_paused_is_found_and_every_candidate_is_judged(world: World) -> None:
    """Its event is gone, and of another candidate there never was one. Both wait for an answer at the same time."""
    fourth = _candidate("tiny", 4)
    assert due.find_due_candidates(usecase="tiny") == [fourth, "3"] == ["4", "3"]
    world.api.call("PATCH", "/dags/tiny.evaluate", {"is_paused": False})
    run = world.api.trigger("tiny.reconcile")
    assert world.finished("tiny.reconcile", run)["start"] == "success"
    world.wait(lambda: {"3", "4"} <= set(_judged("tiny")), 300, "both verdicts")
    assert (_judged("tiny")["3"], _judged("tiny")["4"]) == ("pass", "pass")
    world.wait(lambda: world.open_questions("tiny.promote"), 120, "a question")
    again = world.api.trigger("tiny.reconcile")
    world.finished("tiny.reconcile", again)
    asked = [run["dag_run_id"] for run in world.api.runs("tiny.promote") if run["state"] == "running"]
    assert len(asked) == len(set(asked)) <= 2  # whatever was started twice was started once


def test_an_approval_of_a_superseded_candidate_promotes_nothing_and_is_recorded(world: World) -> None:
    """Of the third one the question was put before the fourth had passed, or was not put: then it is asked by hand."""
    runs = {question["task_instance"]["dag_run_id"] for question in world.open_questions("tiny.promote")}
    third = next((run for run in runs if run.startswith("due__3_")), None) or world.api.trigger(
        "tiny.promote", {"version": "3"}
    )
    question = world.wait(
        lambda: [one for one in world.open_questions("tiny.promote") if one["task_instance"]["dag_run_id"] == third],
        120, "the question about version 3",
    )[0]  # fmt: skip
    assert "an approval of this one promotes nothing" in question["body"]
    world.approver.answer("tiny.promote", third, "approve", "Approve")
    states = world.finished("tiny.promote", third)
    assert (states["approve"], states["promote"]) == ("success", "skipped")
    body = ledger.read_ledger(usecase="tiny", kind="approval")[-1]["body"]
    assert (body["version"], body["choice"], body["by"]) == ("3", "Approve", "approver")
    assert registry.find_champion(usecase="tiny")["version"] == "1"


def _events(world: World) -> list[str]:
    """Champions as consumers heard of them."""
    (asset,) = world.api.call("GET", "/assets?name_pattern=tiny.champion")["assets"]
    events = world.api.call("GET", f"/assets/events?asset_id={asset['id']}&order_by=timestamp")["asset_events"]
    return [event["extra"]["version"] for event in events]


def test_consumers_hear_of_a_promotion_over_a_champion_and_of_a_rollback_alike(world: World) -> None:
    def asked() -> list[str]:
        runs = [question["task_instance"]["dag_run_id"] for question in world.open_questions("tiny.promote")]
        return [run for run in runs if run.startswith("due__4_")]

    (fourth,) = world.wait(asked, 120, "the question about version 4")
    world.approver.answer("tiny.promote", fourth, "approve", "Approve")
    assert set(world.finished("tiny.promote", fourth).values()) == {"success"}
    assert registry.find_champion(usecase="tiny")["version"] == "4"
    run = world.api.trigger("tiny.rollback", {"reason": "a drill"})
    assert set(world.finished("tiny.rollback", run).values()) == {"success"}
    assert registry.find_champion(usecase="tiny")["version"] == "1"
    assert _events(world) == ["1", "4", "1"]


def test_an_approval_that_is_cleared_finds_its_answer_and_asks_nobody(world: World) -> None:
    before = ledger.read_ledger(usecase="tiny", kind="approval")
    run = next(run["dag_run_id"] for run in world.api.runs("tiny.promote") if run["dag_run_id"].startswith("due__4_"))
    world.clear("tiny.promote", run, "approve")
    assert world.finished("tiny.promote", run)["approve"] == "success"
    assert ledger.read_ledger(usecase="tiny", kind="approval") == before
    tries = next(task["try_number"] for task in world.api.tasks("tiny.promote", run) if task["task_id"] == "approve")
    assert "as recorded in the ledger" in world.api.log("tiny.promote", run, "approve", tries)


@pytest.fixture
def edited(world: World) -> Any:
    """Edits the use case `tiny`, and puts it back."""
    path = world.home / "usecases" / "tiny.yaml"
    before = path.read_text()

    def edit(**sections: Any) -> None:
        raw = yaml.safe_load(before)
        for name, values in sections.items():
            raw[name] = {**raw.get(name, {}), **values}
        path.write_text(yaml.safe_dump(raw, sort_keys=False))
        world.parse_again()

    yield edit
    path.write_text(before)
    world.parse_again()


def test_that_nobody_answered_in_time_is_recorded_as_that(world: World, edited: Any) -> None:
    """Workers read the file: the limit holds for the next question."""
    edited(approval={"timeout_hours": 0.002}, notify={"remind_hours": 0.001})
    version = _candidate("tiny", 5)
    world.api.trigger("tiny.evaluate", {"version": version})
    run = world.wait(
        lambda: next((r["dag_run_id"] for r in world.api.runs("tiny.promote") if r["dag_run_id"].startswith(f"due__{version}_")), None),
        200, "the question",
    )  # fmt: skip
    assert world.finished("tiny.promote", run)["promote"] == "skipped"
    body = ledger.read_ledger(usecase="tiny", kind="approval")[-1]["body"]
    assert (body["version"], body["choice"], body["by"]) == (version, "Timed out", "none: timed out")


def test_a_typo_stops_nothing_and_stands_where_it_is_looked_for(world: World, edited: Any) -> None:
    edited(finetune={"epocs": 3})
    run = world.api.trigger("tiny.batch_inference", {"date": "2026-03-30"})
    assert world.finished("tiny.batch_inference", run)["predict_batch"] == "success"
    world.wait(lambda: any("epocs" in error for error in _stack_traces(world)), 150, "the import error")
    dag = world.wait(
        lambda: (d := world.api.call("GET", "/dags/tiny.train/details")) and "last valid configuration" in (d["doc_md"] or "") and d,
        150, "the note at the use case's own DAGs",
    )  # fmt: skip
    assert "epocs" in dag["doc_md"] and not dag["is_stale"]


def _stack_traces(world: World) -> list[str]:
    return [error["stack_trace"] for error in world.api.call("GET", "/importErrors")["import_errors"]]


def test_two_use_cases_that_want_one_slot_get_it_by_what_cannot_wait(world: World) -> None:
    """The training stood in line first; a day's records go before it."""
    _slots(world, 0)
    training = world.api.trigger("other.train", {"max_steps": 2})
    world.wait(lambda: _state(world, "other.train", training, "finetune") == "scheduled", 120, "the training in line")
    day = world.api.trigger("tiny.batch_inference", {"date": "2026-03-31"})
    world.wait(
        lambda: _state(world, "tiny.batch_inference", day, "predict_batch") == "scheduled", 120, "the day in line"
    )
    _slots(world, 1)
    world.finished("tiny.batch_inference", day)
    world.finished("other.train", training)
    _slots(world, 2)
    began = [
        _task(world, *one)["start_date"]
        for one in (("tiny.batch_inference", day, "predict_batch"), ("other.train", training, "finetune"))
    ]
    assert began[0] < began[1]


def _slots(world: World, slots: int) -> None:
    pool = {"pool": "compute", "slots": slots, "description": "", "include_deferred": False}
    world.api.call("PATCH", "/pools/compute", pool)


def _task(world: World, dag: str, run: str, task: str) -> dict[str, Any]:
    return next(found for found in world.api.tasks(dag, run) if found["task_id"] == task)


def _state(world: World, dag: str, run: str, task: str) -> Any:
    return _task(world, dag, run, task)["state"]


def test_roles_may_do_what_is_theirs_and_nothing_else(world: World) -> None:
    def refused(api: Any, method: str, path: str, body: Any = None) -> int:
        with pytest.raises(urllib.error.HTTPError) as answer:
            api.call(method, path, body)
        return int(answer.value.code)

    run = {"logical_date": None, "conf": {}}
    assert world.viewer.call("GET", "/dags/tiny.train")["dag_id"] == "tiny.train"
    assert refused(world.viewer, "POST", "/dags/tiny.train/dagRuns", run) == 403
    assert refused(world.viewer, "PATCH", "/dags/tiny.train", {"is_paused": True}) == 403
    assert refused(world.approver, "PATCH", "/pools/compute", {"slots": 9}) == 403
    assert refused(world.approver, "GET", "/connections") == 403
    assert world.operator.call("GET", "/pools/compute")["slots"] == 2
    asked = "/dags/tiny.promote/dagRuns/x/taskInstances/approve/-1/hitlDetails"
    assert refused(world.viewer, "PATCH", asked, {"chosen_options": ["Approve"], "params_input": {}}) == 403


def test_a_training_outlives_a_scheduler_that_dies(world: World) -> None:
    run = world.api.trigger("other.train", {"control": "shuffled_labels"})
    world.stop_training("other", signal.SIGSTOP)  # so it cannot end before the scheduler does
    halted = world.trainings("other")
    world.restart("scheduler")
    for pid in halted:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
    assert set(world.finished("other.train", run, 400).values()) <= {"success", "skipped"}
    entries = ledger.read_ledger(usecase="other", kind="registration")
    controls = [entry for entry in entries if entry["body"]["release"]["meta"]["control"] != "none"]
    assert len(controls) == 1  # trained once, and registered once


def test_any_part_may_die_at_any_moment_of_a_life_cycle(world: World) -> None:
    """From training to the verdict, while each part and a worker are killed once, in random order at random moments."""
    seed = secrets.randbelow(10**6)
    log.warning("seed %d", seed)  # shown if the test fails
    chance = random.Random(seed)
    run = world.api.trigger("other.train", {"max_steps": 3})
    for part in chance.sample(PARTS, len(PARTS)):
        time.sleep(chance.uniform(0, 5))
        world.kill_a_worker() if part == "worker" else world.restart(part)
    assert set(world.finished("other.train", run, 400).values()) <= {"success", "skipped"}
    release = world.api.xcom("other.train", run, "package_release")
    registered = [e["body"]["version"] for e in ledger.read_ledger(usecase="other", kind="registration") if e["body"]["release"]["sha256"] == release["sha256"]]  # fmt: skip
    assert len(registered) == 1
    world.wait(lambda: registered[0] in _judged("other"), 300, "the verdict")
    verdicts = [e["body"]["verdict"]["candidate_version"] for e in ledger.read_ledger(usecase="other", kind="gate")]
    assert verdicts.count(registered[0]) == 1  # nothing was done twice
    assert ledger.verify_ledger(usecase="other")["entries"] > 0


def test_somebody_was_told_of_what_needs_somebody(world: World, sinks: Sinks) -> None:
    """By mail and by webhook; with a link, and with nothing of a record."""
    wanted = {"failure", "approval_waiting", "approval_expiring", "candidate_refused", "drift_alarm"}
    world.wait(lambda: wanted <= {post["event"] for post in sinks.posts}, 60, f"posts of {wanted}")
    assert all(post["usecase"] in ("tiny", "other", "watched") for post in sinks.posts)
    waiting = next(post for post in sinks.posts if post["event"] == "approval_waiting")
    assert waiting["link"].startswith(world.base) and waiting["link"].endswith("/required_actions")
    subjects = [subject for subject, _ in sinks.mails]
    for words in (
        "failed: tiny.rollback",
        "an approval is waiting",
        "about to expire",
        "refused a candidate",
        "drift alarm",
    ):
        assert any(words in subject for subject in subjects), words
