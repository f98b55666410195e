"""Whatever transformers can load is evaluated, fine-tuned and served, also where its layers cannot be run one by one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.models.generator import open_generator
from llmops_tasks.release.packaging import package_release
from llmops_tasks.store import artifacts, objects
from llmops_tasks.training.base_model import fetch_base_model
from llmops_tasks.training.finetuning import finetune
from llmops_tasks.training.preferences import tune_preferences
from tests.support import foreign, pairs, tiny
from tests.unit.training.conftest import small_dataset

pytestmark = pytest.mark.usefixtures("mlflow")
KINDS = ["gemma3", "glm", "gpt2", "granite", "mistral", "mixtral", "phi3-window"]
PROMPTS = [
    "Note: with pain\nPriority:",
    "Note: number 3, and much more of this than sixteen tokens hold, with pain\nPriority:",
]
ANSWERS = [" urgent", " less", " emergent", " non"]
Make = Callable[..., dict[str, Any]]


@pytest.fixture
def training(tmp_path: Path, tiny_model: Path) -> Make:
    """Arguments of `finetune` for a base model of a kind."""

    def make(kind: str, **settings: Any) -> dict[str, Any]:
        model = foreign.write(tmp_path / kind, kind, tiny_model)
        plain = {"batch_size": 8, "learning_rate": 0.01, "max_length": 64, "epochs": 3, "target_modules": "all-linear"}
        path = str(tiny.usecase(tmp_path / "usecases", model, "file:///none/*.csv", finetune=plain | settings))
        return {"usecase": path, "dataset": small_dataset(), "start": fetch_base_model(usecase=path)}

    return make


def _by_transformers(folder: Path) -> list[list[float]]:
    """The labels' shares, from whole logits of one prompt at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    first = [tokenizer(answer)["input_ids"][0] for answer in ANSWERS]
    with torch.inference_mode():
        asked = (model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1, first] for prompt in PROMPTS)
        return [torch.softmax(logits.double(), -1).tolist() for logits in asked]


def _losses(ref: ArtifactRef) -> list[float]:
    found: list[float] = objects.read_json(f"{ref['uri']}/training.json")["losses"]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_asked_as_transformers_asks_it(kind: str, tmp_path: Path, tiny_model: Path) -> None:
    folder = foreign.write(tmp_path / kind, kind, tiny_model)
    found = open_generator("transformers", folder).scores(PROMPTS, ANSWERS, 2)
    assert found == [pytest.approx(row, abs=1e-4) for row in _by_transformers(folder)]


@pytest.mark.parametrize(
    ("kind", "method"), [*((kind, "lora") for kind in KINDS), ("glm", "full"), ("gpt2", "full"), ("mistral", "full")]
)
def test_it_is_tuned_and_the_release_serves(kind: str, method: str, training: Make) -> None:
    arguments = training(kind, method=method, recompute=kind == "granite")
    trained = finetune(**arguments)
    losses = _losses(trained)
    assert sum(losses[-3:]) < sum(losses[:3]) - 1
    assert bool(trained["meta"]["lora"]) == (method == "lora")
    release = package_release(
        usecase=arguments["usecase"], trained=trained, base=arguments["start"], dataset=arguments["dataset"]
    )
    folder = artifacts.fetch(release)
    found = open_generator("transformers", folder).scores(PROMPTS, ANSWERS, 2)
    assert found == [pytest.approx(row, abs=1e-4) for row in _by_transformers(folder)]


def test_packed_records_do_not_see_each_other_where_nothing_is_packed(training: Make) -> None:
    """A model that is run whole may ignore the mask that keeps records of a row apart: each has a row of its own."""
    losses = [_losses(finetune(**training("mistral", packing=packing, epochs=1))) for packing in (False, True)]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


def test_it_learns_from_corrections(training: Make) -> None:
    arguments = training("glm", start="champion", preferences={"learning_rate": 5e-3, "epochs": 4, "min_pairs": 10})
    tuned = tune_preferences(usecase=arguments["usecase"], pairs=pairs.publish(24), start=arguments["start"])
    assert tuned["meta"]["preferred.after"] > tuned["meta"]["preferred.before"]
    assert set(tuned["meta"]["lora"]) == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj"}
