"""Chats through the whole chain: labels and free answers, asked alike in training, evaluation, batch and MLflow serving."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks import config
from llmops_tasks.chain import chain
from llmops_tasks.config.decoding import Decoding
from llmops_tasks.models import decoding, local, tokens
from llmops_tasks.models.chat import Chat
from llmops_tasks.models.generator import open_generator
from llmops_tasks.prompts import answering, interface
from llmops_tasks.prompts.interface import of_usecase
from llmops_tasks.store import artifacts
from llmops_tasks.training.examples import IGNORED, encode
from tests.support import chat_templates, desk, tiny

LABELS = [("resuscitation", "1"), ("emergency", "2"), ("urgent", "3"), ("standard", "4"), ("routine", "5")]
CHAT = {"format": "chat", "system": "Choose one of: {{ labels }}.", "template": "Note: {{ text }}"}
SHOTS = [{"text": "cut finger", "answer": "standard"}]


@pytest.fixture
def fitted(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The tokens of every prompt that a model in this process is asked."""
    found: list[list[int]] = []
    plain, write = local.LocalModel._fitted, decoding.write

    def scored(self: Any, *given: Any) -> list[list[int]]:
        found.extend(made := plain(self, *given))
        return made

    monkeypatch.setattr(local.LocalModel, "_fitted", scored)
    monkeypatch.setattr(decoding, "write", lambda *given: found.extend(given[2]) or write(*given))
    return found


def _prompts(examples: list[Any]) -> list[list[int]]:
    """What stands before the first position that carries loss, and the token there."""
    starts = (next(at for at, label in enumerate(one.labels) if label != IGNORED) for one in examples)
    return [one.tokens[: start + 1] for one, start in zip(examples, starts, strict=True)]


def _rows(ref: Any, split: str) -> list[dict[str, Any]]:
    import pandas as pd

    frame = pd.read_parquet(artifacts.fetch(ref) / "data.parquet")
    return list(frame[frame["split"] == split].to_dict("records"))


@pytest.mark.parametrize("style", chat_templates.STYLES)
def test_training_and_answering_ask_alike_in_every_style(
    tmp_path: Path, tiny_model: Path, style: str, fitted: list[list[int]]
) -> None:
    model = chat_templates.write(tmp_path / "model", tiny_model, style)
    system = {} if style == "gemma" else {"system": CHAT["system"]}
    path = tiny.usecase(
        tmp_path, model, "file:///none.csv",
        prompt={"format": "chat", "template": "Note: {{ text }}", "examples": SHOTS, **system}, finetune={"max_length": 120},
    )  # fmt: skip
    asked, generator = of_usecase(config.load(str(path))), open_generator("transformers", model)
    names = chat_templates.tokenizer(tiny_model, style)
    texts = ["sore throat", "pain " * 200 + "last", "<|im_end|> odd"]
    rows = [{"text": text, "completion": asked.answers[0]} for text in texts]
    answering.answer(asked, generator, texts)
    assert fitted == _prompts(encode(asked, names, rows))
    assert max(map(len, fitted)) < 120 and "last" in names.decode(fitted[1])
    prompts = [asked.render_prompt(text) for text in texts]
    before = [Chat(*prompt) for prompt in prompts]
    fitted.clear()
    generator.generate(before, Decoding(max_new_tokens=2), 4)
    assert fitted == [*tokens.encode_with_bos(names, before)]


@pytest.mark.usefixtures("mlflow")
def test_labels_are_chosen_in_chat_form_from_data_to_the_gate(
    tmp_path: Path, tiny_usecase: str, fitted: list[list[int]]
) -> None:
    raw = yaml.safe_load(Path(tiny_usecase).read_text())
    raw["prompt"], raw["finetune"]["max_length"] = {**CHAT, "examples": SHOTS}, 160
    raw["task"]["labels"] = [{**one, "text": one["text"].strip()} for one in raw["task"]["labels"]]
    Path(tiny_usecase).write_text(yaml.safe_dump(raw))
    done = chain(usecase=tiny_usecase)
    assert done["gate"]["checks"]
    release, rows = done["package"], _rows(done["version"], "test")
    asked = interface.of_release(release)
    assert asked.prompt.format == "chat" and (artifacts.fetch(release) / "chat_template.jinja").is_file()

    from transformers import AutoTokenizer

    names = AutoTokenizer.from_pretrained(artifacts.fetch(release))
    trained = _prompts(encode(asked, names, rows))
    assert names.decode(trained[0]).endswith("<|im_end|>\n<|im_start|>assistant\n")
    assert {tuple(one) for one in trained} <= {tuple(one) for one in fitted}  # evaluation asked the same
    fitted.clear()
    assert _served(release, [row["text"] for row in rows[:20]])["label"].isin(asked.labels).all()
    assert fitted == trained[:20]


def _served(release: Any, texts: list[str]) -> Any:
    """What MLflow's model answers."""
    from types import SimpleNamespace

    import pandas as pd

    from llmops_tasks.release.serving_model import ServingModel

    about = {"release": {"uri": release["uri"], "sha256": release["sha256"]}, "batch_size": 8}
    model, context = ServingModel(), SimpleNamespace(model_config=about)
    reference = {**release, **about["release"]}
    context.model_config["release"] = reference
    model.load_context(context)  # type: ignore[arg-type]
    return model.predict(context, pd.DataFrame({"text": texts}))  # type: ignore[arg-type]


def _talks(folder: Path, count: int) -> None:
    """Half in OpenAI's form, half in ShareGPT's; each has a telephone number in its first turn."""
    folder.mkdir(parents=True)
    lines = []
    for number in range(count):
        said = [
            f"My number is 555-01{number:02d}-4455",
            "Thanks.",
            f"Where is desk {number}?",
            f"On floor {number % 7}.",
        ]
        openai = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(said)]
        sharegpt = [{"from": ("human", "gpt")[at % 2], "value": text} for at, text in enumerate(said)]
        lines.append(json.dumps({"messages": openai} if number % 2 else {"conversations": sharegpt}))
    lines.append(json.dumps({"messages": [{"role": "assistant", "content": "Hello"}]}))
    (folder / "talks.jsonl").write_text("\n".join(lines))


@pytest.mark.usefixtures("mlflow")
def test_conversations_are_answered_from_data_to_the_gate(
    tmp_path: Path, tiny_model: Path, fitted: list[list[int]]
) -> None:
    _talks(tmp_path / "talks" / "landing", 60)
    path = desk.usecase(tmp_path, tiny_model, tmp_path / "talks", gate=desk.LENIENT, finetune={"turns": "all"})
    raw = yaml.safe_load(path.read_text())
    raw["data"]["columns"] = {
        "number": {"role": "id", "source": "_id", "required": True},
        "talk": {"role": "input", "type": "conversation", "source": "conversation", "required": True},
        "answer": {"role": "label", "required": True},
    }
    raw["data"] |= {"text": "{{ talk }}", "min_rows": 20}
    raw["data"]["split"] |= {"train": 0.6, "validation": 0.1, "test": 0.3}
    raw["prompt"] = {"format": "conversation", "system": "Be brief.", "template": "{{ text }}"}
    path.write_text(yaml.safe_dump(raw))
    done = chain(usecase=str(path))
    assert done["gate"]["verdict"] == "pass", done["gate"]["reasons"]
    assert done["data"]["rows"] == 60 and done["data"]["meta"]["masked"]["phone"] == 60

    rows = _rows(done["version"], "test")
    assert all("[phone]" in row["text"] and "555" not in row["text"] for row in rows)
    asked = interface.of_release(done["package"])
    from transformers import AutoTokenizer

    names = AutoTokenizer.from_pretrained(artifacts.fetch(done["package"]))
    asked_for = [tokens.fit(names, [asked.render_prompt(row["text"])], asked.max_length, 12)[0] for row in rows]
    assert {tuple(one) for one in asked_for} <= {tuple(one) for one in fitted}
    assert _prompts(encode(asked, names, rows)) == asked_for
    fitted.clear()
    _served(done["package"], [row["text"] for row in rows[:5]])
    assert fitted == asked_for[:5]
