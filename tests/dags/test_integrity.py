"""Every DAG of every use case parses, and is what Airflow's users expect of a DAG."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks import config
from llmops_tasks.verbs import verbs
from tests.support import tiny

pytestmark = pytest.mark.airflow
DAGS = tiny.ROOT / "dags"
STAGES = {
    "prepare_data", "train", "evaluate", "promote", "batch_inference", "monitor", "rollback", "reconcile", "select_base_model"
}  # fmt: skip


def load() -> Any:
    """Parse the DAG folder as Airflow does."""
    from airflow.dag_processing.dagbag import BundleDagBag

    return BundleDagBag(str(DAGS), bundle_path=DAGS, bundle_name="dags-folder")


@pytest.fixture(scope="module")
def bag() -> Any:
    return load()


def test_shipped_use_cases_have_every_stage_and_no_import_error(bag: Any) -> None:
    assert bag.import_errors == {}
    assert set(bag.dags) == {f"{name}.{stage}" for name in ("triage", "reviews", "faq") for stage in STAGES}


def test_a_generation_is_wired_as_a_classification_is(bag: Any) -> None:
    for stage in STAGES:
        one, other = bag.dags[f"faq.{stage}"], bag.dags[f"reviews.{stage}"]
        assert sorted(one.task_ids) == sorted(other.task_ids), stage
        assert {name.replace("faq.", "reviews.") for name in _triggers(one)} == _triggers(other), stage
    started = {name for dag in bag.dags.values() for name in _triggers(dag)}
    assert {"faq.dataset", "faq.candidate", "faq.predictions", "faq.retrain"} <= started


def test_new_use_cases_wait_for_data_not_for_the_clock(bag: Any) -> None:
    by_asset_or_hand = {"AssetTriggeredTimetable", "NullTimetable"}
    clocks = {dag_id for dag_id, dag in bag.dags.items() if type(dag.timetable).__name__ not in by_asset_or_hand}
    assert clocks - {f"{name}.reconcile" for name in ("triage", "reviews", "faq")} == {"triage.prepare_data"}


def _triggers(dag: Any) -> set[str]:
    """The assets that start a DAG."""
    condition = getattr(dag.timetable, "asset_condition", None)
    return {asset.name for asset in getattr(condition, "objects", [condition]) if asset is not None}


def test_every_dag_passes_astros_stock_checks(bag: Any) -> None:
    for dag_id, dag in bag.dags.items():
        assert dag.tags, dag_id
        assert dag.default_args["retries"] >= 2, dag_id


def test_every_dag_explains_itself_and_can_be_started_by_hand(bag: Any) -> None:
    for dag_id, dag in bag.dags.items():
        assert dag.doc_md and dag.description and dag.owner, dag_id
        dag.params.validate()  # every Param has a default that fits its own schema


def test_a_new_use_case_waits_for_its_next_tick(bag: Any) -> None:
    """Airflow would otherwise make up for a tick that has just passed: work that nobody asked for."""
    from airflow.serialization.encoders import coerce_to_core_timetable
    from airflow.timetables.base import TimeRestriction
    from llmops_dags.stage import cron

    assert all(dag.start_date is None for dag in bag.dags.values())
    now = datetime.now(UTC)
    just_passed = coerce_to_core_timetable(cron(f"{now.minute} {now.hour} * * *"))
    first = just_passed.next_dagrun_info(
        last_automated_data_interval=None, restriction=TimeRestriction(None, None, catchup=False)
    )
    assert first is not None and first.run_after > now


def test_whatever_loads_a_model_waits_for_a_pool_and_a_download_keeps_nobody_from_it(bag: Any) -> None:
    heavy = {"finetune", "package_release", "evaluate", "predict_batch", "measure_base_model"}
    found = {task.task_id: task.pool for dag in bag.dags.values() for task in dag.tasks if task.task_id in heavy}
    assert found == dict.fromkeys(heavy, "compute")
    assert bag.dags["triage.train"].get_task("fetch_base_model").pool == "default_pool"


def test_of_two_use_cases_at_one_slot_days_go_before_verdicts_and_these_before_trainings(bag: Any) -> None:
    """By Airflow's own rule a task's weight is that of all behind it, and a training had the most behind it."""
    order = [("batch_inference", "predict_batch"), ("evaluate", "evaluate"), ("train", "finetune")]
    for name in ("triage", "reviews"):
        tasks = [bag.dags[f"{name}.{stage}"].get_task(task) for stage, task in order]
        assert [
            str(getattr(task.weight_rule, "value", task.weight_rule))
            for task in tasks
            if "absolute" not in repr(task.weight_rule).lower()
        ] == []
        assert [task.priority_weight for task in tasks] == [400, 300, 200]
    light = bag.dags["triage.train"].get_task("register")
    assert light.priority_weight > 400  # over in a moment


def test_every_task_has_an_end(bag: Any) -> None:
    """A hung download or training would hold its slot for ever."""
    for dag in bag.dags.values():
        assert [task.task_id for task in dag.tasks if task.execution_timeout is None] == []
        assert dag.dagrun_timeout is None, "would count the time in the queue, and skip what waits for an answer"
    finetune, approve = bag.dags["triage.train"].get_task("finetune"), bag.dags["triage.promote"].get_task("approve")
    assert finetune.execution_timeout.total_seconds() == 96 * 3600
    assert approve.response_timeout.total_seconds() == 3600 * config.load("triage").approval.timeout_hours


def test_pools_priorities_and_limits_are_the_use_cases_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    airflow = {"training": {"pool": "gpu", "timeout_hours": 200}, "search": {"priority": 7}, "timeout_hours": 1}
    search = {"space": {"rank": {"choices": [4, 8]}}, "trials": 2}
    dag = _made(tmp_path, monkeypatch, airflow=airflow, search=search)
    finetune, trial = dag.get_task("finetune"), dag.get_task("run_trial")
    assert (finetune.pool, finetune.priority_weight, finetune.execution_timeout.total_seconds()) == ("gpu", 200, 720000)
    assert (trial.pool, trial.priority_weight) == ("compute", 7)
    assert dag.get_task("register").execution_timeout.total_seconds() == 3600


def test_stages_are_joined_by_assets_in_the_order_of_the_life_cycle(bag: Any) -> None:
    outlets = {
        dag_id.split(".")[1]: {asset.name for task in dag.tasks for asset in task.outlets}
        for dag_id, dag in bag.dags.items()
        if dag_id.startswith("triage.")
    }
    assert outlets == {
        "prepare_data": {"triage.dataset"},
        "train": {"triage.candidate"},
        "evaluate": set(),
        "promote": {"triage.champion"},
        "batch_inference": {"triage.predictions"},
        "monitor": {"triage.retrain"},
        "rollback": {"triage.champion"},  # or who listens to it would keep the bad version
        "reconcile": set(),
        "select_base_model": set(),
    }


def test_promotion_hangs_on_a_person_and_nothing_that_decides_travels(bag: Any) -> None:
    dag = bag.dags["triage.promote"]
    approve, promote = dag.get_task("approve"), dag.get_task("promote")
    assert approve.defaults == ["Reject"]
    assert promote.upstream_task_ids == {"configuration", "question", "may_be_promoted"}
    assert dag.get_task("may_be_promoted").upstream_task_ids >= {"approve"}
    assert set(promote.op_kwargs) == {"usecase", "version"}
    assert dag.max_active_runs > 1, "an open question would keep all others from being asked"


def test_two_people_are_asked_one_after_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _made(tmp_path, monkeypatch, approval={"people": 2, "assigned": ["ann", "bob"]})
    dag = load().dags["special.promote"]
    assert dag.get_task("approve_2").upstream_task_ids >= {"approve"}
    assert [user["id"] for user in dag.get_task("approve").assigned_users] == ["ann", "bob"]
    assert dag.get_task("may_be_promoted").upstream_task_ids >= {"approve_2"}


def test_an_answer_is_not_lost_to_a_retry(bag: Any) -> None:
    """The task may run again; it asks ledger and Airflow before a person."""
    approve = bag.dags["triage.promote"].get_task("approve")
    assert type(approve).__name__ == "Approval" and {"usecase", "question"} <= set(approve.template_fields)


def test_each_candidate_is_measured_apart_and_nobody_let_in_is_a_decision_too(bag: Any) -> None:
    dag = bag.dags["triage.select_base_model"]
    measure, decide = dag.get_task("measure_base_model"), dag.get_task("choose_base_model")
    assert measure.is_mapped and {"list_base_models", "draw_sample", "configuration"} == measure.upstream_task_ids
    # a mapped task without instances is skipped, and would take the decision and its record with it
    assert decide.trigger_rule == "none_failed" and decide.upstream_task_ids == {"measure_base_model", "configuration"}
    assert decide.downstream_task_ids == {"record_selection", "report_selection"}


def test_no_template_reads_the_run_date(bag: Any) -> None:
    """`ds` and its kin do not exist in runs started by assets or by hand."""
    for path in DAGS.rglob("*.py"):
        assert "{{ ds" not in path.read_text() and "data_interval" not in path.read_text(), path


def test_no_result_is_indexed_twice() -> None:
    """`task()["a"]["b"]` asks Airflow for the key "b" of the task, not for "b" inside of "a"."""
    import ast

    for path in DAGS.rglob("*.py"):
        twice = [
            n
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Subscript) and isinstance(n.value, ast.Subscript)
        ]
        read = [node for node in twice if isinstance(node.slice, ast.Constant) and "context" not in ast.unparse(node)]
        assert not read, f"{path.name}:{read[0].lineno}"


BAD = ["../../etc/passwd", "file:///etc/passwd", "{{ var.value.x }}", "; rm -rf /", "$(id)", "http://169.254.169.254"]


@pytest.mark.parametrize("value", BAD)
@pytest.mark.parametrize(
    ("dag", "param"),
    [
        ("select_base_model", "dataset"),
        ("train", "dataset"),
        ("train", "control"),
        ("evaluate", "version"),
        ("batch_inference", "date"),
        ("batch_inference", "version"),
        ("rollback", "reason"),
        ("rollback", "version"),
    ],
)
def test_params_refuse_paths_templates_and_shell_characters(bag: Any, dag: str, param: str, value: str) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    params = bag.dags[f"triage.{dag}"].params
    with pytest.raises(ParamValidationError):
        params.get_param(param).resolve(value)


def test_a_yaml_dropped_into_another_folder_gives_working_dags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    raw = yaml.safe_load(tiny.TRIAGE.read_text())
    raw["data"]["source"]["delimiter"] = ";"
    raw["data"]["columns"]["visit_id"]["source"] = "Besuch"
    (tmp_path / "notaufnahme.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.setenv("LLMOPS_USECASES", str(tmp_path))
    bag = load()
    assert bag.import_errors == {}
    assert set(bag.dags) == {f"notaufnahme.{stage}" for stage in STAGES}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes a use case into a folder of its own, with changes to its YAML."""
    monkeypatch.setenv("LLMOPS_USECASES", str(tmp_path))

    def write(name: str, change: Callable[[Any], Any] = lambda raw: None) -> Path:
        raw = yaml.safe_load(tiny.TRIAGE.read_text())
        change(raw)
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(raw))
        return path

    return write


def _typo(raw: Any) -> None:
    raw["finetune"]["epocs"] = raw["finetune"].pop("epochs")
    raw["data"]["split"]["train"] = 0.9


def test_a_broken_yaml_shows_all_its_mistakes_and_leaves_the_others_alone(folder: Callable[..., Path]) -> None:
    folder("good")
    folder("bad", _typo)
    bag = load()
    assert set(bag.dags) == {f"good.{stage}" for stage in STAGES}
    (error,) = bag.import_errors.values()
    assert "Did you mean 'epochs'" in error and "train + validation + test must be 1" in error


def test_a_typo_leaves_the_last_valid_form_in_charge_and_says_so(folder: Callable[..., Path]) -> None:
    folder("triage")
    before = {name: sorted(dag.task_ids) for name, dag in load().dags.items()}
    folder("triage", _typo)
    bag = load()
    assert {name: sorted(dag.task_ids) for name, dag in bag.dags.items()} == before
    (error,) = bag.import_errors.values()
    assert "Did you mean 'epochs'" in error
    for dag in bag.dags.values():
        assert "last valid configuration" in dag.doc_md and "configuration error" in dag.tags
    folder("triage")
    healed = load()
    assert healed.import_errors == {} and all("configuration error" not in dag.tags for dag in healed.dags.values())


def test_a_use_case_whose_file_is_gone_keeps_its_dags_without_a_schedule_until_it_is_retired(
    folder: Callable[..., Path],
) -> None:
    """What it has begun may end, and its history stays readable."""
    folder("former").rename(folder("kept").with_name("former.bak"))
    folder("former")
    assert load().import_errors == {}
    (folder("kept").with_name("former.yaml")).unlink()
    dags = {name: dag for name, dag in load().dags.items() if name.startswith("former.")}
    assert set(dags) == {f"former.{stage}" for stage in STAGES}
    assert {type(dag.timetable).__name__ for dag in dags.values()} == {"NullTimetable"}
    assert all("No use case 'former'" in dag.doc_md for dag in dags.values())
    config.retire(usecase="former")
    assert not [name for name in load().dags if name.startswith("former.")]


def test_a_name_that_no_use_case_can_have_is_an_error(folder: Callable[..., Path]) -> None:
    folder("good").with_name("other.yml").write_text("version: 1")
    folder("Upper")
    (error,) = load().import_errors.values()
    assert "other.yml: a use case's file is named" in error and "Upper.yaml" in error


def test_a_worker_reads_one_use_case_alone(folder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two", "three"):
        folder(name)
    loaded: list[str] = []
    real = config.loading.load
    monkeypatch.setattr(config.loading, "load", lambda name: loaded.append(name) or real(name))
    monkeypatch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "two.train")
    bag = load()
    assert (set(bag.dags), set(loaded)) == ({"two.train"}, {"two"})


def test_parsing_all_dags_imports_no_heavy_module() -> None:
    heavy = [
        "torch",
        "transformers",
        "datasets",
        "peft",
        "mlflow",
        "great_expectations",
        "pandas",
        "numpy",
        "pyarrow",
        "sklearn",
        "boto3",
    ]
    code = (
        "import sys, importlib.util, pathlib\n"
        "import airflow.sdk\n"
        f"before = set(sys.modules)\n"
        f"sys.path[:0] = [{str(DAGS)!r}, {str(tiny.ROOT / 'plugins')!r}, {str(tiny.ROOT)!r}]\n"
        f"for path in sorted(pathlib.Path({str(DAGS)!r}).glob('*.py')):\n"
        "    spec = importlib.util.spec_from_file_location(path.stem, path)\n"
        "    spec.loader.exec_module(importlib.util.module_from_spec(spec))\n"
        f"print([name for name in {heavy!r} if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip().splitlines()[-1:] == ["[]"], done.stderr[-2000:]


def _made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, **finetune: Any) -> Any:
    """The train DAG of a use case with these settings."""
    raw = yaml.safe_load(tiny.TRIAGE.read_text(encoding="utf-8"))
    raw["finetune"] |= finetune.pop("finetune", {})
    path = tmp_path / "special.yaml"
    path.write_text(yaml.safe_dump(raw | finetune), encoding="utf-8")
    monkeypatch.setenv("LLMOPS_USECASES", str(tmp_path))
    made = load()
    assert made.import_errors == {}
    return made.dags["special.train"]


def test_tasks_that_load_a_model_go_where_the_use_case_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pod = {"spec": {"nodeSelector": {"gpu": "a100"}, "containers": [{"name": "base", "resources": {"limits": {"nvidia.com/gpu": "1"}}}]}}  # fmt: skip
    dag = _made(tmp_path, monkeypatch, finetune={"resources": {"queue": "gpu", "pod": pod}})
    for name in ("fetch_base_model", "finetune", "package_release"):
        task = dag.get_task(name)
        assert task.queue == "gpu"
        override = task.executor_config["pod_override"]
        assert override.spec.node_selector == {"gpu": "a100"}
        assert override.spec.containers[0].resources.limits == {"nvidia.com/gpu": "1"}
    assert dag.get_task("register").queue == "default" and not dag.get_task("register").executor_config


def test_a_search_is_a_task_a_trial_before_the_fine_tuning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    dag = _made(tmp_path, monkeypatch, search={"space": space, "trials": 3}, finetune={"start": "champion"})
    assert dag.get_task("run_trial").is_mapped and dag.get_task("run_trial").pool == "compute"
    assert dag.get_task("run_trial").upstream_task_ids >= {"plan_trials", "find_starting_point"}
    assert "choose_trial" in dag.get_task("finetune").upstream_task_ids
    assert not set(load_plain().task_ids) & {"run_trial", "choose_trial", "find_starting_point"}


def test_datasets_of_other_use_cases_are_found_once_for_all_tasks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"space": {"rank": {"choices": [4, 8]}}}
    (tmp_path / "reviews.yaml").write_text(tiny.TRIAGE.read_text(encoding="utf-8"), encoding="utf-8")
    dag = _made(tmp_path, monkeypatch, search=found, finetune={"mix": {"reviews": 0.5}})
    for name in ("run_trial", "choose_trial", "finetune"):
        assert "find_mixed_datasets" in dag.get_task(name).upstream_task_ids
    assert "find_mixed_datasets" not in load_plain().task_ids


def test_corrections_take_the_place_of_records_and_the_form_reaches_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = _made(tmp_path, monkeypatch, finetune={"start": "champion", "preferences": {}})
    assert "finetune" not in dag.task_ids
    assert dag.get_task("tune_preferences").upstream_task_ids == {
        "configuration",
        "options",
        "collect_corrections",
        "find_starting_point",
    }
    assert {"control", "max_steps"} <= set(dag.get_task("tune_preferences").op_kwargs)
    assert dag.get_task("package_release").upstream_task_ids >= {"tune_preferences", "find_starting_point"}


def test_what_runs_in_a_process_of_its_own_can_be_reached_from_the_shell(
    bag: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That is how it is started; also where a use case takes another way than the shipped ones."""
    searching = _made(tmp_path, monkeypatch, search={"space": {"rank": {"choices": [4, 8]}}})
    preferring = _made(tmp_path, monkeypatch, search=None, finetune={"start": "champion", "preferences": {}})
    found = {name for dag in (*bag.dags.values(), searching, preferring) for name in _isolated(dag)}
    assert found >= {
        "training.run_trial",
        "training.tune_preferences",
        "training.finetune",
    }
    assert found <= set(verbs())


def _isolated(dag: Any) -> Iterator[str]:
    for task in dag.tasks:
        if (verb := getattr(getattr(task, "python_callable", None), "__wrapped__", None)) is not None:
            yield f"{verb.__module__.split('.')[1]}.{verb.__name__}"


def test_a_smoke_run_reaches_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = {"rank": {"choices": [4, 8]}}
    dag = _made(tmp_path, monkeypatch, search={"space": space, "trials": 3})
    for name in ("plan_trials", "run_trial", "choose_trial", "finetune"):
        assert "options" in dag.get_task(name).upstream_task_ids, name


def load_plain() -> Any:
    """The train DAG of the shipped use case."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMOPS_USECASES", str(tiny.TRIAGE.parent))
        return load().dags["triage.train"]
