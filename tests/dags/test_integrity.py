"""Every DAG of every use case parses, and is what Airflow's users expect of a DAG."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
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
STAGES = {"prepare_data", "train", "evaluate", "batch_inference", "monitor", "rollback", "select_base_model"}


def load() -> Any:
    """Parse the DAG folder as Airflow does."""
    from airflow.dag_processing.dagbag import BundleDagBag

    return BundleDagBag(str(DAGS), bundle_path=DAGS, bundle_name="dags-folder")


@pytest.fixture(scope="module")
def bag() -> Any:
    return load()


def test_shipped_use_cases_have_every_stage_that_can_handle_them_and_no_import_error(bag: Any) -> None:
    assert bag.import_errors == {}
    classified = {f"{name}.{stage}" for name in ("triage", "reviews") for stage in STAGES}
    generated = {f"faq.{stage}" for stage in ("prepare_data", "train", "rollback", "select_base_model")}
    assert set(bag.dags) == classified | generated


def test_no_dag_waits_for_what_only_a_stage_that_cannot_handle_its_task_leaves(bag: Any) -> None:
    """Generated text is not measured yet, so nothing may be started by its candidates."""
    started = {name for dag in bag.dags.values() for name in _triggers(dag)}
    assert "faq.dataset" in started and "reviews.candidate" in started
    assert not {"faq.candidate", "faq.champion", "faq.predictions"} & started


def test_new_use_cases_wait_for_data_not_for_the_clock(bag: Any) -> None:
    by_asset_or_hand = {"AssetTriggeredTimetable", "NullTimetable"}
    clocks = {dag_id for dag_id, dag in bag.dags.items() if type(dag.timetable).__name__ not in by_asset_or_hand}
    assert clocks == {"triage.prepare_data"}


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


def test_whatever_loads_a_model_waits_for_the_compute_pool(bag: Any) -> None:
    heavy = {"fetch_base_model", "finetune", "package_release", "evaluate", "predict_batch"}
    found = {task.task_id: task.pool for dag in bag.dags.values() for task in dag.tasks if task.task_id in heavy}
    assert found == dict.fromkeys(heavy, "compute")
    assert (
        bag.dags["triage.select_base_model"].get_task("measure_base_model").pool == "compute"
    )  # monitor's is a light one


def test_stages_are_joined_by_assets_in_the_order_of_the_life_cycle(bag: Any) -> None:
    outlets = {
        dag_id.split(".")[1]: {asset.name for task in dag.tasks for asset in task.outlets}
        for dag_id, dag in bag.dags.items()
        if dag_id.startswith("triage.")
    }
    assert outlets == {
        "prepare_data": {"triage.dataset"},
        "train": {"triage.candidate"},
        "evaluate": {"triage.champion"},
        "batch_inference": {"triage.predictions"},
        "monitor": {"triage.retrain"},
        "rollback": set(),
        "select_base_model": set(),
    }


def test_promotion_hangs_on_a_person_and_a_rejection_is_recorded(bag: Any) -> None:
    dag = bag.dags["triage.evaluate"]
    approve, answer, promote = (dag.get_task(name) for name in ("approve", "answer", "promote"))
    assert approve.defaults == ["Reject"]
    assert {"approved", "record_approval"} <= promote.upstream_task_ids
    # a rejection skips what hangs on `approve` itself, whatever its trigger rule
    assert answer.trigger_rule == "none_failed" and answer.upstream_task_ids == {"approved"}
    assert dag.get_task("record_approval").upstream_task_ids.isdisjoint({"approve", "approved"})


def test_each_candidate_is_measured_apart_and_nobody_let_in_is_a_decision_too(bag: Any) -> None:
    dag = bag.dags["triage.select_base_model"]
    measure, decide = dag.get_task("measure_base_model"), dag.get_task("choose_base_model")
    assert measure.is_mapped and {"list_base_models", "draw_sample"} == measure.upstream_task_ids
    # a mapped task without instances is skipped, and would take the decision and its record with it
    assert decide.trigger_rule == "none_failed" and decide.upstream_task_ids == {"measure_base_model"}
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


def test_a_broken_yaml_shows_all_its_mistakes_and_leaves_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = yaml.safe_load(tiny.TRIAGE.read_text())
    (tmp_path / "good.yaml").write_text(yaml.safe_dump(raw))
    raw["finetune"]["epocs"] = raw["finetune"].pop("epochs")
    raw["data"]["split"]["train"] = 0.9
    (tmp_path / "bad.yaml").write_text(yaml.safe_dump(raw))
    monkeypatch.setenv("LLMOPS_USECASES", str(tmp_path))
    bag = load()
    assert set(bag.dags) == {f"good.{stage}" for stage in STAGES}
    (error,) = bag.import_errors.values()
    assert "Did you mean 'epochs'" in error and "train + validation + test must be 1" in error


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
        assert (task.queue, task.pool) == ("gpu", "compute")
        override = task.executor_config["pod_override"]
        assert override.spec.node_selector == {"gpu": "a100"}
        assert override.spec.containers[0].resources.limits == {"nvidia.com/gpu": "1"}
    assert dag.get_task("register_release").queue == "default" and not dag.get_task("register_release").executor_config


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
    dag = _made(tmp_path, monkeypatch, search=found, finetune={"mix": {"reviews": 0.5}})
    for name in ("run_trial", "choose_trial", "finetune"):
        assert "find_mixed_datasets" in dag.get_task(name).upstream_task_ids
    assert "find_mixed_datasets" not in load_plain().task_ids


def test_only_what_waits_for_a_person_has_a_limit(bag: Any) -> None:
    """A training takes as long as it takes."""
    limits = {name: dag.dagrun_timeout for name, dag in bag.dags.items()}
    assert {name for name, limit in limits.items() if limit} == {name for name in limits if name.endswith(".evaluate")}
    hours = config.load("triage").approval.timeout_hours + 24
    assert limits["triage.evaluate"].total_seconds() == 3600 * hours


def test_corrections_take_the_place_of_records_and_the_form_reaches_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dag = _made(tmp_path, monkeypatch, finetune={"start": "champion", "preferences": {}})
    assert "finetune" not in dag.task_ids
    assert dag.get_task("tune_preferences").upstream_task_ids == {
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
