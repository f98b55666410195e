"""Every method and strategy ends in something that can be packaged and asked."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.config import Finetune
from llmops_tasks.config.data import Augment
from llmops_tasks.config.decoding import Decoding
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data.augment import augmented
from llmops_tasks.errors import ConfigError, InputError, ModelError
from llmops_tasks.models import loading
from llmops_tasks.models.generator import open_generator
from llmops_tasks.prompts.interface import of_usecase
from llmops_tasks.release.packaging import package_release
from llmops_tasks.store import artifacts, objects
from llmops_tasks.training import finetuning as room
from llmops_tasks.training import loop, trainable, training_plan
from llmops_tasks.training.examples import Example, blocks, encode
from llmops_tasks.training.finetuning import finetune
from tests.support import datasets, tiny
from tests.unit.training.conftest import small_dataset

pytestmark = pytest.mark.usefixtures("mlflow")
Make = Callable[..., dict[str, Any]]
PROMPTS = ["Note: with pain\nPriority:", "Note: note number 3\nPriority:"]
ANSWERS = [" urgent", " less", " emergent", " non"]


def _package(arguments: dict[str, Any], trained: ArtifactRef) -> ArtifactRef:
    return package_release(
        usecase=arguments["usecase"], trained=trained, base=arguments["start"], dataset=arguments["dataset"]
    )


def _weights(ref: ArtifactRef, name: str = "adapter_model.safetensors") -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(artifacts.fetch(ref) / name)


def _distance(one: dict[str, Any], two: dict[str, Any]) -> float:
    assert set(one) == set(two) != set()
    return max(float((one[name] - two[name]).abs().max()) for name in one)


def test_over_four_bits_the_frozen_layers_are_small_and_the_loss_falls(training: Make) -> None:
    import bitsandbytes

    arguments = training(method="qlora", epochs=4, learning_rate=0.02, dropout=0.0)
    folder = artifacts.fetch(arguments["start"])
    layer = loading.load_model(folder, four_bits=True)[0].model.layers[0].mlp.up_proj
    assert isinstance(layer, bitsandbytes.nn.Linear4bit)
    assert layer.weight.numel() * layer.weight.element_size() * 2 == 64 * 128  # half a byte a weight
    trained = finetune(**arguments)
    losses = objects.read_json(f"{trained['uri']}/training.json")["losses"]
    assert trained["kind"] == "adapter" and sum(losses[-3:]) < sum(losses[:3]) - 1
    release = _package(arguments, trained)
    assert _weights(release, "model.safetensors")["model.layers.1.mlp.up_proj.weight"].dtype.is_floating_point


@pytest.mark.parametrize(
    "kind",
    [{"rslora": True}, {"dora": True}, {"modules_to_save": ["norm"]}, {"schedule": "cosine", "weight_decay": 0.1, "clip": 0.5}],
    ids=lambda kind: next(iter(kind)),
)  # fmt: skip
def test_every_kind_of_lora_learns_and_its_release_is_what_was_trained(training: Make, kind: dict[str, Any]) -> None:
    arguments = training(epochs=4, learning_rate=0.02, dropout=0.0, **kind)
    trained = finetune(**arguments)
    losses = objects.read_json(f"{trained['uri']}/training.json")["losses"]
    assert sum(losses[-3:]) < sum(losses[:3]) - 1
    assert _distance(_weights(trained), _weights(finetune(**training(epochs=4, learning_rate=0.02, dropout=0.0)))) > 1e-3 if set(kind) & {"rslora", "schedule"} else True  # fmt: skip
    case = config.load(arguments["usecase"])
    held_out = encode(of_usecase(case), _tokenizer(arguments), training_plan.rows(arguments["dataset"], "validation"))
    assert _loss_on(_package(arguments, trained), held_out) == pytest.approx(trained["meta"]["held_out_loss"], abs=1e-3)


def test_a_module_that_is_not_there_or_belongs_to_lora_is_refused(training: Make) -> None:
    with pytest.raises(ModelError, match=r"modules_to_save names \['lm_haed'\].* Did you mean 'lm_head'"):
        finetune(**training(modules_to_save=["lm_haed"]))
    with pytest.raises(ModelError, match="shares its weights"):
        finetune(**training(modules_to_save=["lm_head"]))
    with pytest.raises(ConfigError, match="belong to LoRA"):
        finetune(**training(method="full", dora=True))


def test_in_bf16_frozen_weights_are_small_what_is_trained_is_fp32_and_the_loss_falls(training: Make) -> None:
    import torch

    arguments = training(precision="bf16", epochs=4, learning_rate=0.02, dropout=0.0)
    model, _ = trainable.load(artifacts.fetch(arguments["start"]), config.load(arguments["usecase"]).finetune)
    state = trainable.prepare(model, config.load(arguments["usecase"]).finetune, 48)
    frozen = {value.dtype for value in state.model.parameters() if not value.requires_grad}
    assert (frozen, {value.dtype for value in state.trained.values()}) == ({torch.bfloat16}, {torch.float32})
    assert state.layerwise and state.cut == 1
    trained = finetune(**arguments)
    whole = finetune(**training(epochs=4, learning_rate=0.02, dropout=0.0))
    losses = objects.read_json(f"{trained['uri']}/training.json")["losses"]
    assert sum(losses[-3:]) < sum(losses[:3]) - 1
    assert trained["meta"]["held_out_loss"] == pytest.approx(whole["meta"]["held_out_loss"], rel=0.15)
    kept = objects.find(f"{objects.store_uri()}/tiny/activations/*/hidden.safetensors")
    sizes = sorted(objects.local_path(uri).stat().st_size for uri in kept)
    assert sizes[0] < 0.6 * sizes[1] and sizes[-2] < 0.6 * sizes[-1]  # in half the bytes


def test_all_weights_are_trained_in_fp32_whatever_products_are_in(training: Make) -> None:
    import torch

    settings = Finetune(method="full", precision="bf16")
    model, _ = trainable.load(artifacts.fetch(training()["start"]), settings)
    assert {value.dtype for value in model.parameters()} == {torch.float32}


def test_frozen_layers_that_would_take_too_much_disk_run_at_every_step_with_the_same_result(
    training: Make, caplog: pytest.LogCaptureFixture
) -> None:
    kept = finetune(**training(dropout=0.0))
    found = objects.find(f"{objects.store_uri()}/tiny/activations/*/*.safetensors")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMOPS_STORE", f"{objects.store_uri()}-other")
        again = finetune(**training(dropout=0.0, activations_gib=1e-9))
        assert objects.find(f"{objects.store_uri()}/tiny/activations/*/*") == []
    assert found and "finetune.activations_gib allows 1e-09: they run at every step" in caplog.text
    assert _distance(_weights(kept), _weights(again)) < 1e-5


def test_an_ensemble_averages_its_members(training: Make) -> None:
    arguments = training(members=3)
    trained = finetune(**arguments)
    alone = finetune(**training(seed=8))
    second = _weights(trained, "members/1/adapter_model.safetensors")
    assert _distance(second, _weights(alone)) == 0  # member 1 is what its seed alone gives
    assert _distance(second, _weights(trained, "members/2/adapter_model.safetensors")) > 1e-3
    release = _package(training(members=3), trained)
    assert (trained["meta"]["members"], release["meta"]["members"]) == (3, 3)
    folder = artifacts.fetch(release)
    found = open_generator("transformers", folder).scores(PROMPTS, ANSWERS, 2)
    rows = [open_generator("transformers", folder / "members" / str(n)).scores(PROMPTS, ANSWERS, 2) for n in range(3)]
    for prompt in range(2):
        means = [sum(row[prompt][answer] for row in rows) / 3 for answer in range(4)]
        assert found[prompt] == pytest.approx(means, abs=1e-12)
    bits = [open_generator("transformers", folder / "members" / str(n)).bits("Note:", PROMPTS) for n in range(3)]
    mean = [-math.log2(sum(2 ** -row[text] for row in bits) / 3) for text in range(2)]
    assert open_generator("transformers", folder).bits("Note:", PROMPTS) == pytest.approx(mean, rel=1e-9)
    with pytest.raises(InputError, match="cannot write"):
        open_generator("transformers", folder).generate(PROMPTS, Decoding(), 2)


def test_the_cost_of_an_ensemble_is_that_of_all_members_and_the_frozen_layers_is_run_once(training: Make) -> None:
    members = [
        {
            "steps": 6,
            "held_out_loss": loss,
            "actual.seconds": 2.5,
            "estimated.price": 1.0,
            "actual.memory_mib": 9 - loss,
        }
        | {"cpu_seconds_per_1000_records": loss}
        for loss in (1.0, 2.0)
    ]
    whole = {"steps": 6, "held_out_loss": 1.5, "actual.seconds": 5.0, "estimated.price": 2.0, "actual.memory_mib": 8.0}
    whole["cpu_seconds_per_1000_records"] = 3.0
    assert room._together(members) == whole
    assert finetune(**training(members=2))["meta"]["steps"] == 6
    assert len(objects.find(f"{objects.store_uri()}/tiny/activations/*/*.safetensors")) == 2  # train, held out


def test_training_can_start_from_a_release(training: Make) -> None:
    """Transfer and going on: the release's weights, also below what is trained."""
    first = training(learning_rate=0.02, dropout=0.0)
    before = finetune(**first)
    release = _package(first, before)
    again = {**training(learning_rate=1e-6, dropout=0.0), "start": release}
    trained = finetune(**again)
    fresh = finetune(**training(learning_rate=1e-6, dropout=0.0))
    assert trained["meta"]["held_out_loss"] == pytest.approx(before["meta"]["held_out_loss"], abs=1e-2)
    assert trained["meta"]["held_out_loss"] < fresh["meta"]["held_out_loss"] - 0.5
    assert trained["key"] != fresh["key"]


def test_what_is_left_is_reported_in_seconds_of_this_process() -> None:
    told: list[tuple[int, float]] = []
    plan = [[0]] * 10
    training_set = loop.TrainingSet([loop.Example([1], [1])], None, plan)
    with pytest.MonkeyPatch.context() as patch:
        clock = iter(range(100))
        patch.setattr(loop.time, "monotonic", lambda: float(next(clock)))
        patch.setattr(loop, "step", lambda *_: 1.0)
        loop.run(
            trainable.State(None, {}, None, 0),
            Finetune(),
            training_set,
            6,
            lambda made, _, left: told.append((made, left)),  # type: ignore[func-returns-value]
        )
    assert told == [(7, 3.0), (8, 2.0), (9, 1.0), (10, 0.0)]  # a second a step, whatever was made before
    assert math.isfinite(told[0][1])


def test_gradients_over_four_bits_are_those_over_the_same_weights_in_fp32(training: Make) -> None:
    """Through both layers: what a layer hands down must be right, too."""
    import torch
    from bitsandbytes.functional import dequantize_4bit

    folder = artifacts.fetch(training()["start"])
    settings = Finetune(top_layers=2, batch_size=4, precision="fp32")
    four, plain = loading.load_model(folder, four_bits=True)[0], loading.load_model(folder)[0]
    layers = {name: layer for name, layer in four.named_modules() if hasattr(layer, "quant_state")}
    with torch.no_grad():
        for name, layer in plain.named_modules():
            if getattr(layers.get(name), "quant_state", None) is not None:
                layer.weight.copy_(dequantize_4bit(layers[name].weight.data, layers[name].quant_state))
    examples = [loop.Example([3 + n, 50, 7 * n], [loop.IGNORED, loop.IGNORED, 9 + n]) for n in range(3)]
    found = []
    for model in (four, plain):
        torch.manual_seed(0)
        state = trainable.prepare(model, settings, 8)
        with torch.no_grad():
            for value in state.trained.values():
                value.normal_(std=0.02)
        loop._gradients(state, settings, 0, examples, None)
        found.append({name: value.grad.clone() for name, value in state.trained.items()})
    assert len(layers) == 14
    assert _distance(*found) < 1e-4 < max(float(value.abs().max()) for value in found[1].values())


# ---------------------------------------------------------------- strategies show an effect


def _loss_on(release: ArtifactRef, records: list[Example]) -> float:
    state = trainable.State(loading.load_model(artifacts.fetch(release))[0], {}, None, 0)
    return loop.mean_loss(state, Finetune(batch_size=8, precision="fp32"), records, None)


def _tokenizer(arguments: dict[str, Any]) -> Any:
    return loading.load_model(artifacts.fetch(arguments["start"]))[1]


def test_texts_of_the_domain_are_trained_on(training: Make) -> None:
    settings = {"learning_rate": 0.01, "dropout": 0.0}
    tokenizer = _tokenizer(training())
    texts = [row["text"] for row in training_plan.rows(training()["dataset"], "validation")]  # not those trained on
    losses = []
    for domain in (None, {"usecases": ["own"], "epochs": 4, "block": 32}):
        arguments = training(**settings, domain=domain)
        losses.append(_loss_on(_package(arguments, finetune(**arguments)), blocks(tokenizer, texts, 32)))
    assert losses[1] < losses[0] - 0.5


def test_other_use_cases_are_trained_on_too(
    training: Make, tmp_path: Path, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "usecases"
    path = tiny.usecase(
        folder, tiny_model, "file:///none/*.csv", name="other", prompt={"template": "Other: {{ text }}\nIs:"}
    )
    monkeypatch.setenv("LLMOPS_USECASES", str(folder))
    other = small_dataset(24, 6, "other", (" red", " green", " blue", " white"))
    test_records = encode(
        of_usecase(config.load(str(path))), _tokenizer(training()), training_plan.rows(other, "validation")
    )
    losses = []
    for mix in ({}, {"other": 1.0}):
        arguments = training(learning_rate=0.02, dropout=0.0, epochs=2, mix=mix)
        losses.append(_loss_on(_package(arguments, finetune(**arguments)), test_records))
    assert losses[1] < losses[0] - 0.5


def test_synthetic_records_bring_other_words(training: Make) -> None:
    """Measured on words that stand in no record but a paraphrase."""
    words = {"pain": ["ache"], "rash": ["itch"], "fever": ["heat"], "refill": ["renewal"]}
    written, others = list(words), [other for (other,) in words.values()]

    def rows(said: list[str]) -> list[dict[str, Any]]:
        return [
            {"record_id": f"r{n}", "text": f"note {n} with {said[n % 4]}", "label": ANSWERS[n % 4]} for n in range(24)
        ]

    own = [{**row, "completion": row["label"], "split": "train"} for row in rows(written)]
    arguments, losses = training(method="full", learning_rate=0.003, epochs=8), []
    test_records = encode(
        of_usecase(config.load(arguments["usecase"])),
        _tokenizer(arguments),
        [{**row, "completion": row["label"]} for row in rows(others)],
    )
    for made in (own, augmented(own, Augment(paraphrase=words))):
        arguments["dataset"] = datasets.publish([*made, *({**row, "split": "validation"} for row in own[:4])])
        losses.append(_loss_on(_package(arguments, finetune(**arguments)), test_records))
    assert losses[1] < losses[0] - 0.5
