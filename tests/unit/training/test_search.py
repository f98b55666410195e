"""A search tries settings, cuts short what is worse, goes on where it was, and says why the winner won."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml

from llmops_tasks import config, tracking
from llmops_tasks.errors import ConfigError, InputError, TrainingError
from llmops_tasks.store import artifacts, objects
from llmops_tasks.training import loop, search, training_plan
from tests.unit.training.conftest import small_dataset

pytestmark = pytest.mark.usefixtures("mlflow")
Make = Callable[..., dict[str, Any]]
SPACE = {"learning_rate": {"low": 1e-6, "high": 3e-2, "log": True}, "rank": {"low": 2, "high": 8}}


@pytest.fixture
def searching(training: Make) -> Callable[..., dict[str, Any]]:
    """Arguments of `trial`, for a use case with a search."""

    def make(budget: dict[str, float] | None = None, **changes: Any) -> dict[str, Any]:
        arguments = training(dropout=0.0, budget=budget or {})
        path = Path(arguments["usecase"])
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        raw["search"] = {"space": SPACE, "trials": 4} | changes
        path.write_text(yaml.safe_dump(raw), encoding="utf-8")
        return arguments

    return make


def _all(arguments: dict[str, Any]) -> list[dict[str, Any]]:
    return [search.run_trial(**arguments, number=number) for number in search.plan_trials(usecase=arguments["usecase"])]


def test_the_smallest_held_out_loss_wins_and_the_report_says_why(searching: Make) -> None:
    arguments = searching(trials=5)
    tried = _all(arguments)
    done = [result for result in tried if result["state"] == "complete"]
    assert len(tried) == 5 and len(done) >= 3
    assert len({result["settings"]["learning_rate"] for result in tried}) == 5
    assert all(2 <= result["settings"]["rank"] <= 8 and isinstance(result["settings"]["rank"], int) for result in tried)
    found = search.choose_trial(**arguments, tried=tried)
    assert found["loss"] == min(result["loss"] for result in done)
    text = (artifacts.fetch(found["report"]) / "report.md").read_text(encoding="utf-8")
    assert text.startswith("# Search: trial") and text.count("\n| ") == 6
    assert "learning_rate" in text.splitlines()[-1]
    assert sum(found["report"]["meta"]["importance"].values()) == pytest.approx(1, abs=0.01)


def test_a_smoke_run_makes_two_short_trials_in_a_study_of_its_own(searching: Make) -> None:
    arguments = searching(trials=5, epochs=3)
    numbers = search.plan_trials(usecase=arguments["usecase"], max_steps=1)
    assert numbers == [0, 1]
    tried = [search.run_trial(**arguments, number=number, max_steps=1) for number in numbers]
    found = search.choose_trial(**arguments, tried=tried, max_steps=1)
    assert found["report"]["rows"] == 2
    (study,) = _trials(arguments, 1)[:1]
    assert list(study.intermediate_values) == [search.LOOKS]  # asked after its only step
    assert _trials(arguments, None) == []


def _trials(arguments: dict[str, Any], max_steps: int | None) -> list[Any]:
    case, base = config.load(arguments["usecase"]), arguments["start"]
    found = training_plan.sources(case, "tiny", arguments["dataset"], base)
    return search._study(case, "tiny", found, base, max_steps).trials


def test_a_search_and_preferences_exclude_each_other(training: Make, searching: Make) -> None:
    path = Path(searching()["usecase"])
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["finetune"] |= {"start": "champion", "preferences": {}}
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"search: .* trains on corrections"):
        search.plan_trials(usecase=str(path))


def test_epochs_are_not_searched(searching: Make) -> None:
    with pytest.raises(ConfigError, match=r"space names \['epochs'\]"):
        search.plan_trials(usecase=searching(space={"epochs": {"low": 1, "high": 3}})["usecase"])


@pytest.mark.parametrize(
    ("name", "space"),
    [
        ("rank", {"choices": [8, "big"]}),
        ("rank", {"low": 0, "high": 8}),
        ("learning_rate", {"low": 1e-4, "high": 2.0}),
        ("method", {"low": 1, "high": 2}),
    ],
)
def test_values_that_no_trial_could_take_are_reported_when_the_file_is_read(
    searching: Make, name: str, space: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=rf"space\.{name} has"):
        search.plan_trials(usecase=searching(space={name: space})["usecase"])


def test_a_finished_trial_is_not_made_again(searching: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = searching()
    once = search.run_trial(**arguments, number=0)
    monkeypatch.setattr(loop, "run", lambda *_: pytest.fail("trained again"))
    assert search.run_trial(**arguments, number=0) == once


def test_an_interrupted_search_goes_on(searching: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = searching()
    first = search.run_trial(**arguments, number=0)
    with monkeypatch.context() as patch:
        patch.setattr(loop, "run", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            search.run_trial(**arguments, number=1)
    tried = _all(arguments)
    assert tried[0] == first
    assert [result["number"] for result in tried] == [0, 1, 2, 3]
    assert {result["state"] for result in tried} <= {"complete", "pruned"}


def test_a_trial_that_is_worse_than_the_others_is_cut_short(searching: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = searching(trials=5)
    losses = iter([1.0] * 12 + [9.0] + [1.0] * 4)  # the fourth is asked once, and no more
    monkeypatch.setattr(loop, "mean_loss", lambda *_: next(losses))
    tried = _all(arguments)
    assert [result["state"] for result in tried] == ["complete"] * 3 + ["pruned", "complete"]
    runs = _mlflow_runs()
    assert {run.info.status for run in runs} == {"FINISHED"}  # to be cut short is no failure
    assert sum(run.data.tags.get("llmops.trial") == "pruned" for run in runs) == 1


def test_settings_that_do_not_train_are_a_result(searching: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = searching()

    def ill(*_: Any) -> float:
        raise TrainingError("Loss is nan")

    with monkeypatch.context() as patch:
        patch.setattr(loop, "step", ill)
        assert search.run_trial(**arguments, number=0)["state"] == "failed"
        with pytest.raises(TrainingError, match="None of 1 trials finished"):
            search.choose_trial(**arguments, tried=[search.run_trial(**arguments, number=0)])
    assert search.run_trial(**arguments, number=1)["state"] == "complete"


def _mlflow_runs() -> list[Any]:
    (experiment,) = [found for found in tracking.client().search_experiments() if found.name == "tiny"]
    return list(tracking.client().search_runs([experiment.experiment_id]))


def test_a_trial_is_reported_in_mlflow(searching: Make) -> None:
    result = search.run_trial(**searching(), number=0)
    (run,) = _mlflow_runs()
    assert run.data.metrics["held_out_loss"] == pytest.approx(result["loss"]) and run.info.status == "FINISHED"
    assert set(run.data.params) == {"learning_rate", "rank"}
    assert len(tracking.client().get_metric_history(run.info.run_id, "held_out_loss")) == search.LOOKS


def test_a_search_goes_on_where_nothing_changed_that_its_trials_follow_from(
    searching: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = search.run_trial(**searching(), number=0)
    monkeypatch.setattr(search, "_train", lambda *_: pytest.fail("it was trained again"))
    assert search.run_trial(**searching(budget={"minutes": 900}), number=0) == first  # nor does what it may cost
    monkeypatch.setattr(search, "_train", lambda *_: 0.5)
    arguments = searching()
    other = {**arguments, "dataset": small_dataset(25, 6)}
    assert search.run_trial(**other, number=0)["loss"] == 0.5
    monkeypatch.setattr(search, "code_digest", lambda *_: "other")  # other code, other figures
    assert search.run_trial(**arguments, number=0)["loss"] == 0.5


def test_settings_beyond_the_budget_are_not_trained(
    searching: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = searching(budget={"memory_gib": 0.1})
    monkeypatch.setattr(loop, "step", lambda *_: pytest.fail("a step was made"))
    assert search.run_trial(**arguments, number=0)["state"] == "failed"
    assert "memory_gib" in caplog.text and "of 0.1" in caplog.text


def test_no_trial_begins_when_the_time_is_spent(searching: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = searching(minutes=0.001)
    assert search.run_trial(**arguments, number=0)["state"] == "complete"
    monkeypatch.setattr(loop, "run", lambda *_: pytest.fail("trained"))
    assert search.run_trial(**arguments, number=1)["state"] == "over budget"


def test_a_trial_takes_as_many_processes_as_the_training(searching: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """That several do what one does, and stop together, has tests of its own."""
    taken: list[int] = []

    def count(processes: int, work: Any) -> Any:
        taken.append(processes)
        return work()

    monkeypatch.setattr(search.processes, "together", count)
    arguments = searching()
    path = Path(arguments["usecase"])
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["finetune"]["processes"] = 2
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    assert search.run_trial(**arguments, number=0)["state"] == "complete"
    assert taken == [2]


def test_what_the_first_process_cuts_short_all_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class Trial:
        def report(self, loss: float, look: int) -> None:
            pytest.fail("another process told the study")

    monkeypatch.setattr(search.processes, "rank", lambda: 1)
    monkeypatch.setattr(search.processes, "total", lambda value: value + 1.0)
    with pytest.raises(optuna.TrialPruned):
        search._ask(Trial(), 1.0, 1)  # type: ignore[arg-type]


def test_trials_share_the_frozen_layers(searching: Make) -> None:
    _all(searching(trials=2))
    assert len(objects.find(f"{objects.store_uri()}/tiny/activations/*/*.safetensors")) == 2  # train, held out


def test_without_a_search_nothing_is_tried(training: Make) -> None:
    arguments = training()
    assert search.plan_trials(usecase=arguments["usecase"]) == []
    assert search.choose_trial(**arguments, tried=[])["settings"] == {}
    with pytest.raises(InputError, match="has no 'search'"):
        search.run_trial(**arguments, number=0)
