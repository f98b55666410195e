"""Written answers are kept shard by shard: what was answered is not answered again, and a kill costs one shard."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.models.decoding import Answer
from llmops_tasks.models.generator import Stub
from llmops_tasks.prompts import interface, shards, writing
from tests.support import tiny
from tests.support.counting import Counting, some_model

ASKED = interface.of_usecase(config.load("faq"))
TEXTS = [f"How do I print page {number}?" for number in range(9)]


@pytest.fixture
def model() -> ArtifactRef:
    return some_model()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SIZE", 4)


def _kept(model: ArtifactRef, generator: Stub, texts: list[str] = TEXTS, asked: Any = ASKED) -> Any:
    return writing.kept_answers("desk", model, lambda: generator, asked, texts, 2)


def test_answers_are_those_of_the_model_in_order_and_the_cut_prompts_of_all_shards(model: ArtifactRef) -> None:
    found, cut = _kept(model, Counting())
    assert found.equals(writing.answer(ASKED, Stub(tiny.ROOT), TEXTS, 3)) and cut == 3
    empty, none = _kept(model, Counting(), [])
    assert (len(empty), none, empty.dtypes.to_dict()) == (0, 0, found.dtypes.to_dict())


def test_what_was_answered_is_not_answered_again_and_the_model_not_opened(model: ArtifactRef) -> None:
    first, _ = _kept(model, Counting())
    again, cut = writing.kept_answers("desk", model, lambda: pytest.fail("opened"), ASKED, TEXTS, 2)
    assert again.equals(first) and cut == 3
    more = Counting()
    _kept(model, more, [*TEXTS, "How do I scan?"])
    assert len(more.asked) == 2  # the last shard, which has grown


def test_a_kill_costs_one_shard(model: ArtifactRef) -> None:
    killed, second = Counting(dies_at="page 5"), Counting()
    with pytest.raises(KeyboardInterrupt):
        _kept(model, killed)
    found, _ = _kept(model, second)
    assert (len(killed.asked), len(second.asked)) == (4, 5)
    assert found.equals(writing.answer(ASKED, Stub(tiny.ROOT), TEXTS, 3))


def _other(**decoding: Any) -> Any:
    task = ASKED.task.model_copy(update={"decoding": ASKED.task.decoding.model_copy(update=decoding)})
    return ASKED.model_copy(update={"task": task})


@pytest.mark.parametrize(
    "asked",
    [_other(seed=1), _other(max_new_tokens=7), _other(json_schema={}), ASKED.model_copy(update={"max_length": 99}),
     ASKED.model_copy(update={"prompt": ASKED.prompt.model_copy(update={"template": "{{ text }}"})})],
    ids=["seed", "length", "schema", "max_length", "prompt"],
)  # fmt: skip
def test_another_way_of_asking_is_another_answer(model: ArtifactRef, asked: Any) -> None:
    _kept(model, Counting())
    again = Counting()
    _kept(model, again, asked=asked)
    assert len(again.asked) == 9


def test_another_model_is_another_answer(model: ArtifactRef) -> None:
    _kept(model, Counting())
    again = Counting()
    _kept({**model, "sha256": "f" * 64}, again)
    assert len(again.asked) == 9


def test_a_record_that_cannot_be_answered_has_a_row_with_its_error() -> None:
    class Poisoned(Stub):
        def generate(self, prompts: list[str], *_: Any, **__: Any) -> list[Answer]:
            return [Answer("", 0, "error", 0.0, "ContextError"), Answer("yes", 1, "stop", 2.0)]

    found = writing.answer(ASKED, Poisoned(tiny.ROOT), ["a", "b"], 2)
    assert found.astype(object).where(found.notna(), None).to_dict("records") == [
        {"answer": "", "tokens": 0, "finish_reason": "error", "error": "ContextError", "bits": 0.0},
        {"answer": "yes", "tokens": 1, "finish_reason": "stop", "error": None, "bits": 2.0},
    ]
