"""Memory that really runs out: a process with a limit computes its batch in two parts, or says what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
# In a child of its own each: one step on few records first, so that all is loaded; then one on many, with so much more
# memory and no more. Prints how much the second took, or what it ended with: without a limit, and with two shares of that.
VICTIM = """
import json, os, resource, sys, torch
from pathlib import Path
from llmops_tasks.config import Finetune
from llmops_tasks.errors import TrainingError
from llmops_tasks.models.loading import load_model
from llmops_tasks.training import loop, trainable
from llmops_tasks.training.examples import IGNORED, Example

def memory(name):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":")) * 1024

def child(room):
    here, there = os.pipe()
    if os.fork() == 0:
        os.write(there, json.dumps(found(room)).encode())
        os._exit(0)
    os.close(there)
    return json.load(os.fdopen(here))

def found(room):
    settings = Finetune(batch_size=128, top_layers=1, precision="fp32", learning_rate=0.01)
    torch.manual_seed(0)
    state = trainable.prepare(load_model(Path(sys.argv[1]))[0], settings, 64)
    records = [Example([number, *range(511)], [IGNORED] * 511 + [number]) for number in range(128)]
    loop.step(state, settings, 0, 10, records[:2], None)
    before = memory("VmSize")
    if room:
        resource.setrlimit(resource.RLIMIT_AS, (before + room, resource.getrlimit(resource.RLIMIT_AS)[1]))
    try:
        loss, error = loop.step(state, settings, 1, 10, records, None), ""
    except TrainingError as exc:
        loss, error = None, str(exc)
    return {"loss": loss, "parts": state.parts, "taken": memory("VmPeak") - before, "error": error}

whole = child(0)
print(json.dumps([whole, *(child(int(whole["taken"] * share)) for share in (0.6, 0.25))]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's address space")
def test_a_batch_that_does_not_fit_is_halved_once_or_refused(tiny_model: Path) -> None:
    settings = {
        "PYTHONPATH": str(ROOT),
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "OMP_NUM_THREADS": "1",
    }  # memory goes back at once
    done = subprocess.run(
        [sys.executable, "-c", VICTIM, str(tiny_model)],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    whole, halved, refused = json.loads(done.stdout.splitlines()[-1])
    assert whole["parts"] == 1 and whole["taken"] > 50e6  # enough to be noticed
    assert halved["parts"] == 2 and halved["error"] == ""
    assert halved["loss"] == pytest.approx(whole["loss"], abs=1e-5)
    assert refused["error"].startswith("Memory ran out at step 2, a batch of 128 in 2 parts. Lower batch_size")
