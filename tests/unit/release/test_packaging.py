"""A release is the trained model, whole: the same answers, and everything needed to give them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import IntegrityError
from llmops_tasks.release import packaging
from llmops_tasks.release.packaging import package_release
from llmops_tasks.store import artifacts, objects


def test_merged_weights_answer_like_base_and_adapter(world: Any, trained: ArtifactRef, released: ArtifactRef) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = artifacts.fetch(released)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer("Triage note: crushing chest pain, sweating\nPriority:", return_tensors="pt")
    base = AutoModelForCausalLM.from_pretrained(artifacts.fetch(world.base))
    with torch.inference_mode():
        before = base(**tokens).logits
        adapted = PeftModel.from_pretrained(base, artifacts.fetch(trained)).eval()(**tokens).logits
        merged = AutoModelForCausalLM.from_pretrained(folder, use_safetensors=True).eval()(**tokens).logits
    assert (merged - adapted).abs().max() < 1e-4
    assert (merged - before).abs().max() > 1e-3  # the adapter does something


def test_a_release_has_weights_tokenizer_settings_and_card(world: Any, released: ArtifactRef) -> None:
    folder = artifacts.fetch(released)
    names = {path.name for path in folder.iterdir()}
    assert {"model.safetensors", "config.json", "tokenizer.json", "release.json", "README.md"} <= names
    assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl", ".py"))]
    settings = objects.read_json(f"{released['uri']}/release.json")
    case = config.load(world.usecase)
    assert settings["prompt"]["template"] == case.prompt.template
    assert [label["name"] for label in settings["task"]["labels"]] == [label.name for label in case.task.labels]


def test_packing_twice_is_one_release(
    world: Any, trained: ArtifactRef, released: ArtifactRef, monkeypatch: Any, tmp_path: Path
) -> None:
    given: dict[str, Any] = {"usecase": world.usecase, "trained": trained, "base": world.base, "dataset": world.dataset}
    again = package_release(**given)
    assert again["sha256"] == released["sha256"]  # made anew in another home, the same bytes
    assert package_release(**given) == again


def test_stamps_of_the_training_run_travel_with_the_release(world: Any, trained: ArtifactRef) -> None:
    marked: ArtifactRef = {**trained, "meta": {**trained["meta"], "smoke": True, "control": "shuffled_labels"}}
    ref = package_release(usecase=world.usecase, trained=marked, base=world.base, dataset=world.dataset)
    assert (ref["meta"]["smoke"], ref["meta"]["control"]) == (True, "shuffled_labels")
    card = (artifacts.fetch(ref) / "README.md").read_text(encoding="utf-8")
    assert "**Not for use: negative control: shuffled_labels, smoke run. It can never be promoted.**" in card


def test_a_base_in_bf16_stays_in_bf16_and_is_written_shard_by_shard(
    world: Any, trained: ArtifactRef, released: ArtifactRef, monkeypatch: Any, tmp_path: Path
) -> None:
    import torch
    from transformers import AutoTokenizer

    from llmops_tasks.models import loading

    model, tokenizer = loading.load_model(artifacts.fetch(world.base), "bf16")
    model.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    monkeypatch.setattr(packaging, "SHARD", "1MB")
    packaging._write_model(tmp_path / "base", artifacts.fetch(trained), "adapter", tmp_path / "release")
    assert loading.stored_format(tmp_path / "release") == "bf16"
    assert len(list((tmp_path / "release").glob("model-*.safetensors"))) > 1
    tokens = AutoTokenizer.from_pretrained(tmp_path / "release")("Note: pain\nPriority:", return_tensors="pt")
    with torch.inference_mode():
        found = loading.load_model(tmp_path / "release")[0](**tokens).logits
        whole = loading.load_model(artifacts.fetch(released))[0](**tokens).logits
    assert (found - whole).norm() < 0.02 * whole.norm()


def test_in_int8_the_quantised_files_are_released_calibrated_and_evaluated(
    world: Any, trained: ArtifactRef, released: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmops_tasks.evaluation.quality import evaluate
    from llmops_tasks.models import calibration, int8

    raw = yaml.safe_load(Path(world.usecase).read_text(encoding="utf-8"))
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(raw | {"inference": {"precision": "int8"}}), encoding="utf-8")
    usecase, opened, load = str(tmp_path / "tiny.yaml"), [], int8.load
    monkeypatch.setattr(int8, "load", lambda folder: (opened.append(folder), load(folder))[1])
    monkeypatch.setattr(calibration, "MIN_RECORDS", 1)
    ref = package_release(usecase=usecase, trained=trained, base=world.base, dataset=world.dataset)
    assert len(opened) == 1  # what ships is what is calibrated
    assert objects.read_json(f"{ref['uri']}/release.json")["number_format"] == "int8"
    folder = artifacts.fetch(ref)
    assert (folder / "model.safetensors").read_bytes() == (artifacts.fetch(released) / "model.safetensors").read_bytes()
    given: dict[str, Any] = {"usecase": usecase, "dataset": world.dataset, "asked_as": ref, "split": "validation"}
    candidate = evaluate(subject="candidate", model=ref, **given)
    assert opened[1:] == [folder]
    assert evaluate(subject="base", model=world.base, **given)["n"] == candidate["n"]
    assert opened[1:] == [folder]  # a base model has no such files, and needs none
    graph = folder / int8.FOLDER / "model.bin"
    graph.write_bytes(graph.read_bytes()[:-1] + b"?")
    with pytest.raises(IntegrityError, match=r"openvino/model\.bin' is damaged"):
        artifacts.fetch(ref)
