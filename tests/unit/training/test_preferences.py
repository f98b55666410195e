"""What people corrected is preferred afterwards, also in pairs that were not trained on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import tracking
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import BudgetError, ConfigError, DataError, InputError, TrainingError
from llmops_tasks.release.packaging import package_release
from llmops_tasks.store import artifacts, objects
from llmops_tasks.training.corrections import collect_corrections
from llmops_tasks.training.preferences import tune_preferences
from llmops_tasks.training.progress import Progress
from tests.support import datasets

pytestmark = pytest.mark.usefixtures("mlflow")
Make = Callable[..., dict[str, Any]]
SETTINGS = {"learning_rate": 5e-3, "epochs": 3, "min_pairs": 10}


def _dataset(records: int = 60) -> ArtifactRef:
    """Reviewed notes: pain is urgent, all others are not."""
    words = {"urgent": " urgent", "non-urgent": " non"}
    rows = [
        {
            "record_id": f"r{n}",
            "text": f"note {n} {'with pain' if n % 2 else 'for a refill'}",
            "label": (label := "urgent" if n % 2 else "non-urgent"),
            "completion": words[label],
            "split": "test" if n % 10 == 9 else "train",
        }
        for n in range(records)
    ]
    return datasets.publish(rows)


def _answer(date: str, records: range) -> None:
    """A day on which every note was called emergent, one in three rightly reviewed as it was answered."""
    import pandas as pd

    def build(out: Path) -> dict[str, Any]:
        truth = ["urgent" if n % 2 else "non-urgent" for n in records]
        given = [label if n % 3 == 0 else "emergent" for n, label in zip(records, truth, strict=True)]
        pd.DataFrame({"record_id": [f"r{n}" for n in records], "label": given}).to_parquet(out / "predictions.parquet")
        return {"rows": len(records)}

    at = f"{objects.store_uri()}/tiny/predictions/date={date}/part-0001"
    artifacts.publish(usecase="tiny", kind="predictions", inputs={"date": date}, build=build, at=at)


START: Any = {"kind": "base", "sha256": "0" * 64}


def _pairs(usecase: str) -> ArtifactRef:
    _answer("2026-03-01", range(40))
    _answer("2026-03-02", range(40, 80))  # of these, twenty were reviewed
    return collect_corrections(usecase=usecase, dataset=_dataset(), start=START)


def test_pairs_are_the_answers_that_were_corrected(training: Make) -> None:
    import pandas as pd

    usecase = training(start="champion", dropout=0.0, preferences=SETTINGS)["usecase"]
    pairs = _pairs(usecase)
    frame = pd.read_parquet(artifacts.fetch(pairs) / "pairs.parquet").set_index("record_id")
    wanted = {f"r{n}" for n in range(60) if n % 3 and n % 10 != 9}  # answered wrongly, and not of the exam
    assert set(frame.index) == wanted
    assert set(frame["rejected"]) == {" emergent"}
    assert frame.loc["r1", "chosen"] == " urgent" and frame.loc["r2", "chosen"] == " non"
    assert frame.loc["r1", "prompt"] == "Note: note 1 with pain\nPriority:"
    assert set(frame["split"]) == {"train", "validation"}
    assert collect_corrections(usecase=usecase, dataset=_dataset(), start=START) == pairs


def test_tuning_raises_the_held_out_preference_rate(training: Make) -> None:
    arguments = training(start="champion", dropout=0.0, preferences=SETTINGS)
    pairs = _pairs(arguments["usecase"])
    tuned = tune_preferences(usecase=arguments["usecase"], pairs=pairs, start=arguments["start"])
    before, after = tuned["meta"]["preferred.before"], tuned["meta"]["preferred.after"]
    assert tuned["kind"] == "adapter" and tuned["meta"]["held_out"] >= 5
    for name in ("seconds", "memory_mib"):  # side by side
        assert tuned["meta"][f"estimated.{name}"] > 0 and tuned["meta"][f"actual.{name}"] > 0
    assert before < 0.8 and after >= before + 0.2 and after > 0.9
    release = package_release(usecase=arguments["usecase"], trained=tuned, base=arguments["start"], dataset=_dataset())
    card = (artifacts.fetch(release) / "README.md").read_text(encoding="utf-8")
    assert "corrected answers preferred in" in card
    assert tune_preferences(usecase=arguments["usecase"], pairs=pairs, start=arguments["start"]) == tuned


def _arguments(training: Make, **changes: Any) -> dict[str, Any]:
    given = training(**{"start": "champion", "dropout": 0.0, "preferences": SETTINGS} | changes)
    return {"usecase": given["usecase"], "start": given["start"], "pairs": _pairs(given["usecase"])}


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
        usecase=arguments["usecase"], trained=control, base=arguments["start"], dataset=_dataset()
    )
    assert "Not for use: control run" in (artifacts.fetch(release) / "README.md").read_text(encoding="utf-8")


def test_a_smoke_run_makes_so_many_steps_and_names_what_it_learnt_from(training: Make) -> None:
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


def test_a_gradient_out_of_bounds_stops_at_once(training: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    given = training(start="champion", dropout=0.0, preferences=SETTINGS | {"beta": 1e12})
    monkeypatch.setattr(Progress, "after_step", lambda *_: pytest.fail("went on"))
    with pytest.raises(TrainingError, match=r"gradient's length .* at step 1, .* nothing is registered"):
        tune_preferences(usecase=given["usecase"], start=given["start"], pairs=_pairs(given["usecase"]))
    assert _written("adapter") == []


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
    with pytest.raises(ConfigError, match="preferences learn from corrections alone"):
        _arguments(training, **ignored)


def test_preferences_have_no_dropout(training: Make) -> None:
    with pytest.raises(ConfigError, match="without dropout: set dropout to 0"):
        _arguments(training, dropout=0.1)


def test_answers_of_a_time_with_other_labels_correct_nothing(training: Make, tmp_path: Path) -> None:
    """Nobody can say whether they were wrong, and they have no words that could be rejected."""
    import pandas as pd
    import yaml

    usecase = training(start="champion", dropout=0.0, preferences=SETTINGS)["usecase"]
    pairs = _pairs(usecase)
    raw = yaml.safe_load(Path(usecase).read_text(encoding="utf-8"))
    (label,) = [label for label in raw["task"]["labels"] if label["name"] == "emergent"]
    label["name"] = "very urgent"
    raw["task"]["severe"] = ["very urgent"]
    raw["gate"]["limits"] = raw["gate"]["limits"][:1]
    Path(usecase).write_text(yaml.safe_dump(raw), encoding="utf-8")
    with pytest.raises(DataError, match="0 corrected answers among 54 reviewed ones"):
        collect_corrections(usecase=usecase, dataset=_dataset(), start=START)
    assert pd.read_parquet(artifacts.fetch(pairs) / "pairs.parquet")["rejected"].notna().all()


def test_too_few_corrections_are_said_with_their_number(training: Make) -> None:
    usecase = training(start="champion", dropout=0.0, preferences=SETTINGS)["usecase"]
    with pytest.raises(DataError, match=r"0 corrected answers among 0 reviewed ones; .* asks for 10"):
        collect_corrections(usecase=usecase, dataset=_dataset(), start=START)
    _answer("2026-03-01", range(9))
    with pytest.raises(DataError, match="6 corrected answers among 9 reviewed ones"):
        collect_corrections(usecase=usecase, dataset=_dataset(), start=START)


def test_without_the_choice_nothing_is_tuned(training: Make) -> None:
    with pytest.raises(InputError, match=r"has no 'finetune\.preferences'"):
        collect_corrections(usecase=training()["usecase"], dataset=_dataset(), start=START)


def test_preferences_need_a_champion_to_start_from(training: Make) -> None:
    arguments = training(dropout=0.0, preferences=SETTINGS)
    with pytest.raises(ConfigError, match="preferences tune a champion"):
        collect_corrections(usecase=arguments["usecase"], dataset=_dataset(), start=START)
