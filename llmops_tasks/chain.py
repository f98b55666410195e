"""The life cycle without Airflow: the same functions the DAGs call, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from llmops_tasks.errors import InputError, did_you_mean

log = logging.getLogger(__name__)
Results = dict[str, Any]


def _data(usecase: str, done: Results, date: str | None = None) -> Any:
    from llmops_tasks.data.anonymize import anonymize
    from llmops_tasks.data.ingest import ingest
    from llmops_tasks.data.validate import validate

    records = ingest(usecase=usecase, date=date)
    good = validate(usecase=usecase, records=records, labelled=date is None)
    return anonymize(usecase=usecase, records=good)


def _version(usecase: str, done: Results) -> Any:
    from llmops_tasks.data.versions import version

    return version(usecase=usecase, records=done["data"])


def _base(usecase: str, done: Results) -> Any:
    from llmops_tasks.release.registry import starting_point
    from llmops_tasks.training.base_model import base_model

    done["start"] = starting_point(usecase=usecase, base=(base := base_model(usecase=usecase)))
    return base


def _train(usecase: str, done: Results) -> Any:
    """Preferences learn from corrections; else records are learnt, with the settings that a search finds."""
    from llmops_tasks import config
    from llmops_tasks.training.corrections import corrections
    from llmops_tasks.training.finetune import finetune
    from llmops_tasks.training.preferences import prefer

    dataset, start, control = done["version"], done["start"], done["control"]
    if config.load(usecase).finetune.preferences:
        pairs = corrections(usecase=usecase, dataset=dataset)
        return prefer(usecase=usecase, pairs=pairs, base=start, control=control)
    settings = _searched(usecase, dataset, start)
    return finetune(usecase=usecase, dataset=dataset, base=start, control=control, settings=settings)


def _searched(usecase: str, dataset: Any, start: Any) -> Any:
    from llmops_tasks.training.search import best, trial, trials

    common = {"usecase": usecase, "dataset": dataset, "base": start}
    return best(**common, tried=[trial(**common, number=number) for number in trials(usecase=usecase)])["settings"]


def _package(usecase: str, done: Results) -> Any:
    from llmops_tasks.release.package import package

    return package(usecase=usecase, trained=done["train"], base=done["start"], dataset=done["version"])


def _register(usecase: str, done: Results) -> Any:
    from llmops_tasks.release.registry import register

    return register(usecase=usecase, release=done["package"])


def _evaluate(usecase: str, done: Results) -> Any:
    from llmops_tasks.evaluation.quality import compare_all, evaluate, subjects
    from llmops_tasks.release.registry import champion

    done["champion"] = champion(usecase=usecase)
    plan = subjects(usecase=usecase, candidate=done["register"], champion=done["champion"], base=done["base"])
    reports = [evaluate(usecase=usecase, dataset=done["version"], **subject) for subject in plan]
    return compare_all(usecase=usecase, reports=reports, champion=done["champion"])


def _gate(usecase: str, done: Results) -> Any:
    from llmops_tasks.evaluation.gate import judge
    from llmops_tasks.release.ledger import record_verdict
    from llmops_tasks.release.registry import annotate

    candidate, evidence = done["register"], done["evaluate"]
    verdict = judge(usecase=usecase, evidence=evidence, candidate=candidate, champion=done["champion"])
    record_verdict(usecase=usecase, verdict=verdict)
    annotate(usecase=usecase, candidate=candidate, evidence=evidence, verdict=verdict)
    return verdict


STEPS: dict[str, Callable[..., Any]] = {
    "data": _data,
    "version": _version,
    "base": _base,
    "train": _train,
    "package": _package,
    "register": _register,
    "evaluate": _evaluate,
    "gate": _gate,
}


def chain(*, usecase: str, until: str = "gate", control: str = "none") -> Results:
    """Run the life cycle up to the gate; promotion needs a person, so it is not part of it.

    Args:
        usecase: name or YAML path.
        until: the last step, one of STEPS.
        control: handed to `finetune`.

    Returns:
        Every step's result by its name.
    """
    if until not in STEPS:
        raise InputError(f"No step '{until}'.{did_you_mean(until, STEPS)} Steps: {list(STEPS)}.")
    done: Results = {"control": control}
    for name, step in STEPS.items():
        log.info("chain: %s", name)
        done[name] = step(usecase, done)
        if name == until:
            break
    return done
