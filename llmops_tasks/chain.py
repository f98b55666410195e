"""The life cycle without Airflow: the same functions the DAGs call, one after the other."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from llmops_tasks.errors import InputError, did_you_mean

log = logging.getLogger(__name__)
Results = dict[str, Any]


def _data(usecase: str, done: Results, date: str | None = None) -> Any:
    from llmops_tasks.data import anonymize, ingest, validate

    records = ingest(usecase=usecase, date=date)
    good = validate(usecase=usecase, records=records, labelled=date is None)
    return anonymize(usecase=usecase, records=good)


def _version(usecase: str, done: Results) -> Any:
    from llmops_tasks.data import build_dataset

    return build_dataset(usecase=usecase, records=done["data"])


def _base(usecase: str, done: Results) -> Any:
    from llmops_tasks.release import find_starting_point
    from llmops_tasks.training import fetch_base_model

    done["start"] = find_starting_point(usecase=usecase, base=(base := fetch_base_model(usecase=usecase)))
    return base


def _train(usecase: str, done: Results) -> Any:
    """Preference tuning on corrections, or fine-tuning on records with the settings found by a search."""
    from llmops_tasks import config
    from llmops_tasks.training import collect_corrections, finetune, tune_preferences

    dataset, start, control = done["version"], done["start"], done["control"]
    if config.load(usecase).finetune.preferences:
        pairs = collect_corrections(usecase=usecase, dataset=dataset, start=start)
        return tune_preferences(usecase=usecase, pairs=pairs, start=start, control=control)
    settings = _searched(usecase, dataset, start)
    return finetune(usecase=usecase, dataset=dataset, start=start, control=control, settings=settings)


def _searched(usecase: str, dataset: Any, start: Any) -> Any:
    from llmops_tasks.training import choose_trial, plan_trials, run_trial

    common = {"usecase": usecase, "dataset": dataset, "start": start}
    return choose_trial(
        **common, tried=[run_trial(**common, number=number) for number in plan_trials(usecase=usecase)]
    )["settings"]


def _package(usecase: str, done: Results) -> Any:
    from llmops_tasks.release import package_release

    return package_release(usecase=usecase, trained=done["train"], base=done["start"], dataset=done["version"])


def _register(usecase: str, done: Results) -> Any:
    from llmops_tasks.release import register_release

    return register_release(usecase=usecase, release=done["package"])


def _evaluate(usecase: str, done: Results) -> Any:
    from llmops_tasks.evaluation import evaluate, list_subjects
    from llmops_tasks.release import find_champion

    done["champion"] = find_champion(usecase=usecase)
    plan = list_subjects(usecase=usecase, candidate=done["register"], champion=done["champion"], base=done["base"])
    return [evaluate(usecase=usecase, dataset=done["version"], **subject) for subject in plan]


def _gate(usecase: str, done: Results) -> Any:
    from llmops_tasks.evaluation import apply_gate
    from llmops_tasks.release import annotate_version, record_verdict

    about = {"candidate": done["register"], "champion": done["champion"], "dataset": done["version"]}
    verdict = apply_gate(usecase=usecase, reports=done["evaluate"], **about)
    entry = record_verdict(usecase=usecase, verdict=verdict)
    annotate_version(usecase=usecase, candidate=done["register"], verdict=verdict)
    return entry["body"]["verdict"]


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
    """Run the life cycle up to the gate. Promotion is not part of it: it needs human approval.

    Args:
        usecase: name or YAML path.
        until: the last step: data, version, base, train, package, register, evaluate or gate.
        control: "shuffled_labels" trains a negative control.

    Returns:
        Every step's result by its name.

    Example:
        >>> chain(usecase="triage")
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
