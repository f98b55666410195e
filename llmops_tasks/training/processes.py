"""One run on several devices: every process takes its part of each batch, gradients are summed.

What one process would do, several do together, up to the order of additions. Without a group of processes
all functions here are those of a single one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from llmops_tasks import errors

if TYPE_CHECKING:
    import torch

# What every process of a run imports, and a fork server once for all.
PRELOADED = ["torch", "transformers.modeling_utils", "peft", "llmops_tasks.training.finetuning"]
PATIENCE = timedelta(hours=1)  # without a sign of life from a process, the others give the run up
_ahead = False  # is this the first process, doing what the others wait for?


def _group() -> Any:
    import torch.distributed

    return torch.distributed if torch.distributed.is_available() and torch.distributed.is_initialized() else None


def rank() -> int:
    """Which process this is, from 0; the first one writes and reports."""
    group = _group()
    return group.get_rank() if group else 0


def count() -> int:
    """How many there are."""
    group = _group()
    return group.get_world_size() if group else 1


def first_then_others(work: Callable[[], Any]) -> Any:
    """Let the first process do it and keep it, then the others find it done; `sign_of_life` keeps them waiting."""
    global _ahead
    if rank():
        while not total(0.0):  # until the first one says that it is done
            pass
        return work()
    _ahead = True
    try:
        result = work()
    finally:
        _ahead = False
    total(1.0)
    return result


def sign_of_life() -> None:
    """To be called by work that takes long: the others wait for another while."""
    if _ahead:
        total(0.0)


def summed(loss: float, parameters: Iterable[torch.Tensor]) -> float:
    """Sum gradients, in place, and the loss over all processes."""
    import torch

    if not (group := _group()):
        return loss
    for value in parameters:
        if value.grad is None:  # nothing of this batch came to this process
            value.grad = torch.zeros_like(value)
        group.all_reduce(value.grad)
    return total(loss)


def total(value: float) -> float:
    """The sum over all processes."""
    import torch

    from llmops_tasks.models import hardware

    if not (group := _group()):
        return value
    whole = torch.tensor([value], dtype=torch.float64, device=hardware.device())  # nccl sums on devices only
    group.all_reduce(whole)
    return float(whole)


def together(processes: int, work: Callable[[], Any], patience: timedelta = PATIENCE) -> Any:
    """Run `work()` in so many new processes, by torch's elastic launcher (what `torchrun` runs); one is this one.

    Returns:
        What the first one returned.

    Raises:
        LLMOpsError: the same kind of error that one of them raised, or that one was lost or gave no sign of life for
            so long; the others are ended.
    """
    import os
    import secrets

    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if processes == 1:
        return work()
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // processes)))
    settings = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=secrets.token_hex(8),
        rdzv_backend="c10d",
        rdzv_endpoint="127.0.0.1:0",
        max_restarts=0,
        start_method=_start_method(),
    )
    try:
        return elastic_launch(settings, _member)(work, patience, dict(os.environ))[0]
    except ChildFailedError as exc:
        raise _error_of([failure.message for failure in exc.failures.values()]) from exc


def _error_of(messages: list[Any]) -> errors.LLMOpsError:
    """The error that a process ended with, as the launcher hands it over: text, or {"message": "Kind: text"}."""
    for message in messages:
        kind, _, text = str(message["message"] if isinstance(message, dict) else message).partition(": ")
        found = getattr(errors, kind, None)
        if isinstance(found, type) and issubclass(found, errors.LLMOpsError):
            return found(text)
    return errors.LLMOpsError(
        f"One of the training processes was lost ({len(messages)} failed). See the log above; a rerun continues from the "
        "newest checkpoint."
    )


def _start_method() -> str:
    """Forks of a process that has imported what all need; what a CUDA driver has touched may not be forked."""
    import multiprocessing

    from llmops_tasks.models.hardware import device_type

    if device_type() == "cuda":
        return "spawn"
    multiprocessing.set_forkserver_preload(PRELOADED)
    return "forkserver"


def _take_over(environment: dict[str, str]) -> None:
    """A fork server has the environment of its start; the launcher has added to that."""
    import os

    for name in [name for name in os.environ if name.startswith(("LLMOPS_", "MLFLOW_")) and name not in environment]:
        del os.environ[name]
    os.environ |= environment


def _die_with_parent() -> None:
    """Whatever kills it: a fork server stands between, so the kernel cannot be asked to (see `process`)."""
    import multiprocessing
    import os
    import signal
    import threading

    def wait() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=wait, daemon=True).start()


def _member(work: Callable[[], Any], patience: timedelta, environment: dict[str, str]) -> Any:
    import logging
    import os
    import sys

    import torch
    import torch.distributed as group

    from llmops_tasks.models.hardware import device_type
    from llmops_tasks.process import LOG_FORMAT

    _take_over(environment)
    _die_with_parent()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=LOG_FORMAT)
    if device_type() == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))  # every process has a device of its own
    group.init_process_group("nccl" if device_type() == "cuda" else "gloo", timeout=patience)
    try:
        return work()
    finally:
        group.destroy_process_group()
