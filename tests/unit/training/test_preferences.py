"""What people corrected is preferred afterwards, also in pairs that were not trained on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from llmops_tasks import tracking
from llmops_tasks.errors import BudgetError, ConfigError, InputError
from llmops_tasks.release.packaging import package_release
from llmops_tasks.store import artifacts, objects
from llmops_tasks.training.preferences import tune_preferences
from llmops_tasks.training.progress import Progress
from tests.support.corrections import collected, reviewed

pytestmark = pytest.mark.usefixtures("mlflow")
Make = Callable[..., dict[str, Any]]
SETTINGS = {"learning_rate": 5e-3, "epochs": 3, "min_pairs": 10}


def test_tuning_raises_the_held_out_preference_rate(training: Make) -> None:
    arguments = training(start="champion", dropout=0.0, preferences=SETTINGS)
    pairs = collected(arguments["usecase"])
    tuned = tune_preferences(usecase=arguments["usecase"], pairs=pairs, start=arguments["start"])
    before, after = tuned["meta"]["preferred.before"], tuned["meta"]["preferred.after"]
    assert tuned["kind"] == "adapter" and tuned["meta"]["held_out"] >= 5
    for name in ("seconds", "memory_mib"):  # side by side
        assert tuned["meta"][f"estimated.{name}"] > 0 and tuned["meta"][f"actual.{name}"] > 0
    assert before < 0.8 and after >= before + 0.2 and after > 0.9
    release = package_release(usecase=arguments["usecase"], trained=tuned, base=arguments["start"], dataset=reviewed())
    card = (artifacts.fetch(release) / "README.md").read_text(encoding="utf-8")
    assert "corrected answers preferred in" in card
    assert tune_preferences(usecase=arguments["usecase"], pairs=pairs, start=arguments["start"]) == tuned


def _arguments(training: Make, **changes: Any) -> dict[str, Any]:
    given = training(**{"start": "champion", "dropout": 0.0, "preferences": SETTINGS} | changes)
    return {"usecase": given["usecase"], "start": given["start"], "pairs": collected(given["usecase"])}


def _written(kind: str) -> list[str]:
    return objects.find(f"{objects.store_uri()}/tiny/{kind}/*/*")


def test_a_control_run_prefers_either_answer_by_chance_and_is_marked(training: Make) -> None:
    arguments = _arguments(training)
    tuned, control = (tune_preferences(**arguments, control=control) for control in ("none", "shuffled_labels"))
    assert control["meta"]["control"] == "shuffled_labels" and tuned["meta"]["control"] == "none"
    assert control["meta"]["preferred.after"] < tuned["meta"]["preferred.after"] - 0.1
    assert tuned["meta"]["train_loss"] < 0.65 < 0.67 < control["meta"]["train_loss"]  # ln 2 is that of a coin
    assert control["rows"] == tuned["rows"]
    release = package_release(
        usecase=arguments["usecase"], trained=control, base=arguments["start"], dataset=reviewed()
    )
    assert "Not for use: negative control" in (artifacts.fetch(release) / "README.md").read_text(encoding="utf-8")


def test_a_smoke_run_makes_so_many_steps_and_names_what_it_was_trained_on(training: Make) -> None:
    arguments = _arguments(training)
    tuned = tune_preferences(**arguments, max_steps=2)
    meta = tuned["meta"]
    assert (meta["steps"], meta["smoke"]) == (2, True)
    assert len(objects.read_json(f"{tuned['uri']}/training.json")["losses"]) == 2
    assert [above["sha256"] for above in meta["parents"]] == [arguments["pairs"]["sha256"]]
    run = tracking.client().get_run(meta["mlflow_run"])
    assert run.data.params["pairs"] == arguments["pairs"]["sha256"]
    assert run.data.params["finetune.learning_rate"] == str(SETTINGS["learning_rate"])
    assert run.data.metrics["preferred.after"] == meta["preferred.after"]
    folders = [path for path in artifacts.fetch(tuned).rglob("*") if path.is_dir()]
    assert not folders  # only what was trained is kept, not the copy of the start that it was compared with


@pytest.mark.parametrize(
    ("options", "words"), [({"control": "shufled"}, "Allowed: .*none"), ({"max_steps": 0}, "1 or more")]
)
def test_options_that_do_not_exist_are_refused(training: Make, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        tune_preferences(**_arguments(training), **options)


@pytest.mark.parametrize("changes", [{}, {"accumulate": 2, "batch_size": 3, "recompute": True}])
def test_an_interrupted_run_goes_on_to_the_same_bytes(
    training: Make, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    arguments, whole = _arguments(training, **changes), Progress.after_step
    with monkeypatch.context() as patch:
        patch.setenv("LLMOPS_STORE", f"{objects.store_uri()}-undisturbed")
        undisturbed = tune_preferences(**arguments)

    def cut(*given: Any) -> None:
        whole(*given)
        if given[2] == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "after_step", cut)
        with pytest.raises(KeyboardInterrupt):
            tune_preferences(**arguments)
    assert _written("adapter") == [] and _written("checkpoints/*")
    tuned = tune_preferences(**arguments)
    assert tuned["meta"]["resumed_after"] == 4
    assert tuned["sha256"] == undisturbed["sha256"]
    assert _written("checkpoints/*") == []


def test_a_run_over_its_budget_is_not_begun(training: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Progress, "after_step", lambda *_: pytest.fail("a step was made"))
    with pytest.raises(BudgetError, match="memory_gib"):
        tune_preferences(**_arguments(training, budget={"memory_gib": 0.1}))


def test_what_takes_too_long_is_stopped_after_the_probe_at_every_attempt(training: Make) -> None:
    arguments = _arguments(training, budget={"minutes": 1e-6})
    for _ in range(2):
        with pytest.raises(BudgetError, match=r"minutes .* of 1e-06"):
            tune_preferences(**arguments)
        assert _written("checkpoints/*") == []  # nothing to go on from


@pytest.mark.parametrize("ignored", [{"mix": {"other": 0.5}}, {"packing": True}, {"processes": 2}])
def test_what_corrections_would_ignore_is_refused(training: Make, ignored: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="preferences train on corrections only"):
        _arguments(training, **ignored)


def test_preferences_have_no_dropout(training: Make) -> None:
    with pytest.raises(ConfigError, match="without dropout: set dropout to 0"):
        _arguments(training, dropout=0.1)
