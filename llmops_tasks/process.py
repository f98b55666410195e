"""Run a verb in a fresh process of its own: what loads a model is never forked from a busy parent.

The child is `python -m llmops_tasks <verb> --json -` (see `child`): its arguments come on stdin, its result leaves
on stdout, its log lines pass through. It dies with its parent, whatever kills that. What it cost comes back with the
result. It gets only the environment variables that it needs, so that libraries cannot log or send Airflow's keys.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from llmops_tasks import errors

log = logging.getLogger(__name__)
LOG_FORMAT = "%(name)s: %(message)s"
SETTINGS = {  # of processes that run verbs: quiet, and without telemetry
    "TQDM_DISABLE": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "PYTHONUNBUFFERED": "1",
}
# What a process that runs a model needs of its parent's environment: an allow-list, so that unforeseen secrets
# stay out. A name that ends in `*` is a prefix.
NEEDED = (
    "PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR", "TEMP", "TMP", "XDG_*", "PYTHON*", "LD_*",
    "MALLOC_*", "CUDA_*", "NVIDIA_*", "CUBLAS_*", "NCCL_*", "GLOO_*", "HIP_*", "ROCR_*", "OMP_*", "KMP_*", "GOMP_*", "MKL_*",
    "OPENBLAS_*", "ONEDNN_*", "DNNL_*", "TORCH*", "PYTORCH_*", "TRITON_*", "BNB_*", "HF_*", "TRANSFORMERS_*", "TOKENIZERS_*", "TQDM_*",
    "LLMOPS_*", "MLFLOW_*", "GX_*", "DO_NOT_TRACK", "AWS_*", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy",
    "https_proxy", "no_proxy", "all_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "AIRFLOW_CTX_*",  # the run it works for, for process listings
)  # fmt: skip
# Exceptions from the prefixes above: of MLflow's server, and credentials for Airflow.
NOT_NEEDED = (
    "MLFLOW_BACKEND_*", "MLFLOW_REGISTRY_STORE_*", "MLFLOW_DB_*", "MLFLOW_FLASK_*", "MLFLOW_CRYPTO_*", "LLMOPS_AIRFLOW_*",
)  # fmt: skip


def isolated(verb: Callable[..., Any]) -> Callable[..., dict[str, Any]]:
    """The same verb, run in its own process. Its result, a JSON object, gets a `cost` (seconds)."""
    name = f"{verb.__module__.split('.')[1]}.{verb.__name__}"

    @functools.wraps(verb)
    def run(**arguments: Any) -> dict[str, Any]:
        return call(name, arguments)

    return run


def call(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Call the verb `package.verb` in a fresh process.

    Raises:
        LLMOpsError: the same kind of error that the verb raised.
    """
    started = time.monotonic()
    child = subprocess.Popen(  # it dies with us: see die_with_parent in child
        [sys.executable, "-m", "llmops_tasks", name, "--json", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
        text=True,
    )
    try:
        return _result(child, name, arguments, started)
    finally:
        if child.poll() is None:
            _stop(child)


def environment() -> dict[str, str]:
    """The environment of a child: without Airflow's keys, tokens, connections and database."""
    root = str(Path(__file__).parent.parent)
    path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    needed = {name: value for name, value in os.environ.items() if _is(name, NEEDED) and not _is(name, NOT_NEEDED)}
    return {**SETTINGS, **needed, "PYTHONPATH": path, "LLMOPS_PARENT": str(os.getpid())}


def _is(name: str, patterns: tuple[str, ...]) -> bool:
    return any(name.startswith(word[:-1]) if word.endswith("*") else name == word for word in patterns)


def _result(child: subprocess.Popen[str], name: str, arguments: dict[str, Any], started: float) -> dict[str, Any]:
    import threading

    stdin, stdout, stderr = _pipes(child)
    forward = threading.Thread(target=_forward, args=(stderr,), daemon=True)
    forward.start()
    with contextlib.suppress(BrokenPipeError):  # a child that ended early has said why, or its exit code does
        stdin.write(json.dumps(arguments))
        stdin.close()
    output = stdout.read()
    code = child.wait()
    forward.join(timeout=10)
    return _decoded(name, output, code) | {"cost": _cost(started)}


def _pipes(child: subprocess.Popen[str]) -> tuple[IO[str], IO[str], IO[str]]:
    if child.stdin is None or child.stdout is None or child.stderr is None:
        raise errors.LLMOpsError("the child process has no pipes")
    return child.stdin, child.stdout, child.stderr


def _forward(stream: IO[str]) -> None:
    for line in stream:
        log.info("%s", line.rstrip())


def _decoded(name: str, output: str, code: int) -> dict[str, Any]:
    try:
        result = json.loads(output)
    except ValueError:
        reason = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        hint = (
            " Most likely memory ran out: lower the batch size." if code == -signal.SIGKILL else " See the log above."
        )
        raise errors.LLMOpsError(f"The process of '{name}' ended with {reason} and no result.{hint}") from None
    if "error" in result:
        kind = getattr(errors, result["error"]["type"], errors.LLMOpsError)
        raise kind(result["error"]["message"])
    return dict(result["result"])


def _cost(started: float) -> dict[str, float]:
    """Wall and CPU seconds, and the memory peak of the child in MiB."""
    import resource

    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall_seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mib": round(used.ru_maxrss / 1024),
    }


def _stop(child: subprocess.Popen[str]) -> None:
    """End the child: politely, then not."""
    child.terminate()
    try:
        child.wait(timeout=10)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def die_with_parent() -> None:
    """Ask the kernel (Linux) to kill this process when its parent dies; leave at once if it already has."""
    parent = os.environ.get("LLMOPS_PARENT")
    if parent and sys.platform == "linux":
        import ctypes

        pr_set_pdeathsig = 1  # linux/prctl.h
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)
        if os.getppid() != int(parent):
            raise SystemExit(1)
