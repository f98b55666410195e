"""Records to tokens: loss on the answer only, nothing lost, the same order every time."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks import config
from llmops_tasks.errors import ContextError, ModelError, TrainingError
from llmops_tasks.models import chat, tokens
from llmops_tasks.prompts.interface import Interface, of_usecase
from llmops_tasks.training.examples import IGNORED, batch_plan, check_prompt, encode, pairs
from tests.support import chat_templates, desk, tiny

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
    case = _case(tmp_path, tiny_model, finetune={"max_length": 16})
    example = encode(case, tokenizer, [{"text": "word " * 50 + "last", "completion": " urgent"}])[0]
    room = max(
        map(len, tokens.closed_set(tokenizer, case.answers))
    )  # any answer fits, so the prompt is cut alike whatever the answer is
    assert len(example.tokens) == 16 - room + len(example.labels) - example.labels.count(IGNORED) - 1
    assert "word last\nPriority:" in tokenizer.decode(example.tokens)


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


# ---------------------------------------------------------------- chats

SAID = (
    '[{"role":"user","content":"a"},{"role":"assistant","content":"<think>x</think>bb"},{"role":"user","content":"c"},'
    '{"role":"assistant","content":"dd"},{"role":"user","content":"e"}]'
)
ROW = {"text": SAID, "completion": "<think>y</think>ff"}


def _talks(folder: Path, model: Path, max_length: int = 128, **prompt: Any) -> Interface:
    columns = {"said": {"role": "input", "type": "conversation", "source": "conversation"}}
    path = desk.usecase(folder, model, folder)
    raw = yaml.safe_load(path.read_text())
    raw["data"]["columns"] = {name: one for name, one in raw["data"]["columns"].items() if name != "question"} | columns
    raw["data"]["text"], raw["finetune"]["max_length"] = "{{ said }}", max_length
    raw["prompt"] = {"format": "conversation", "template": "{{ text }}", **prompt}
    path.write_text(yaml.safe_dump(raw))
    return of_usecase(config.load(str(path)))


def _answers(tokenizer: Any, example: Any) -> list[str]:
    """Runs of positions that carry loss, as texts."""
    runs = groupby(example.labels, key=lambda label: label != IGNORED)
    return [tokenizer.decode(list(run)) for counted, run in runs if counted]


def test_loss_falls_on_the_chosen_turns_of_a_conversation(tmp_path: Path, tiny_model: Path, tokenizer: Any) -> None:
    asked = _talks(tmp_path, tiny_model)
    (last,) = encode(asked, tokenizer, [ROW])
    (every,) = encode(asked, tokenizer, [ROW], "all")
    assert _answers(tokenizer, last) == ["ff<|im_end|>"]
    assert _answers(tokenizer, every) == ["bb<|im_end|>", "dd<|im_end|>", "ff<|im_end|>"]
    turns = [("user", "a"), ("assistant", "bb"), ("user", "c"), ("assistant", "dd"), ("user", "e"), ("assistant", "ff")]
    whole = tokenizer.apply_chat_template([{"role": role, "content": text} for role, text in turns], return_dict=False)
    assert every.tokens == last.tokens == whole[: len(every.tokens)]
    assert [*every.tokens[1:], every.labels[-1]] == whole[1 : len(every.tokens) + 1]
    assert all(label in (IGNORED, whole[at + 1]) for at, label in enumerate(every.labels))


def test_where_the_template_renders_a_beginning_otherwise_each_turn_is_an_example(
    tmp_path: Path, tiny_model: Path
) -> None:
    qwen = chat_templates.tokenizer(tiny_model, "qwen_3")
    asked = _talks(tmp_path, tiny_model)
    found = encode(asked, qwen, [ROW], "all")
    assert [_answers(qwen, one) for one in found] == [["bb<|im_end|>"], ["dd<|im_end|>"], ["ff<|im_end|>"]]
    assert all(qwen.decode(one.tokens).count("<think>") == 1 for one in found)  # as it is asked when it serves


def test_thinking_is_trained_on_where_it_is_kept(tmp_path: Path, tiny_model: Path, tokenizer: Any) -> None:
    (kept,) = encode(_talks(tmp_path, tiny_model, thinking="keep"), tokenizer, [ROW])
    assert _answers(tokenizer, kept) == ["<think>y</think>ff<|im_end|>"]
    assert "<think>x</think>" in tokenizer.decode(kept.tokens)


def test_an_overlong_conversation_loses_its_oldest_turns(tmp_path: Path, tiny_model: Path, tokenizer: Any) -> None:
    (whole,) = encode(_talks(tmp_path, tiny_model), tokenizer, [ROW])
    asked = _talks(tmp_path, tiny_model, max_length=len(whole.tokens))
    (cut,) = encode(asked, tokenizer, [ROW])
    said = tokenizer.decode(cut.tokens)
    assert said.startswith("<|im_start|>system") and "user\na<" not in said and "user\nc<" in said and "e<" in said
    assert len(cut.tokens) < asked.max_length and len(encode(asked, tokenizer, [ROW], "all")) == 3


def test_a_conversation_whose_answer_is_too_long_costs_itself(
    tmp_path: Path, tiny_model: Path, tokenizer: Any, caplog: pytest.LogCaptureFixture
) -> None:
    asked, long = _talks(tmp_path, tiny_model, max_length=200), {**ROW, "completion": "secret " * 400}
    assert encode(asked, tokenizer, [ROW, long, ROW]) == encode(asked, tokenizer, [ROW, ROW])
    assert "1 of 3 records are left out" in caplog.text and "secret" not in caplog.text
    with pytest.raises(ContextError, match="without its text"):
        encode(asked, tokenizer, [long])


def test_a_model_that_cannot_be_asked_so_is_refused_at_once(tmp_path: Path, tiny_model: Path) -> None:
    asked = _talks(tmp_path, tiny_model, system="S")
    check_prompt(asked, chat_templates.tokenizer(tiny_model, "smollm2"))
    with pytest.raises(ModelError, match="template fails: TemplateError"):
        check_prompt(asked, chat_templates.tokenizer(tiny_model, "gemma"))
    bare = chat_templates.tokenizer(tiny_model, "smollm2")
    bare.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        check_prompt(asked, bare)
    short = asked.model_copy(update={"max_length": 24})
    with pytest.raises(ContextError, match="without its text"):
        check_prompt(short, chat_templates.tokenizer(tiny_model, "smollm2"))


def test_pairs_of_chats_are_read_as_chats(tmp_path: Path, tiny_model: Path, tokenizer: Any) -> None:
    asked = _case(tmp_path, tiny_model, prompt={"format": "chat"})
    prompt = asked.render_prompt("pain")
    (found,) = pairs(asked, tokenizer, [{"prompt": chat.dumped(prompt), "chosen": "urgent", "rejected": "less"}])
    assert found.prompt == tokens.encode_with_bos(tokenizer, [prompt])[0]
