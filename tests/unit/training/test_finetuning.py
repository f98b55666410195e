"""Fine-tuning ends in the same bytes however often it was interrupted, or in an error and nothing."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import tracking
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import TrainingError
from llmops_tasks.store import artifacts, objects
from llmops_tasks.training import finetuning, training_plan
from llmops_tasks.training.base_model import fetch_base_model
from llmops_tasks.training.finetuning import finetune
from llmops_tasks.training.progress import Progress
from tests.support import tiny

pytestmark = pytest.mark.usefixtures("mlflow")
Make = Callable[..., dict[str, Any]]


class PowerCut(BaseException):
    """Not an Exception: nothing may catch it and go on."""


def _cut_at(patch: pytest.MonkeyPatch, step: int) -> None:
    """Stop when so many steps are made (at least one) and, where it is due, their checkpoint is kept."""
    whole = Progress.after_step

    def cut(*arguments: Any) -> None:
        whole(*arguments)
        if arguments[2] == max(1, step):
            raise PowerCut

    patch.setattr(Progress, "after_step", cut)


def _store(kind: str) -> list[str]:
    return objects.find(f"{objects.store_uri()}/tiny/{kind}/*/*")


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, ArtifactRef]:
    """What a run without interruption made, kept by the first test that needs it."""
    return {}


@pytest.fixture
def expected(training: Make, uninterrupted: dict[str, ArtifactRef], tmp_path: Path, mlflow: Path) -> ArtifactRef:
    """The result of the same arguments without an interruption, from a home of its own."""
    if not uninterrupted:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("LLMOPS_HOME", str(tmp_path / "undisturbed"))
            (tmp_path / "undisturbed").mkdir()
            shutil.copyfile(mlflow / "mlflow.db", tmp_path / "undisturbed" / "mlflow.db")
            uninterrupted["ref"] = finetune(**training())
    return uninterrupted["ref"]


def _figures(ref: ArtifactRef) -> dict[str, Any]:
    return {name: ref["meta"][name] for name in ("steps", "train_loss", "held_out_loss")}


@pytest.mark.parametrize("step", [1, 3, 5])
def test_an_interruption_at_any_step_changes_no_byte(
    training: Make, expected: ArtifactRef, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, step: int
) -> None:
    arguments = training()
    with monkeypatch.context() as patch:
        _cut_at(patch, step)
        with pytest.raises(PowerCut):
            finetune(**arguments)
    assert _store("adapter") == []
    with caplog.at_level(logging.INFO):
        ref = finetune(**arguments)
    assert ("resuming after step" in caplog.text) == (step >= 2)
    assert ref["sha256"] == expected["sha256"]
    assert _figures(ref) == _figures(expected)
    assert _store("checkpoints") == []
    _check_one_run(ref)
    _cut_at(monkeypatch, 0)  # finished work is skipped: any step would be noticed
    assert finetune(**arguments) == ref


def _check_one_run(ref: ArtifactRef) -> None:
    """However often it was begun, it is one run in MLflow, with its parameters and figures."""
    api = tracking.client()
    runs = api.search_runs([api.get_experiment_by_name("tiny").experiment_id])
    assert [(run.info.run_id, run.info.status) for run in runs] == [(ref["meta"]["mlflow_run"], "FINISHED")]
    assert runs[0].data.params["finetune.rank"] == "16"
    assert runs[0].data.metrics["held_out_loss"] == pytest.approx(ref["meta"]["held_out_loss"])


def test_a_deployment_in_mid_run_costs_no_step_and_is_reported(
    training: Make, expected: ArtifactRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = training()
    with monkeypatch.context() as patch:
        _cut_at(patch, 5)
        with pytest.raises(PowerCut):
            finetune(**arguments)
    monkeypatch.setattr(finetuning, "code_digest", lambda *_: "deployed")
    ref = finetune(**arguments)
    assert ref["key"] != expected["key"]
    assert (ref["meta"]["resumed_after"], ref["meta"]["code_changed_after"]) == (4, [4])
    assert expected["meta"]["code_changed_after"] == []
    assert _store("checkpoints") == []  # no orphans
    _check_one_run(ref)


def test_newer_code_that_would_take_other_steps_begins_anew(
    training: Make, expected: ArtifactRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments, plan = training(), training_plan._plan
    with monkeypatch.context() as patch:
        patch.setattr(training_plan, "_plan", lambda *given: plan(*given)[::-1])
        _cut_at(patch, 5)
        with pytest.raises(PowerCut):
            finetune(**arguments)
    ref = finetune(**arguments)
    assert ref["meta"]["resumed_after"] == 0
    assert ref["sha256"] == expected["sha256"]


def test_a_torn_newest_checkpoint_is_passed_over_to_the_same_bytes(
    training: Make, expected: ArtifactRef, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as patch:
        _cut_at(patch, 5)
        with pytest.raises(PowerCut):
            finetune(**training())
    newest = objects.local_path([uri for uri in _store("checkpoints/*") if uri.endswith(".safetensors")][-1])
    newest.write_bytes(newest.read_bytes()[:1000])
    with caplog.at_level(logging.INFO):
        ref = finetune(**training())
    assert "checkpoint ignored" in caplog.text and "step-000004" in caplog.text
    assert "resuming after step 2" in caplog.text
    assert ref["sha256"] == expected["sha256"]


def test_an_adapter_holds_safetensors_of_the_top_layers_only(expected: ArtifactRef) -> None:
    from safetensors import safe_open

    folder = artifacts.fetch(expected)
    assert expected["kind"] == "adapter"
    names = {path.name for path in folder.iterdir()}
    assert names == {
        "adapter_config.json",
        "adapter_model.safetensors",
        "training.json",
        "training_groups.parquet",
        "training_records.parquet",
        "release.json",
        artifacts.MANIFEST,
    }
    with safe_open(folder / "adapter_model.safetensors", "pt") as weights:
        layers = {name.split("layers.")[1].split(".")[0] for name in weights.keys()}  # noqa: SIM118  (no mapping)
    assert layers == {"1"}


def test_the_same_training_elsewhere_gives_the_same_bytes(
    training: Make, expected: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In another store, so over a base model in another folder."""
    monkeypatch.setenv("LLMOPS_STORE", (tmp_path / "elsewhere").as_uri())
    arguments = training()
    arguments["start"] = fetch_base_model(usecase=arguments["usecase"])
    again = finetune(**arguments)
    assert again["uri"].startswith((tmp_path / "elsewhere").as_uri()) and again["sha256"] == expected["sha256"]
    settings = objects.read_json(f"{again['uri']}/adapter_config.json")
    assert settings["base_model_name_or_path"] == f"sha256:{arguments['start']['sha256']}"


def test_the_same_training_in_another_process_gives_the_same_bytes(
    training: Make, expected: ArtifactRef, tmp_path: Path
) -> None:
    """One that puts what is hashed in another order."""
    code = "import json, sys; from llmops_tasks.training.finetuning import finetune; print(finetune(**json.load(sys.stdin))['sha256'])"
    settings = {"PYTHONHASHSEED": "7", "PYTHONPATH": str(tiny.ROOT), "LLMOPS_STORE": (tmp_path / "other").as_uri()}
    done = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(training()),
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split()[-1] == expected["sha256"]


def test_a_loss_that_is_no_number_stops_and_publishes_nothing(training: Make, tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    broken = tmp_path / "broken"
    shutil.copytree(tiny_model, broken)
    state = load_file(broken / "model.safetensors")
    state["model.norm.weight"] *= float("nan")
    save_file(state, broken / "model.safetensors", {"format": "pt"})
    usecase = str(tiny.usecase(tmp_path / "nan", broken, "file:///none/*.csv"))
    arguments = training() | {"start": fetch_base_model(usecase=usecase)}
    with pytest.raises(TrainingError, match=r"Loss is nan .* at step 1: training stopped, nothing is registered"):
        finetune(**arguments)
    assert _store("adapter") == []
    api = tracking.client()
    assert api.search_runs([api.get_experiment_by_name("tiny").experiment_id])[0].info.status == "FAILED"


def test_shuffled_labels_change_nothing_but_the_labels(training: Make) -> None:
    plain = training_plan.rows(training()["dataset"], "train")
    shuffled = training_plan.shuffled(plain, seed=7)
    assert [row["text"] for row in shuffled] == [row["text"] for row in plain]
    assert [row["completion"] for row in shuffled] != [row["completion"] for row in plain]
    assert sorted(row["completion"] for row in shuffled) == sorted(row["completion"] for row in plain)


def test_control_and_smoke_runs_are_stamped(training: Make, expected: ArtifactRef) -> None:
    assert (expected["meta"]["smoke"], expected["meta"]["control"]) == (False, "none")
    ref = finetune(**training(), control="shuffled_labels", max_steps=1)
    assert (ref["meta"]["steps"], ref["meta"]["smoke"], ref["meta"]["control"]) == (1, True, "shuffled_labels")
    kept = objects.read_json(f"{ref['uri']}/training.json")
    assert (kept["smoke"], kept["control"]) == (True, "shuffled_labels")
    assert ref["sha256"] != expected["sha256"]


def test_all_weights_can_be_trained_and_resumed(training: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors.torch import load_file

    arguments = training(method="full", learning_rate=5e-3)
    with monkeypatch.context() as patch:
        _cut_at(patch, 3)
        with pytest.raises(PowerCut):
            finetune(**arguments)
    ref = finetune(**arguments)
    assert (ref["kind"], ref["meta"]["steps"]) == ("weights", 6)
    losses = objects.read_json(f"{ref['uri']}/training.json")["losses"]
    assert losses[-1] < losses[0] - 1
    assert _store("activations") == []  # nothing is frozen, so nothing is kept
    old = load_file(artifacts.fetch(arguments["start"]) / "model.safetensors")
    new = load_file(artifacts.fetch(ref) / "model.safetensors")
    assert set(new) == set(old)
    assert all((new[name] != old[name]).any() for name in old)
    with monkeypatch.context() as patch:
        patch.setenv("LLMOPS_STORE", f"{objects.store_uri()}-other")
        again = finetune(**training(method="full", learning_rate=5e-3))
    assert again["sha256"] == ref["sha256"]
