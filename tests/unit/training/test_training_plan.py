"""What is plan follows from the strategies of the use case, and its order from the seed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import DataError, InputError, TrainingError
from llmops_tasks.store import artifacts, digests
from llmops_tasks.training import seen, training_plan
from llmops_tasks.training.examples import IGNORED
from llmops_tasks.training.training_plan import Sources, TrainingPlan
from tests.support import tiny
from tests.unit.training.conftest import small_dataset

Make = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    """SmolLM2's."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def _planned(arguments: dict[str, Any], tokenizer: Any, start: ArtifactRef | None = None) -> TrainingPlan:
    case = config.load(arguments["usecase"])
    found = training_plan.sources(case, "tiny", arguments["dataset"], start or arguments["start"])
    return training_plan.build_plan(case, tokenizer, found, "none")


def _release(dataset: ArtifactRef | None) -> ArtifactRef:
    """As far as training asks: it says which records it has learnt from, or does not."""

    def build(out: Path) -> dict[str, Any]:
        if dataset:
            seen.write(out, {**dataset, "kind": "base_model"}, [dataset])
        return {}

    return artifacts.publish(usecase="tiny", kind="release", inputs={"dataset": dataset}, build=build)


def _other(tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """A second use case with a dataset, and prompts of its own."""
    folder = tmp_path / "usecases"
    tiny.usecase(folder, tiny_model, "file:///none/*.csv", name="other", prompt={"template": "Other: {{ text }}\nIs:"})
    monkeypatch.setenv("LLMOPS_USECASES", str(folder))
    small_dataset(rows, 1, usecase="other")


def test_a_task_alone_is_its_records_once_an_epoch(training: Make, tokenizer: Any) -> None:
    plan = _planned(training(epochs=3), tokenizer)
    assert plan.counts == {"own": 24}
    assert len(plan.batches) == 3 * 6
    for epoch in range(3):
        seen = [index for batch in plan.batches[6 * epoch : 6 * epoch + 6] for index in batch]
        assert sorted(seen) == list(range(24))
    assert plan.batches[:6] != plan.batches[6:12]


def test_texts_of_the_domain_come_first_and_every_token_of_them_counts(training: Make, tokenizer: Any) -> None:
    plan = _planned(training(domain={"usecases": ["own"], "epochs": 2, "block": 9}), tokenizer)
    blocks = plan.counts["texts"]
    assert blocks > 24  # longer texts are several blocks
    texts = plan.examples[:blocks]
    assert all(IGNORED not in example.labels and len(example.tokens) <= 9 for example in texts)
    assert all(example.labels[:-1] == example.tokens[1:] for example in texts)
    whole = "".join(tokenizer.decode([*example.tokens, example.labels[-1]]) for example in texts)
    assert "note number 3" in whole and "Priority" not in whole  # texts, not prompts
    order = [index for batch in plan.batches for index in batch]
    assert all(index < blocks for index in order[: 2 * blocks])
    assert sorted(order[2 * blocks :]) == list(range(blocks, blocks + 24))


def test_other_use_cases_are_mixed_in_by_weight_with_their_own_prompt(
    training: Make, tokenizer: Any, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = training(mix={"other": 0.5})
    _other(tmp_path, tiny_model, monkeypatch, rows=40)
    plan = _planned(arguments, tokenizer)
    assert plan.counts == {"own": 24, "other": 12}
    texts = [tokenizer.decode(example.tokens) for example in plan.examples]
    assert [text.startswith("Other: ") for text in texts] == [False] * 24 + [True] * 12
    assert sorted(index for batch in plan.batches for index in batch) == list(range(36))
    assert any(min(batch) < 24 <= max(batch) for batch in plan.batches)  # mixed, not one after the other


def test_a_use_case_without_a_dataset_cannot_be_trained_on(training: Make, tokenizer: Any) -> None:
    with pytest.raises(DataError, match=r"'faq' has no dataset yet, but 'tiny' trains on it"):
        _planned(training(mix={"faq": 0.5}), tokenizer)


def test_going_on_means_new_records_and_a_share_of_known_ones(training: Make, tokenizer: Any) -> None:
    arguments = training(start="champion", continual={"replay": 0.25})
    plan = _planned(arguments, tokenizer, _release(small_dataset(12, 6)))
    assert plan.counts == {"new": 12, "replayed": 4}  # a quarter of sixteen
    numbers = [int(tokenizer.decode(example.tokens).split("number ")[1].split()[0]) for example in plan.examples]
    assert numbers[:12] == list(range(12, 24))
    assert set(numbers[12:]) < set(range(12)) and len(set(numbers[12:])) == 4


def test_without_a_champion_going_on_begins_with_all_records(training: Make, tokenizer: Any) -> None:
    plan = _planned(training(start="champion", continual={"replay": 0.25}), tokenizer)
    assert plan.counts == {"own": 24}


def test_a_corrected_label_is_new_to_a_model_trained_on_the_old_one(training: Make, tokenizer: Any) -> None:
    old = small_dataset(24, 6, answers=(" urgent", " urgent", " emergent", " non"))  # every other answer was wrong
    plan = _planned(training(start="champion", continual={"replay": 0.0}), tokenizer, _release(old))
    assert plan.counts == {"new": 12, "replayed": 0}


def test_what_a_champion_was_trained_on_must_be_known(training: Make, tokenizer: Any) -> None:
    """Else everything would be taken for new, without a word."""
    release = _release(None)
    with pytest.raises(DataError, match=r"does not record which records it was trained on.* Set finetune.start"):
        _planned(training(start="champion", continual={"replay": 0.25}), tokenizer, release)


def test_nothing_new_is_said(training: Make, tokenizer: Any) -> None:
    arguments = training(start="champion", continual={"replay": 0.25})
    with pytest.raises(TrainingError, match="The champion was trained on all of these records"):
        _planned(arguments, tokenizer, _release(arguments["dataset"]))


def test_what_is_trained_on_names_the_result(training: Make, tmp_path: Path) -> None:
    one, two = small_dataset(12, 6), small_dataset(13, 6)
    found = [
        Sources(one, None, {}, {}),
        Sources(one, None, {"other": two}, {}),
        Sources(one, None, {"other": two}, {"other": "a"}),
        Sources(two, None, {"other": two}, {"other": "a"}),
    ]
    assert len({digests.digest(sources.digests()) for sources in found}) == 4


def test_another_prompt_of_a_mixed_use_case_is_another_training(
    training: Make, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = training(mix={"other": 0.5})
    _other(tmp_path, tiny_model, monkeypatch, rows=40)
    case = config.load(arguments["usecase"])
    find = lambda: training_plan.sources(case, "tiny", arguments["dataset"], arguments["start"]).digests()  # noqa: E731
    before = find()
    path = tmp_path / "usecases" / "other.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("Is:", "Level:"), encoding="utf-8")
    after = find()
    assert before["asked"] != after["asked"] and before["others"] == after["others"]


def test_other_datasets_are_found_once_for_a_whole_run(
    training: Make, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = training(mix={"other": 0.5}, domain={"usecases": ["own", "other"]})
    _other(tmp_path, tiny_model, monkeypatch, rows=40)
    found = training_plan.find_mixed_datasets(usecase=arguments["usecase"])
    assert list(found) == ["other"]
    small_dataset(41, 1, usecase="other")  # meanwhile there is a newer one
    case, place = config.load(arguments["usecase"]), (arguments["dataset"], arguments["start"])
    assert training_plan.sources(case, "tiny", *place, found).others == found
    assert training_plan.sources(case, "tiny", *place).others != found


def test_a_use_case_is_not_mixed_with_itself(training: Make) -> None:
    with pytest.raises(InputError, match=r"mix of 'tiny' names itself\. .* remove it"):
        training_plan.find_mixed_datasets(usecase=training(mix={"tiny": 0.5})["usecase"])
