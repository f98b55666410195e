"""Checkpoints: whole or not believed, the newest verified one counts, few are kept."""

from __future__ import annotations

import errno
import logging
import os
import resource
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.errors import StorageError
from llmops_tasks.store import objects
from llmops_tasks.training import checkpoints
from tests.support.stored import place

RUN = "r" * 64


class Training:
    """Two parameters and their optimizer, stepped on a fixed gradient."""

    def __init__(self) -> None:
        import torch

        self.trained = {"a": torch.ones(3, requires_grad=True), "b": torch.zeros(2, 2, requires_grad=True)}
        self.optimizer = torch.optim.AdamW(self.trained.values(), lr=0.1)
        self.losses: list[float] = []
        self.best: dict[str, Any] = {}

    def step(self) -> None:
        import torch

        for value in self.trained.values():
            value.grad = torch.full_like(value, 0.5 + len(self.losses))
        self.optimizer.step()
        self.losses.append(1 / (1 + len(self.losses)))

    def save(self, step: int) -> None:
        meta = {"losses": self.losses, "fits": "these"}
        tensors = checkpoints.snapshot(self.trained, self.optimizer, self.best)
        checkpoints.save(usecase="tiny", run=RUN, step=step, tensors=tensors, meta=meta)

    def resume(self) -> tuple[int, list[float]]:
        step, meta = checkpoints.resume(
            usecase="tiny", run=RUN, fits="these", trained=self.trained, optimizer=self.optimizer, best=self.best
        )
        return step, meta.get("losses", [])

    def values(self) -> list[Any]:
        return [value.tolist() for value in self.trained.values()]


def _saved(*steps: int) -> Training:
    training = Training()
    for step in range(1, max(steps) + 1):
        training.step()
        if step in steps:
            training.save(step)
    return training


def _folders() -> list[Path]:
    return sorted(objects.local_path(checkpoints.folder_of("tiny", RUN)).glob("step-*"))


def test_without_a_checkpoint_training_begins_at_the_beginning() -> None:
    assert Training().resume() == (0, [])


def test_weights_moments_and_losses_come_back() -> None:
    import torch

    old, new = _saved(3), Training()
    assert new.resume() == (3, old.losses)
    assert new.values() == old.values()
    for name in old.trained:
        for moment in ("exp_avg", "exp_avg_sq", "step"):
            one, two = (t.optimizer.state[t.trained[name]][moment] for t in (old, new))
            assert torch.equal(one, two)


def test_what_follows_is_what_would_have_followed() -> None:
    old, new = _saved(3), Training()
    new.losses = new.resume()[1]
    for training in (old, new):
        training.step()
        training.step()
    assert (new.values(), new.losses) == (old.values(), old.losses)


def test_the_newest_ones_are_kept() -> None:
    _saved(1, 2, 3, 4)
    assert [path.name for path in _folders()] == ["step-000003", "step-000004"]


@pytest.mark.parametrize("file", ["state.safetensors", "_manifest.json"])
def test_a_torn_newest_one_is_named_passed_over_and_can_be_written_again(
    file: str, caplog: pytest.LogCaptureFixture
) -> None:
    old = _saved(1, 2)
    path = _folders()[-1] / file
    path.write_bytes(path.read_bytes()[:-7])
    new = Training()
    with caplog.at_level(logging.WARNING):
        assert new.resume() == (1, old.losses[:1])
    assert "checkpoint ignored" in caplog.text and "step-000002" in caplog.text
    new.losses = old.losses[:1]
    new.step()
    new.save(2)
    assert Training().resume() == (2, old.losses)


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"files": {}, "meta": null}'])
def test_a_manifest_that_is_none_is_passed_over(text: str) -> None:
    _saved(1, 2)
    (_folders()[-1] / "_manifest.json").write_text(text)
    assert Training().resume()[0] == 1


def test_losses_that_were_changed_are_not_believed() -> None:
    """What a run goes on with has a digest, all of it."""
    _saved(1, 2)
    path = _folders()[-1] / "meta.json"
    path.write_text(path.read_text().replace("1.0", "2.0"))
    assert Training().resume()[0] == 1


def test_a_folder_of_another_name_is_none_of_them() -> None:
    _saved(1, 2)
    shutil.copytree(_folders()[-1], _folders()[-1].with_name("step-old"))
    assert Training().resume()[0] == 2


def test_what_no_gradient_has_reached_is_kept_without_moments() -> None:
    """An expert that no token has met yet."""
    import torch

    old, new = Training(), Training()
    old.trained["a"].grad = torch.ones(3)
    old.optimizer.step()
    old.save(1)
    assert new.resume()[0] == 1
    assert new.values() == old.values() and new.trained["b"] not in new.optimizer.state


def test_one_without_a_manifest_is_not_seen() -> None:
    _saved(1, 2)
    (_folders()[-1] / "_manifest.json").unlink()
    assert Training().resume()[0] == 1


def test_all_torn_means_the_beginning() -> None:
    _saved(1, 2)
    for folder in _folders():
        (folder / "state.safetensors").write_bytes(b"")
    assert Training().resume() == (0, [])


def test_a_finished_run_leaves_none_and_no_other_run_is_touched_that_may_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    training = _saved(1)
    tensors = checkpoints.snapshot(training.trained, training.optimizer, {})
    checkpoints.save(usecase="tiny", run="s" * 64, step=1, tensors=tensors, meta={})
    checkpoints.clear(usecase="tiny", run=RUN)
    assert _folders() == []
    others = f"{checkpoints.folder_of('tiny', 's' * 64)}/*/_manifest.json"
    assert len(objects.find(others)) == 1
    monkeypatch.setattr(checkpoints.time, "time", lambda: time.time_ns() / 1e9 + 31 * 86_400)
    checkpoints.clear(usecase="tiny", run=RUN)
    assert objects.find(others) == []  # nobody has gone on with it for a month


def test_the_best_weights_so_far_come_back_with_it() -> None:
    import torch

    old, new = Training(), Training()
    old.step()
    old.best = {"a": torch.tensor([3.0, 4.0, 5.0])}
    old.save(1)
    assert new.resume() == (1, old.losses)
    assert list(new.best) == ["a"] and new.best["a"].tolist() == [3.0, 4.0, 5.0]


def test_a_snapshot_is_of_its_moment() -> None:
    """It is written while the next steps change the weights."""
    training = Training()
    training.step()
    before, taken = training.values(), checkpoints.snapshot(training.trained, training.optimizer, {})
    training.step()
    assert [taken[f"weight/{name}"].tolist() for name in ("a", "b")] == before != training.values()


def test_they_work_on_s3(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    old = _saved(1, 2, 3)
    assert len(objects.find(f"{checkpoints.folder_of('tiny', RUN)}/*/_manifest.json")) == 2
    torn = f"{checkpoints.folder_of('tiny', RUN)}/step-000003"
    objects.replace(place(torn, "state.safetensors"), b"torn")
    assert Training().resume() == (2, old.losses[:2])
    assert objects.find(f"{torn}/*") == []  # it would stand in the way of the one to come


def test_a_bad_copy_is_no_reason_to_drop_what_it_is_a_copy_of(s3: Any, home: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    old = _saved(1, 2)
    assert Training().resume()[0] == 2
    for copy in (home / "cache").rglob("state.safetensors"):
        copy.write_bytes(b"x" * copy.stat().st_size)  # the right size
    assert Training().resume() == (2, old.losses)
    save = objects._save

    def garbled(uri: str, path: Path, replaced: type[Exception]) -> str:
        """What arrives is not what was sent."""
        found = save(uri, path, replaced)
        return "0" * 64 if "step-000002" in uri else found

    shutil.rmtree(home / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(objects, "_save", garbled)
        assert Training().resume() == (1, old.losses[:1])
    assert Training().resume() == (2, old.losses)


@pytest.mark.parametrize("at", ["write", "fsync"])
def test_a_full_disk_is_a_clear_error_and_the_one_before_stays(
    at: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T12."""
    training = _saved(1)
    training.step()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    with monkeypatch.context() as patch, pytest.raises(StorageError, match=r"Free space"):
        if at == "fsync":
            patch.setattr(os, "fsync", full)
        else:
            resource.setrlimit(resource.RLIMIT_FSIZE, (64, before[1]))  # bytes: as if the disk ended there
        try:
            training.save(2)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [path.name for path in _folders()] == ["step-000001"]
    assert list((home / "tmp").iterdir()) == [] and not list(home.rglob("*.tmp"))
    assert Training().resume()[0] == 1
    training.save(2)
    assert Training().resume() == (2, training.losses)
