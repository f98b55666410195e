"""One whole life cycle through a running Airflow, with a tiny model: as a user would see it, by REST only.

The tests of this file build on each other and run in order.
"""

from __future__ import annotations

import csv
import shutil
import signal
import sqlite3
import urllib.error
import urllib.request
from datetime import datetime, timedelta
from urllib.parse import quote

import pytest
import yaml

from llmops_tasks.release import ledger, registry
from llmops_tasks.serving import find_predictions
from llmops_tasks.store import artifacts, objects
from tests.live.conftest import STAGES, ZONE
from tests.support import offline
from tests.support.running import World

pytestmark = [pytest.mark.airflow, pytest.mark.live, pytest.mark.timeout(900)]
DAYS = ("2026-03-30", "2026-03-31")


def test_all_dags_appear_without_import_errors(world: World, begun: dict[str, str]) -> None:
    assert len(world.api.dags()) == 3 * len(STAGES)
    assert world.api.import_errors() == []


def test_pages_of_the_plugin_are_closed_to_strangers(world: World) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(f"{world.base}/llmops/tiny/drift/{'0' * 32}/report.html", timeout=10)
    assert refusal.value.code == 401


def test_a_form_with_a_path_in_it_is_refused_by_rest(world: World) -> None:
    for dag, conf in (
        ("batch_inference", {"date": "../../etc"}),
        ("rollback", {"reason": "{{ 7*7 }}"}),
        ("train", {"dataset": "file:///x"}),
    ):
        with pytest.raises(urllib.error.HTTPError) as refusal:
            world.api.trigger(f"tiny.{dag}", conf)
        assert refusal.value.code == 400


def test_notes_become_an_approved_champion_even_if_training_is_killed_once(world: World, begun: dict[str, str]) -> None:
    assert set(world.finished("tiny.prepare_data", begun["tiny"]).values()) == {"success"}
    train = world.started_by_asset("tiny.train", 0)
    world.stop_training("tiny", signal.SIGKILL)
    assert set(world.finished("tiny.train", train).values()) == {"success"}
    attempts = next(
        task["try_number"] for task in world.api.tasks("tiny.train", train) if task["task_id"] == "finetune"
    )
    assert attempts == 2
    assert "resuming after step" in world.api.log("tiny.train", train, "finetune", 2)
    evaluate = world.started_by_asset("tiny.evaluate", 0)
    assert world.finished("tiny.evaluate", evaluate)["ask"] == "success"
    promote = world.started_by_asset("tiny.promote", 0)
    assert "| accuracy |" in world.answer("tiny.promote", "Approve")
    assert world.finished("tiny.promote", promote)["promote"] == "success"
    assert registry.find_champion(usecase="tiny")["version"] == "1"
    told = world.api.call("GET", "/assets/events?source_dag_id=tiny.promote")["asset_events"]
    assert [event["extra"]["sha256"] for event in told] == [registry.find_champion(usecase="tiny")["release"]["sha256"]]
    (approval,) = ledger.read_ledger(usecase="tiny", kind="approval")
    assert (approval["body"]["by"], approval["body"]["choice"]) == ("approver", "Approve")


def test_clearing_the_finished_training_does_no_work_twice(world: World) -> None:
    run = world.api.runs("tiny.train")[0]["dag_run_id"]
    before = world.api.xcom("tiny.train", run, "finetune")
    world.api.call(
        "POST",
        "/dags/tiny.train/clearTaskInstances",
        {"dry_run": False, "dag_run_id": run, "task_ids": ["finetune"], "only_failed": False},
    )
    assert world.finished("tiny.train", run)["finetune"] == "success"
    assert world.api.xcom("tiny.train", run, "finetune")["sha256"] == before["sha256"]
    (task,) = [found for found in world.api.tasks("tiny.train", run) if found["task_id"] == "finetune"]
    assert "is finished already: skipped" in world.api.log("tiny.train", run, "finetune", task["try_number"])


def test_a_training_that_is_cancelled_leaves_no_process_and_its_checkpoints(world: World) -> None:
    run = world.api.trigger("tiny.train", {"control": "shuffled_labels"})
    world.stop_training("tiny", signal.SIGSTOP)  # so it cannot end before it is cancelled
    task = f"/dags/tiny.train/dagRuns/{quote(run, safe='')}/taskInstances/finetune"
    world.api.call("PATCH", task, {"new_state": "failed"})
    world.wait(lambda: not world.trainings("tiny"), 60, "the training's process to end")
    assert world.finished("tiny.train", run)["package_release"] == "upstream_failed"
    assert world.checkpoints("tiny")  # what was done is not lost: the run of the next test goes on from there


def _edit_to_learn_from_corrections(world: World) -> None:
    path = world.home / "usecases" / "tiny.yaml"
    raw = yaml.safe_load(path.read_text())
    raw["finetune"] |= {"start": "champion", "preferences": {"min_pairs": 4, "epochs": 2}}
    path.write_text(yaml.safe_dump(raw, sort_keys=False))
    world.parse_again()


@pytest.fixture(scope="module")
def selection(world: World) -> str:
    """A run that goes on beside those of other stages."""
    return world.api.trigger("tiny.select_base_model")


def test_a_control_run_is_refused_by_the_gate_and_nobody_is_asked(world: World, selection: str) -> None:
    run = world.api.trigger("tiny.train", {"control": "shuffled_labels"})
    assert world.finished("tiny.train", run)["announce_candidate"] == "success"
    assert "resuming after step" in world.api.log("tiny.train", run, "finetune", 1)
    _edit_to_learn_from_corrections(world)  # for the last training: it shows after a while, and much is done meanwhile
    states = world.finished("tiny.evaluate", world.started_by_asset("tiny.evaluate", 1))
    assert (states["gate"], states["open_questions"], states["ask"]) == ("success", "skipped", "skipped")
    verdict = ledger.read_ledger(usecase="tiny", kind="gate")[-1]["body"]["verdict"]
    assert verdict["verdict"] == "fail" and any("a negative control" in reason for reason in verdict["reasons"])
    assert registry.find_champion(usecase="tiny")["version"] == "1"


def test_two_days_are_answered_and_the_drifting_one_starts_a_retraining(world: World) -> None:
    monitors = []
    for number, day in enumerate(DAYS):
        run = world.api.trigger("tiny.batch_inference", {"date": day})
        assert set(world.finished("tiny.batch_inference", run).values()) == {"success"}
        monitors.append(world.started_by_asset("tiny.monitor", number))
    for monitor in monitors:
        world.finished("tiny.monitor", monitor)
    decisions = {
        entry["body"]["date"]: entry["body"]["retrain"] for entry in ledger.read_ledger(usecase="tiny", kind="retrain")
    }
    assert decisions == {DAYS[0]: False, DAYS[1]: True}
    retraining = world.started_by_asset("tiny.prepare_data", 1)
    assert world.finished("tiny.prepare_data", retraining)["announce_dataset"] == "skipped"  # no new notes have landed


def test_answering_a_day_again_changes_nothing(world: World) -> None:
    before, chain = find_predictions(usecase="tiny", date=DAYS[0]), ledger.verify_ledger(usecase="tiny")
    assert [part["rows"] for part in before] == [60]
    run = world.api.trigger("tiny.batch_inference", {"date": DAYS[0]})
    assert world.finished("tiny.batch_inference", run)["announce_predictions"] == "skipped"
    assert find_predictions(usecase="tiny", date=DAYS[0]) == before
    assert ledger.verify_ledger(usecase="tiny") == chain


def test_base_models_are_measured_in_turn_and_one_is_refused_by_name(world: World, selection: str) -> None:
    assert set(world.finished("tiny.select_base_model", selection).values()) == {"success"}
    page = world.api.log("tiny.select_base_model", selection, "report_selection")
    assert "| current (" in page and "| chosen |" in page and "licence 'gemma' is refused" in page
    assert len(ledger.read_ledger(usecase="tiny", kind="base_model_selection")) == 1


def test_rolling_back_the_first_champion_is_refused_with_a_reason(world: World) -> None:
    run = world.api.trigger("tiny.rollback", {"reason": "a drill"})
    assert world.finished("tiny.rollback", run)["rollback"] == "failed"
    assert "first champion" in world.api.log("tiny.rollback", run, "rollback")


def test_another_hospitals_export_becomes_a_judged_candidate_by_yaml_alone(world: World, begun: dict[str, str]) -> None:
    assert set(world.finished("other.prepare_data", begun["other"]).values()) == {"success"}
    train = world.started_by_asset("other.train", 0)
    assert set(world.finished("other.train", train).values()) == {"success"}
    evaluate = world.started_by_asset("other.evaluate", 0)
    states = world.finished("other.evaluate", evaluate)
    assert (states["gate"], states["ask"]) == ("success", "skipped")  # a random model beats nobody
    assert ledger.read_ledger(usecase="other", kind="gate")[0]["body"]["verdict"]["verdict"] == "fail"


def test_a_file_that_lands_starts_prepare_data_by_itself(world: World, begun: dict[str, str]) -> None:
    """Through the asset's watcher in the triggerer."""
    assert set(world.finished("watched.prepare_data", begun["watched"]).values()) == {"success"}


def test_every_trial_of_a_search_is_a_task_and_what_won_is_trained(world: World) -> None:
    run = world.started_by_asset("watched.train", 0)
    assert set(world.finished("watched.train", run).values()) == {"success"}
    trials = [task for task in world.api.tasks("watched.train", run) if task["task_id"] == "run_trial"]
    assert sorted(task["map_index"] for task in trials) == [0, 1]
    won = world.api.xcom("watched.train", run, "choose_trial")
    assert (artifacts.fetch(won["report"]) / "report.md").read_text().count("| complete |") >= 1
    adapter = artifacts.fetch(world.api.xcom("watched.train", run, "finetune"))
    assert objects.read_json((adapter / "adapter_config.json").as_uri())["r"] == won["settings"]["rank"]


def test_a_rejected_candidate_is_recorded_and_changes_nothing(world: World) -> None:
    promote = world.started_by_asset("watched.promote", 0)
    world.answer("watched.promote", "Reject")
    states = world.finished("watched.promote", promote)
    assert (states["approve"], states["promote"]) == ("success", "skipped")
    assert ledger.read_ledger(usecase="watched", kind="approval")[-1]["body"]["choice"] == "Reject"
    assert registry.find_champion(usecase="watched")["version"] is None


def test_reviewed_notes_correct_what_was_answered_and_the_champion_learns_from_it(world: World) -> None:
    """The use case was edited while Airflow ran; of the notes that land, some were answered on the second day."""
    known = len(world.api.runs("tiny.train"))
    world.api.call("PATCH", "/dags/tiny.evaluate", {"is_paused": True})
    tasks = lambda: {task["task_id"] for task in world.api.call("GET", "/dags/tiny.train/tasks")["tasks"]}  # noqa: E731
    world.wait(lambda: {"collect_corrections", "tune_preferences"} <= tasks(), 180, "the edited use case")
    shutil.copy(world.home / "demo" / "reviewed" / "hospital_b.csv", world.home / "demo" / "landing")
    run = world.api.trigger("tiny.prepare_data")
    assert set(world.finished("tiny.prepare_data", run).values()) == {"success"}
    train = world.started_by_asset("tiny.train", known)
    assert set(world.finished("tiny.train", train).values()) == {"success"}
    tuned, pairs = (world.api.xcom("tiny.train", train, task) for task in ("tune_preferences", "collect_corrections"))
    assert tuned["rows"] + tuned["meta"]["held_out"] == pairs["rows"] >= 4
    assert all(0 <= tuned["meta"][f"preferred.{when}"] <= 1 for when in ("before", "after"))
    assert "preferred answers:" in world.api.log("tiny.train", train, "tune_preferences")


def test_a_tick_scores_the_day_that_ended_in_the_use_cases_time_zone(world: World) -> None:
    """Nothing was promoted there, so that no record is scored; which day was meant is known before."""
    (run,) = world.wait(lambda: world.api.runs("watched.batch_inference"), 300, "the tick")
    assert run["run_type"] == "scheduled"
    world.finished("watched.batch_inference", run["dag_run_id"])
    tick = datetime.fromisoformat(run["logical_date"])
    (hour, minute) = (tick.astimezone(ZONE).hour, tick.astimezone(ZONE).minute)
    expression = yaml.safe_load((world.home / "usecases" / "watched.yaml").read_text())["batch"]["schedule"]
    assert expression == f"{minute} {hour} * * *"
    chosen = world.api.xcom("watched.batch_inference", run["dag_run_id"], "options")
    assert chosen["date"] == (tick.astimezone(ZONE).date() - timedelta(days=1)).isoformat()
    assert datetime.fromisoformat(chosen["as_of"]) == tick


def test_data_docs_open_for_a_signed_in_user(world: World) -> None:
    run = world.api.runs("tiny.prepare_data")[0]["dag_run_id"]
    links = world.api.call(
        "GET",
        f"/dags/tiny.prepare_data/dagRuns/{run.replace('+', '%2B').replace(':', '%3A')}/taskInstances/validate/links",
    )
    address = links["extra_links"]["Data Docs"]
    request = urllib.request.Request(world.base + address, headers={"Authorization": f"Bearer {world.api._token}"})
    with urllib.request.urlopen(request, timeout=20) as page:
        assert b"Data Docs" in page.read()


def test_no_identifier_is_in_any_log_or_database(world: World) -> None:
    """Names, phones, record numbers and addresses of every note, looked for in all that Airflow and MLflow wrote."""
    needles = set()
    for path in (world.home / "demo").rglob("*.csv"):
        with path.open(newline="") as stream:
            for row in csv.DictReader(stream, delimiter=";" if path.parent.name == "other" else ","):
                needles |= {row[name].encode() for name in ("patient_name", "phone", "record_number", "address")}
    assert len(needles) > 1000
    for database in (world.home / "airflow" / "airflow.db", world.home / "mlflow.db"):
        with sqlite3.connect(database) as connection:
            connection.execute("pragma wal_checkpoint")
    places = [
        *(world.home / "airflow").rglob("*"),
        *(world.home / "logs").rglob("*"),
        *(world.home / "mlartifacts").rglob("*"),
        world.home / "mlflow.db",
    ]
    haystacks = {path: path.read_bytes() for path in places if path.is_file()}
    assert len(haystacks) > 50
    for path, content in haystacks.items():
        found = [needle for needle in needles if needle in content]
        assert not found, f"{len(found)} identifiers in {path.name}"


def test_no_part_of_the_stack_reached_beyond_this_machine(world: World) -> None:
    """The guard of tests/support/guard was in every process, and had nothing to refuse."""
    started = offline.started()
    parts = (
        "airflow standalone",
        "airflow api-server",
        "airflow scheduler",
        "airflow dag-processor",
        "airflow triggerer",
    )
    verbs = ("training.finetune", "training.tune_preferences", "evaluation.evaluate", "serving.predict_batch")
    for command in (*parts, "mlflow ui", *(f"llmops_tasks {verb}" for verb in verbs)):
        assert [line for line in started if command in line], command
    assert offline.refused() == []
