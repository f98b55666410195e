"""Candidates are measured on the same records, once, and never against the policy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks import config
from llmops_tasks.config import UseCase
from llmops_tasks.contracts import ArtifactRef, Measurement
from llmops_tasks.errors import EvidenceError, InputError, ModelError
from llmops_tasks.release import ledger, records
from llmops_tasks.store import artifacts, objects
from llmops_tasks.training import selection
from llmops_tasks.training.selection import draw_sample, drawn, list_base_models, measure_base_model, report_selection
from llmops_tasks.training.selection_policy import choose_base_model
from tests.support import tiny
from tests.support.choosing import rows


@pytest.fixture(scope="module")
def home_of_measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the module's sample and measurement are."""
    return tmp_path_factory.mktemp("selection")


@pytest.fixture(scope="module")
def drawn_sample(world: Any, home_of_measured: Path) -> ArtifactRef:
    """Of the world's dataset."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMOPS_HOME", str(home_of_measured))
        return draw_sample(usecase=world.usecase, dataset=world.dataset)


@pytest.fixture(scope="module")
def measured(world: Any, drawn_sample: ArtifactRef, home_of_measured: Path) -> Measurement:
    """The tiny model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMOPS_HOME", str(home_of_measured))
        return measure_base_model(usecase=world.usecase, sample=drawn_sample)


def answers(measurement: Measurement) -> Any:
    import pandas as pd

    return pd.read_parquet(artifacts.fetch(measurement["evidence"]) / "answers.parquet")


# ---------------------------------------------------------------- records


def drawn_ids(case: UseCase, given: list[dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Ids of the records to answer and of the examples."""
    import pandas as pd

    rest, shots = drawn(case, pd.DataFrame(given))
    return rest["record_id"].tolist(), shots["record_id"].tolist()


def with_selection(**settings: Any) -> UseCase:
    """The shipped use case with another sample."""
    case = config.load("triage")
    return case.model_copy(update={"selection": case.selection.model_copy(update=settings)})


def test_records_of_the_test_split_are_not_looked_at(world: Any, drawn_sample: ArtifactRef) -> None:
    import pandas as pd

    splits = pd.read_parquet(artifacts.fetch(world.dataset) / "data.parquet").set_index("record_id")["split"]
    assert (splits == "test").sum() > 100
    for name in ("rows", "shots"):
        ids = pd.read_parquet(artifacts.fetch(drawn_sample) / f"{name}.parquet")["record_id"]
        assert len(ids) and "test" not in set(splits[ids])


def test_synthetic_records_are_not_asked_about() -> None:
    real = [row | {"augmented": ""} for row in rows(config.load("triage"))]
    made = [row | {"record_id": f"m{number}", "augmented": "noise"} for number, row in enumerate(real)]
    chosen, shots = drawn_ids(config.load("triage"), [*made, *real])
    assert {*chosen, *shots} == {row["record_id"] for row in real}


def test_examples_show_all_labels_in_turn_and_their_groups_are_not_asked_about() -> None:
    case = config.load("triage")
    given = {row["record_id"]: row for row in rows(case)}
    given |= {f"{name}b": row | {"record_id": f"{name}b"} for name, row in given.items()}
    chosen, shots = drawn_ids(case, list(given.values()))
    assert len(shots) == 5 and {given[name]["label"] for name in shots} == {label.name for label in case.task.labels}
    assert {given[name]["split"] for name in shots} == {"train"}
    assert {given[name]["group"] for name in shots}.isdisjoint(given[name]["group"] for name in chosen)


def test_validation_records_come_first_and_no_more_than_asked() -> None:
    case = with_selection(sample=30)
    splits = {row["record_id"]: row["split"] for row in rows(case, 100)}
    chosen, _ = drawn_ids(case, rows(case, 100))
    assert [splits[name] for name in chosen] == ["validation"] * 10 + ["train"] * 20


def test_what_is_drawn_follows_from_the_seed_not_from_the_order() -> None:
    given = rows(config.load("triage"))
    assert drawn_ids(with_selection(), given) == drawn_ids(with_selection(), given[::-1])
    assert drawn_ids(with_selection(), given)[1] != drawn_ids(with_selection(seed=8), given)[1]


def test_too_few_records_are_no_evidence() -> None:
    case = config.load("triage")
    with pytest.raises(EvidenceError, match="19 records are left to measure on, 20 are needed"):
        drawn_ids(case, rows(case, 24))


# ---------------------------------------------------------------- measuring


def test_a_measurement_says_what_the_model_is_worth_and_what_it_takes(measured: Any, tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    found: Any = measured
    kept = found["figures"]
    assert found["candidate"] == "current" and 100 < found["n"] == len(answers(found)) <= 200
    assert kept["parameters"] == AutoModelForCausalLM.from_pretrained(tiny_model).num_parameters()
    assert kept["context_length"] == 512 and kept["problems"] == kept["obstacles"] == []
    assert kept["disk_mib"] > 2 and kept["memory_mib"] > 100 and kept["tokens_per_second"] > 0
    for name in ("zero_shot", "few_shot", "bits_per_character"):
        assert kept[name]["low"] <= kept[name]["value"] <= kept[name]["high"]


def test_quality_and_bits_follow_from_the_answers_left_beside_them(world: Any, measured: Any) -> None:
    from sklearn.metrics import cohen_kappa_score

    frame, kept = answers(measured), measured["figures"]
    names = [label.name for label in config.load(world.usecase).task.labels]
    for shown in ("zero_shot", "few_shot"):
        truth, said = (frame[column].map(names.index) for column in ("truth", shown))
        kappa = cohen_kappa_score(truth, said, weights="quadratic", labels=range(5))
        assert kept[shown]["value"] == pytest.approx(kappa, abs=1e-6)
    density = frame["bits"].sum() / frame["characters"].sum()
    assert kept["bits_per_character"]["value"] == pytest.approx(density, abs=1e-6)


def test_measuring_again_is_no_work(
    world: Any, measured: Any, drawn_sample: Any, home_of_measured: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMOPS_HOME", str(home_of_measured))
    monkeypatch.setattr(selection, "figures", None)  # calling one of the two would fail
    monkeypatch.setattr(selection, "drawn", None)
    again = draw_sample(usecase=world.usecase, dataset=world.dataset)
    assert again == drawn_sample
    assert measure_base_model(usecase=world.usecase, sample=again) == measured


def test_another_sample_is_another_measurement(
    world: Any, measured: Any, home_of_measured: Path, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMOPS_HOME", str(home_of_measured))  # where the first one could be taken for it
    path = str(tiny.usecase(tmp_path, tiny_model, "file:///none.csv", selection={"sample": 20, "candidates": []}))
    other = measure_base_model(usecase=path, sample=draw_sample(usecase=path, dataset=world.dataset))
    assert other["n"] == 20 and other["sample_sha256"] != measured["sample_sha256"]
    assert other["model_sha256"] == measured["model_sha256"] and other["evidence"] != measured["evidence"]


def test_a_candidate_that_the_policy_refuses_is_never_opened(
    tmp_path: Path, tiny_model: Path, drawn_sample: Any
) -> None:
    gone = {"name": "gone", "uri": "file:///no/such/folder", "licence": "gemma"}
    path = str(tiny.usecase(tmp_path, tiny_model, "file:///none.csv", selection={"candidates": [gone]}))
    assert list_base_models(usecase=path) == ["current"]
    with pytest.raises(ModelError, match="'gone' is not measured: licence 'gemma' is refused: Google's Gemma Terms"):
        measure_base_model(usecase=path, sample=drawn_sample, candidate="gone")
    assert objects.find(f"{objects.store_uri()}/models/base/*/*") == []


def test_an_accepted_one_is_opened(tmp_path: Path, tiny_model: Path, drawn_sample: Any) -> None:
    """The test above would pass with a folder that is never looked for."""
    gone = {"name": "gone", "uri": "file:///no/such/folder", "licence": "gemma"}
    policy = yaml.safe_load(config.POLICY.read_text(encoding="utf-8"))
    policy["licences"]["accepted"] = {"gemma": "a test"}
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    given = {"candidates": [gone], "policy": "policy.yaml"}
    path = str(tiny.usecase(tmp_path, tiny_model, "file:///none.csv", selection=given))
    assert list_base_models(usecase=path) == ["current", "gone"]
    with pytest.raises(ModelError, match="No model folder at 'file:///no/such/folder'"):
        measure_base_model(usecase=path, sample=drawn_sample, candidate="gone")


def test_an_unknown_candidate_is_refused_with_the_nearest(world: Any, drawn_sample: Any) -> None:
    with pytest.raises(InputError, match=r"No candidate 'curent'. Did you mean 'current'\? Known: \['current', 'gem"):
        measure_base_model(usecase=world.usecase, sample=drawn_sample, candidate="curent")


# ---------------------------------------------------------------- what cannot be asked of a model


# ---------------------------------------------------------------- to the end


def test_the_decision_is_reported_and_recorded_once(world: Any, measured: Any) -> None:
    decision = choose_base_model(usecase=world.usecase, measurements=[measured])
    assert decision["chosen"] == "current" and decision["write"] == ""
    page = report_selection(usecase=world.usecase, decision=decision)
    text = (artifacts.fetch(page) / "README.md").read_text(encoding="utf-8")
    assert "| current (model0) | chosen |" in text
    assert "| gemma-3-270m (gemma-3-270m-q4_k_m.gguf) | refused |" in text
    entry = records.record_selection(usecase=world.usecase, decision=decision)
    assert entry["kind"] == "base_model_selection" and entry["body"]["decision"] == decision
    assert records.record_selection(usecase=world.usecase, decision=decision) == entry
    assert report_selection(usecase=world.usecase, decision=decision) == page
    assert ledger.verify_ledger(usecase=world.usecase)["entries"] == 1
