"""kill -9 in the midst of training, and in the midst of writing a checkpoint: a rerun ends in the same bytes."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.models import onednn
from llmops_tasks.store import objects
from llmops_tasks.training.finetuning import finetune

pytestmark = pytest.mark.usefixtures("mlflow")
Make = Callable[..., dict[str, Any]]
ROOT = Path(__file__).parents[3]
# Runs the fine-tuning and ends itself without warning: after so many steps, or in so many calls of fsync of its
# second checkpoint, when some of its files are written and some are not.
VICTIM = """
import json, os, signal, sys
arguments, place, count = json.loads(sys.argv[1]), sys.argv[2], int(sys.argv[3])
from llmops_tasks.models import onednn
from llmops_tasks.store import artifacts
from llmops_tasks.training import checkpoints, finetuning, progress
onednn.SMALL = int(sys.argv[4])
def end():
    os.kill(os.getpid(), signal.SIGKILL)
if place == "step":
    whole = progress.Progress.after_step
    def after(*given):
        whole(*given)
        if given[2] == count:
            given[1].writer.finish()  # what was begun before the step is written
            end()
    progress.Progress.after_step = after
else:
    save, fsync, seen = checkpoints.save, artifacts.fsync_path, []
    def saving(**given):
        if given["step"] == 4:
            def sync(path):
                seen.append(path)
                if len(seen) == count:
                    end()
                fsync(path)
            artifacts.fsync_path = sync
        save(**given)
    checkpoints.save = saving
finetuning.finetune(**arguments)
"""


def _kill(python: list[str], arguments: dict[str, Any], place: str, count: int) -> None:
    done = subprocess.run(
        [*python, "-c", VICTIM, json.dumps(arguments), place, str(count), str(onednn.SMALL)],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 128 + signal.SIGKILL, done.stderr.decode()[-2000:]


def _losses(ref: Any) -> list[float]:
    found: list[float] = objects.read_json(f"{ref['uri']}/training.json")["losses"]
    return found


def _undisturbed(arguments: dict[str, Any]) -> Any:
    """What the same run gives that nobody ends, in a store of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMOPS_STORE", f"{objects.store_uri()}-undisturbed")
        return finetune(**arguments)


def test_killed_in_the_midst_of_an_epoch_and_of_a_checkpoint(training: Make, python: list[str]) -> None:
    """One home, killed three times: after an odd step, while a checkpoint is written, and again later."""
    arguments = training(packing=True, accumulate=2)
    whole = _undisturbed(arguments)
    _kill(python, arguments, "step", 3)
    _kill(python, arguments, "checkpoint", 2)
    folder = objects.local_path(f"{objects.store_uri()}/tiny/checkpoints")
    torn = [path.name for path in folder.rglob(".step-000004.*")]
    assert torn  # it was being written
    assert {path.name for path in folder.glob("*/step-*")} == {"step-000002"}
    _kill(python, arguments, "step", 5)
    ref = finetune(**arguments)
    assert _losses(ref) == _losses(whole) and len(_losses(ref)) == 6  # bit for bit, as JSON keeps every digit
    assert ref["sha256"] == whole["sha256"]
    assert ref["meta"]["resumed_after"] == 4
    assert objects.find(f"{objects.store_uri()}/tiny/checkpoints/*/*/*") == []


def test_killed_where_every_product_is_one_of_onednn(
    training: Make, python: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of so small a model are left to torch otherwise; without dropout LoRA is part of them."""
    monkeypatch.setattr(onednn, "SMALL", 1)
    arguments = training(dropout=0.0)
    whole = _undisturbed(arguments)
    _kill(python, arguments, "step", 3)
    ref = finetune(**arguments)
    assert (ref["meta"]["resumed_after"], ref["sha256"]) == (2, whole["sha256"])
    assert _losses(ref) == _losses(whole)


def test_transformers_own_choice_is_the_torn_one(tmp_path: Path) -> None:
    """Why checkpoints are published here and not by a Trainer: its choice goes by names alone."""
    from transformers.trainer_utils import get_last_checkpoint

    for name, files in (("checkpoint-10", ("adapter_model.safetensors", "trainer_state.json")), ("checkpoint-20", ())):
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_bytes(b"whole")
    (tmp_path / "checkpoint-20" / "adapter_model.safetensors").write_bytes(b"wh")  # killed while writing
    chosen = get_last_checkpoint(str(tmp_path))
    assert chosen is not None and Path(chosen).name == "checkpoint-20"
