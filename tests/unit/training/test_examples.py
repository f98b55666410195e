"""Records to tokens: loss on the answer only, nothing lost, the same order every time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.errors import TrainingError
from llmops_tasks.models import tokens
from llmops_tasks.prompts.interface import Interface, of_usecase
from llmops_tasks.training.examples import IGNORED, batch_plan, encode, pairs
from tests.support import tiny

LIMITS = {"limits": [{"metric": "accuracy", "at_least": 0.1}]}  # the shipped ones name labels


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    """SmolLM2's."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


def _case(folder: Path, model: Path, **sections: dict[str, Any]) -> Interface:
    return of_usecase(config.load(str(tiny.usecase(folder, model, "file:///none.csv", **sections))))


def test_only_the_answers_positions_carry_loss(tmp_path: Path, tiny_model: Path, tokenizer: Any) -> None:
    case = _case(tmp_path, tiny_model)
    rows = [{"text": "sore throat", "completion": " urgent"}, {"text": "chest pain", "completion": " resuscitation"}]
    for row, example in zip(rows, encode(case, tokenizer, rows), strict=True):
        counted = [token for token in example.labels if token != IGNORED]
        assert tokenizer.decode(counted) == row["completion"]
        assert len(example.tokens) == len(example.labels)
        whole = tokenizer.decode([*example.tokens, counted[-1]])
        assert whole == f"Note: {row['text']}\nPriority:{row['completion']}"
        at = len(example.tokens) - len(counted)
        assert tokenizer.decode(example.tokens[: at + 1]).endswith("Priority:")  # the first answer is asked after this


def test_what_is_too_long_loses_its_beginning(tmp_path: Path, tiny_model: Path, tokenizer: Any) -> None:
    case = _case(tmp_path, tiny_model, finetune={"max_length": 12})
    example = encode(case, tokenizer, [{"text": "word " * 50 + "last", "completion": " urgent"}])[0]
    room = max(
        map(len, tokens.closed_set(tokenizer, case.answers))
    )  # any answer fits, so the prompt is cut alike whatever the answer is
    assert len(example.tokens) == 12 - room + len(example.labels) - example.labels.count(IGNORED) - 1
    assert tokenizer.decode(example.tokens).endswith("last\nPriority:")


def test_an_answer_without_tokens_is_refused(tmp_path: Path, tiny_model: Path, tokenizer: Any) -> None:
    with pytest.raises(TrainingError, match="A completion has no tokens"):
        encode(_case(tmp_path, tiny_model), tokenizer, [{"text": "x", "completion": ""}])


def test_free_text_learns_where_to_stop(tmp_path: Path, tiny_model: Path, tokenizer: Any) -> None:
    case = _case(tmp_path, tiny_model)
    free = case.model_copy(update={"task": case.task.model_copy(update={"type": "generation", "labels": []})})
    example = encode(free, tokenizer, [{"text": "x", "completion": " yes"}])[0]
    assert example.labels[-1] == tokenizer.eos_token_id


def test_no_rows_give_no_examples(tmp_path: Path, tiny_model: Path, tokenizer: Any) -> None:
    assert encode(_case(tmp_path, tiny_model), tokenizer, []) == []


def test_a_label_is_trained_on_as_it_is_scored(tmp_path: Path, tiny_model: Path, tokenizer: Any) -> None:
    """Its whole text; and one that begins another, its end, too. So are preferences."""
    labels = [
        {"name": "now", "values": ["1"], "text": " urgent now"},
        {"name": "urgent", "values": ["2"], "text": " urgent"},
        {"name": "soon", "values": ["3"], "text": " urgent soon"},
    ]
    case = _case(tmp_path, tiny_model, task={"labels": labels, "severe": []}, gate=LIMITS)
    scored = tokens.closed_set(tokenizer, case.answers)
    assert scored[1] == [*tokens.encode(tokenizer, [" urgent"])[0], tokenizer.eos_token_id]
    rows = [{"text": "x", "completion": text} for text in case.answers]
    assert [[token for token in one.labels if token != IGNORED] for one in encode(case, tokenizer, rows)] == scored
    (found,) = pairs(case, tokenizer, [{"prompt": "x", "chosen": " urgent", "rejected": " urgent soon"}])
    assert [found.chosen, found.rejected] == scored[1:]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 300])
def test_every_record_is_in_exactly_one_batch(count: int) -> None:
    batches = batch_plan([n * 7 % 50 for n in range(count)], 16, seed=1, epoch=0)
    assert Counter(index for batch in batches for index in batch) == Counter(range(count))
    assert all(1 <= len(batch) <= 16 for batch in batches)


def test_batches_follow_from_seed_and_epoch() -> None:
    lengths = [n * 7 % 50 for n in range(100)]
    plan = batch_plan(lengths, 8, seed=1, epoch=0)
    assert batch_plan(lengths, 8, seed=1, epoch=0) == plan
    assert batch_plan(lengths, 8, seed=1, epoch=1) != plan
    assert batch_plan(lengths, 8, seed=2, epoch=0) != plan


def test_records_of_like_length_share_a_batch() -> None:
    lengths = [n * 37 % 200 for n in range(512)]
    spread = [max(lengths[i] for i in b) - min(lengths[i] for i in b) for b in batch_plan(lengths, 8, 1, 0)]
    assert sum(spread) / len(spread) < 40  # 155 if drawn at random
