"""Checkpoints: published whole like any artifact, the newest verified one is resumed from.

Only safetensors and JSON; the order of batches and every dropout mask follow from seed and step,
so no generator's state needs to be kept.
"""

from __future__ import annotations

import json
import logging
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks.errors import IntegrityError, StorageError
from llmops_tasks.store import artifacts, digests, files, objects, retention
from llmops_tasks.training import sharding

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)
KEEP = 2
_META = "meta.json"
_NAMED = ("fits", "began")  # what is asked before a checkpoint is fetched, and stands in its manifest too
_FOLDER = re.compile(r"step-\d{6}")
ABANDONED_DAYS = 30  # a run without a new checkpoint for so long is abandoned


def folder_of(usecase: str, run: str) -> str:
    """Where the checkpoints of one training run are."""
    return f"{objects.store_uri()}/{usecase}/checkpoints/{run[:32]}"


def snapshot(
    trained: dict[str, torch.Tensor], optimizer: Any, best: dict[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Copies in main memory of weights, the optimizer's moments, and the best weights so far, by what and whose they are."""
    state = {f"weight/{name}": value for name, value in trained.items()}
    for name, value in trained.items():  # those that no gradient has reached yet have none
        state |= {f"{moment}/{name}": kept for moment, kept in optimizer.state.get(value, {}).items()}
    state |= {f"best/{name}": value for name, value in best.items()}
    return {name: sharding.whole(value.detach()).to("cpu", copy=True).contiguous() for name, value in state.items()}


def save(*, usecase: str, run: str, step: int, tensors: dict[str, torch.Tensor], meta: dict[str, Any]) -> None:
    """Publish a checkpoint after `step` steps, with whatever else JSON can hold, then drop all but the newest ones."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    def build(out: Path) -> dict[str, Any]:
        try:
            save_file(tensors, out / "state.safetensors")
        except SafetensorError as exc:  # its own kind of error, also for a full disk
            raise StorageError(
                f"Cannot write a checkpoint below '{files.home()}': {exc}. Free space, or set LLMOPS_HOME."
            ) from exc
        (out / _META).write_bytes(digests.canonical(meta))  # a file, so that its bytes are checked as all others'
        return {name: meta[name] for name in _NAMED if name in meta}

    uri = folder_of(usecase, run)
    artifacts.publish(
        usecase=usecase, kind="checkpoints", inputs={"run": run, "step": step}, build=build, at=f"{uri}/step-{step:06d}"
    )
    for old in _found(uri)[:-KEEP]:
        objects.remove_folder(old)


def resume(
    *,
    usecase: str,
    run: str,
    fits: str,
    trained: dict[str, torch.Tensor],
    optimizer: Any,
    best: dict[str, torch.Tensor],
) -> tuple[int, dict[str, Any]]:
    """Load the newest checkpoint whose bytes are those of its manifest.

    Args:
        usecase: name.
        run: that is gone on with.
        fits: what a checkpoint's meta must have under this name: it is of the same steps over the same parameters.
        trained: parameters to fill.
        optimizer: of these.
        best: filled with the best weights so far, if the checkpoint has any.

    Returns:
        (step, meta as saved); (0, {}) if there is none. Torn ones are named in the log and passed over; those that are
        torn in the store itself, and those of other steps, are dropped.
    """
    _drop_others(usecase, run, fits)
    for uri in reversed(_found(folder_of(usecase, run))):
        try:
            folder, _ = artifacts.fetch_at(uri)
        except IntegrityError as exc:
            log.warning("checkpoint ignored: %s", exc)
            if artifacts.is_damaged(uri):  # in the store itself, not on its way here
                objects.remove_folder(uri)  # or it would stand in the way of the one to come
            continue
        step = int(uri.rsplit("-", 1)[1])
        _restore(folder / "state.safetensors", trained, optimizer, best)
        log.info("resuming after step %d", step)
        return step, dict(json.loads((folder / _META).read_bytes()))
    return 0, {}


def newest(*, usecase: str, run: str, fits: str | None = None) -> dict[str, Any]:
    """Meta of the newest checkpoint, of those that fit if that matters; {} if the run was not begun."""
    metas = (_meta(uri) for uri in reversed(_found(folder_of(usecase, run))))
    return next((meta for meta in metas if meta and fits in (None, meta.get("fits"))), {})


def _meta(uri: str) -> dict[str, Any]:
    """As its manifest has it; {} where there is none to be read."""
    try:
        found = artifacts.at(uri)
    except IntegrityError:
        return {}
    return dict(found["meta"]) if found else {}


def _drop_others(usecase: str, run: str, fits: str) -> None:
    """They would be gone on from, or stand where those to come belong."""
    for uri in _found(folder_of(usecase, run)):
        meta = _meta(uri)
        if meta and meta.get("fits") != fits:
            log.warning("dropped a checkpoint that was made of other steps: %s", uri.rsplit("/", 1)[1])
            objects.remove_folder(uri)


def _restore(path: Path, trained: dict[str, torch.Tensor], optimizer: Any, best: dict[str, torch.Tensor]) -> None:
    import torch
    from safetensors.torch import load_file

    state = load_file(path)
    with torch.no_grad():
        for name, value in trained.items():
            value.copy_(sharding.like(state[f"weight/{name}"], value))
            if (kept_best := state.get(f"best/{name}")) is not None:
                best[name] = sharding.like(kept_best, value)
            moments = {moment: state.get(f"{moment}/{name}") for moment in ("exp_avg", "exp_avg_sq", "step")}
            if all(kept is not None for kept in moments.values()):
                optimizer.state[value] = {moment: sharding.like(kept, value) for moment, kept in moments.items()}


def clear(*, usecase: str, run: str) -> None:
    """Drop the checkpoints of a finished run, and those of abandoned runs."""
    for uri in _found(folder_of(usecase, run)):
        objects.remove_folder(uri)
    written: dict[str, float] = {}
    for manifest, when in objects.written(
        f"{objects.store_uri()}/{usecase}/checkpoints/*/step-*/{artifacts.MANIFEST}"
    ).items():
        folder = manifest.rsplit("/", 2)[0]
        written[folder] = max(when, written.get(folder, 0.0))
    for folder, when in written.items():
        if time.time() - when > ABANDONED_DAYS * retention.DAY:
            objects.remove_folder(folder)


def _found(uri: str) -> list[str]:
    """Checkpoint folders with a manifest, oldest first."""
    found = [name.rsplit("/", 1)[0] for name in objects.find(f"{uri}/step-*/{artifacts.MANIFEST}")]
    return [name for name in found if _FOLDER.fullmatch(name.rsplit("/", 1)[1])]
