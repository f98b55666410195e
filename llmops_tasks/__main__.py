"""`python -m llmops_tasks <room>.<verb> [--key value ...]`: any task from the shell, one JSON object on stdout.

    python -m llmops_tasks list
    python -m llmops_tasks data.ingest --usecase triage
    python -m llmops_tasks release.verify_ledger --usecase triage
    python -m llmops_tasks chain include/usecases/triage.yaml --until gate

Values are read as JSON where they are JSON (`--max_steps 3`, `--release '{"uri": ...}'`), else as text;
`--json -` reads all arguments as one JSON object from stdin. Log lines go to stderr. Exit code 1: an error,
told on stdout as {"error": {"type", "message"}}.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import logging
import os
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from llmops_tasks.errors import InputError, LLMOpsError, did_you_mean
from llmops_tasks.process import LOG_FORMAT, SETTINGS, die_with_parent

ROOMS = ("data", "prompts", "training", "evaluation", "release", "serving", "monitoring")
# What is no room's: name -> module, function.
_LOOSE = {
    "chain": ("chain", "chain"),
    "tracking.initialize": ("tracking", "initialize"),
    "config.schema": ("config", "json_schema"),
    "config.bind": ("config", "bind"),
    "config.retire": ("config", "retire"),
}


def verbs() -> list[str]:
    """Every verb's name, room by room."""
    return [*(f"{room}.{verb}" for room in ROOMS for verb in import_module(f"llmops_tasks.{room}").VERBS), *_LOOSE]


def resolve(name: str) -> Callable[..., Any]:
    """The function behind a verb's name; nothing outside the rooms' tables can be reached."""
    if name not in (known := verbs()):
        raise InputError(f"No verb '{name:.60}'.{did_you_mean(name, known)} Known: {known}.")
    module, function = _LOOSE.get(name) or name.split(".")
    verb: Callable[..., Any] = getattr(import_module(f"llmops_tasks.{module}"), function)
    return verb


def arguments(verb: Callable[..., Any], words: list[str]) -> dict[str, Any]:
    """`--key value` pairs, checked against the verb's signature; a first bare word is the use case."""
    if words == ["--json", "-"]:
        return _bound(verb, _from_stdin())
    if words and not words[0].startswith("--"):
        words = ["--usecase", *words]
    given: dict[str, Any] = {}
    known = inspect.signature(verb).parameters
    for key, value in zip(words[::2], [*words[1::2], None], strict=False):
        name = key.removeprefix("--").replace("-", "_")
        if name not in known or value is None:
            raise InputError(
                f"Argument '{key:.40}' is unknown or has no value.{did_you_mean(name, known)} Known: {list(known)}."
            )
        given[name] = _value(value, str(known[name].annotation))
    return _bound(verb, given)


def _from_stdin() -> dict[str, Any]:
    try:
        return dict(json.load(sys.stdin))
    except (ValueError, TypeError) as exc:
        raise InputError("Standard input is not one JSON object with the verb's arguments.") from exc


def _bound(verb: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """The arguments, if they are all that the verb needs and no others."""
    try:
        inspect.signature(verb).bind(**given)
    except TypeError as exc:
        known = list(inspect.signature(verb).parameters)
        raise InputError(f"The arguments do not fit: {exc}. Known: {known}.") from exc
    return given


def _value(word: str, annotation: str) -> Any:
    if annotation.startswith("str"):
        return word  # a version or a date is a word, even if it looks like a number
    try:
        return json.loads(word)
    except ValueError:
        return word


def main(words: list[str]) -> int:
    """Run one verb; returns the exit code."""
    os.umask(0o077)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    die_with_parent()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=LOG_FORMAT)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it advises to install what downloads kernels
    if not words or words[0] in ("list", "-h", "--help"):
        print(__doc__)
        print("\n".join(verbs()))
        return 0
    try:
        verb = resolve(words[0])
        with contextlib.redirect_stdout(sys.stderr):  # what a library prints belongs to the log
            result = verb(**arguments(verb, words[1:]))
    except LLMOpsError as exc:
        print(json.dumps({"error": {"type": type(exc).__name__, "message": str(exc)}}))
        return 1
    print(json.dumps({"result": result} if words[1:] == ["--json", "-"] else result, allow_nan=False))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
