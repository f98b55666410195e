"""`python -m llmops_tasks <room>.<verb> [--key value ...]`: any task from the shell, one JSON object on stdout.

    python -m llmops_tasks list
    python -m llmops_tasks data.ingest --usecase triage
    python -m llmops_tasks release.ledger:verify --usecase triage
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
from llmops_tasks.process import LOG_FORMAT, die_with_parent

# Short name -> module:function. A verb that is its module's namesake needs no more than its name.
VERBS = {
    "chain": "chain:chain",
    "data.synthetic": "data.synthetic:write",
    "data.synthetic_reviews": "data.synthetic_reviews:write",
    "data.synthetic_faq": "data.synthetic_faq:write",
    "data.ingest": "data.ingest:ingest",
    "data.validate": "data.validate:validate",
    "data.anonymize": "data.anonymize:anonymize",
    "data.versions": "data.versions:version",
    "data.lineage": "data.lineage:lineage",
    "data.holding": "data.lineage:holding",
    "data.diff": "data.lineage:diff",
    "data.day": "data.versions:day",
    "prompts.register": "prompts.templates:register",
    "training.base_model": "training.base_model:base_model",
    "training.candidates": "training.selection:candidates",
    "training.sample": "training.selection:sample",
    "training.measure": "training.selection:measure",
    "training.select": "training.selection_policy:decide",
    "training.selection": "training.selection:report",
    "training.others": "training.curriculum:others",
    "training.trials": "training.search:trials",
    "training.trial": "training.search:trial",
    "training.best": "training.search:best",
    "training.corrections": "training.corrections:corrections",
    "training.prefer": "training.preferences:prefer",
    "training.finetune": "training.finetune:finetune",
    "evaluation.quality": "evaluation.quality:evaluate",
    "evaluation.compare": "evaluation.quality:compare",
    "evaluation.gate": "evaluation.gate:judge",
    "release.package": "release.package:package",
    "release.register": "release.registry:register",
    "release.champion": "release.registry:champion",
    "release.starting_point": "release.registry:starting_point",
    "release.promote": "release.registry:promote",
    "release.rollback": "release.registry:rollback",
    "release.ledger": "release.ledger:entries",
    "release.record": "release.ledger:record",
    "release.selection": "release.ledger:record_selection",
    "release.verify": "release.ledger:verify",
    "serving.batch": "serving.batch:predict",
    "monitoring.drift": "monitoring.drift:measure",
    "monitoring.retrain": "monitoring.retrain:decide",
    "tracking.initialize": "tracking:initialize",
    "config.schema": "config:json_schema",
}


def resolve(name: str) -> Callable[..., Any]:
    """The function behind a verb's short or full name; nothing outside the table can be reached."""
    full = VERBS.get(name, name)
    if full not in VERBS.values():
        raise InputError(f"No verb '{name:.60}'.{did_you_mean(name, VERBS)} Known: {sorted(VERBS)}.")
    module, _, function = full.partition(":")
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
    die_with_parent()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format=LOG_FORMAT)
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it advises to install what downloads kernels
    if not words or words[0] in ("list", "-h", "--help"):
        print(__doc__)
        print("\n".join(VERBS))
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
