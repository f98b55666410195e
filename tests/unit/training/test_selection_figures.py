"""What a model is worth is measured, or the problem is told."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from llmops_tasks import config
from llmops_tasks.config import UseCase
from llmops_tasks.training.selection_figures import figures, parameters, prompts
from tests.support import foreign
from tests.support.choosing import rows


def test_examples_stand_before_the_question() -> None:
    case = config.load("triage")
    asked, shown = rows(case)[:1], rows(case)[1:3]
    assert prompts(case, asked, []) == ["Note: note 0\nPriority:"]
    assert prompts(case, asked, shown) == [
        "Note: note 1\nPriority: emergent\n\nNote: note 2\nPriority: urgent\n\nNote: note 0\nPriority:"
    ]


def _figures(case: UseCase, folder: Path, **row: Any) -> Any:
    given = rows(case, 24, **row)
    return figures(case=case, folder=folder, rows=given[2:], shots=given[:2], context=None)[0]


def test_labels_that_begin_alike_are_a_problem_not_a_figure(tiny_model: Path) -> None:
    case = config.load("triage")
    labels = [label.model_copy(update={"text": " less"}) for label in case.task.labels]
    found = _figures(case.model_copy(update={"task": case.task.model_copy(update={"labels": labels})}), tiny_model)
    assert found["few_shot"] is found["zero_shot"] is None
    assert "are the same tokens" in found["problems"][0]
    assert found["bits_per_character"]["value"] > 0


def test_prompts_beyond_the_context_are_a_problem(tiny_model: Path) -> None:
    found = _figures(config.load("triage"), tiny_model, text="pain " * 200)
    assert found["few_shot"] is None
    assert found["problems"] == ["A prompt with examples has 637 tokens, its context 512."]


def test_a_model_that_cannot_be_asked_in_chats_is_measured_and_the_problem_reported(
    tmp_path: Path, tiny_model: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    case = config.load("triage")
    case = case.model_copy(update={"prompt": case.prompt.model_copy(update={"format": "chat"})})
    assert _figures(case, tmp_path / "model")["problems"] == []
    (tmp_path / "model" / "chat_template.jinja").unlink()
    found = _figures(case, tmp_path / "model")
    assert found["few_shot"] is None and found["tokens_per_second"] > 0
    assert found["problems"][0].startswith("This model has no chat template.")


def test_a_model_that_cannot_be_trained_as_asked_is_measured_and_the_obstacle_reported(
    tmp_path: Path, tiny_model: Path
) -> None:
    """A small Phi-3, which has not all of the layers that the use case gives LoRA matrices. It answers all the same."""
    foreign.write(tmp_path, "phi3", tiny_model, max_position_embeddings=1024)
    found = _figures(config.load("triage"), tmp_path)
    assert found["few_shot"] is not None and found["problems"] == []
    (obstacle,) = found["obstacles"]
    assert obstacle.startswith("finetune.target_modules names ['q_proj',") and "'all-linear'" in obstacle


def test_generated_answers_are_measured_by_the_cost_of_their_text(tiny_model: Path) -> None:
    found = _figures(config.load("faq"), tiny_model)
    assert found["problems"] == [] and found["few_shot"] is None
    assert found["bits_per_character"]["value"] > 0 and found["tokens_per_second"] > 0


def test_what_two_layers_share_is_counted_once_in_any_number_of_files(tmp_path: Path, tiny_model: Path) -> None:
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(tiny_model).save_pretrained(tmp_path, max_shard_size="200KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert parameters(tmp_path) == parameters(tiny_model)
