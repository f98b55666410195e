"""The other end of `process`: a verb in this process, its arguments on stdin, its result on stdout, both JSON.

    echo '{"usecase": "triage"}' | python -m llmops_tasks release.verify_ledger --json -

Stdout is {"result": ...} with exit code 0, or {"error": {"type", "message"}} with exit code 1. Log lines go
to stderr. For interactive use there is `llmops`; this module has no options or tables, and imports nothing for them.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
import sys
from collections.abc import Callable
from typing import Any

from llmops_tasks.errors import InputError, LLMOpsError
from llmops_tasks.process import LOG_FORMAT, SETTINGS, die_with_parent
from llmops_tasks.verbs import resolve

ARGUMENTS = ["--json", "-"]  # after the verb's name: the protocol for programs


def prepare() -> None:
    """Preparation of every process that runs verbs: files are private to their owner, and libraries send no telemetry."""
    os.umask(0o077)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)


def run(name: str) -> int:
    """Run the verb; returns the exit code."""
    prepare()
    die_with_parent()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=LOG_FORMAT)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it advises to install what downloads kernels
    try:
        verb = resolve(name)
        with contextlib.redirect_stdout(sys.stderr):  # what a library prints belongs to the log
            answer = {"result": verb(**_arguments(verb))}
    except LLMOpsError as exc:
        answer = {"error": {"type": type(exc).__name__, "message": str(exc)}}
    sys.stdout.write(json.dumps(answer, allow_nan=False) + "\n")
    return int("error" in answer)


def _arguments(verb: Callable[..., Any]) -> dict[str, Any]:
    """What stands on stdin, if it is all that the verb needs and nothing else."""
    try:
        given = dict(json.load(sys.stdin))
    except (ValueError, TypeError) as exc:
        raise InputError("Standard input is not one JSON object with the verb's arguments.") from exc
    try:
        inspect.signature(verb).bind(**given)
    except TypeError as exc:
        known = list(inspect.signature(verb).parameters)
        raise InputError(f"The arguments do not fit: {exc}. Known: {known}.") from exc
    return given
