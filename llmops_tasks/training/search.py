"""Hyperparameter search: Optuna proposes, each trial is one task, the smallest held-out loss wins.

All trials share one journal file, so they may run at the same time, on one machine or on several that share a file
system, and a search that was interrupted goes on where it was. A trial is cut short when it is worse than the
median of the others after the same share of its steps. All trials share the activation cache.
Source: Akiba et al. 2019, "Optuna: A Next-generation Hyperparameter Optimization Framework".
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks import config, tracking
from llmops_tasks.config import Search, UseCase
from llmops_tasks.config.training import Range
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import InputError, TrainingError
from llmops_tasks.store import artifacts, digests, files
from llmops_tasks.store.sources import code_digest
from llmops_tasks.training import loop, preflight, prepared, processes, training_plan
from llmops_tasks.training.prepared import Prepared, prepare_run, with_settings
from llmops_tasks.training.training_plan import Sources

if TYPE_CHECKING:
    import optuna

log = logging.getLogger(__name__)


SMOKE = 2  # trials of a smoke run
_TOLD = ("number", "state", "loss", "settings")  # of a trial
LOOKS = 4  # at the held-out loss of a trial


def plan_trials(*, usecase: str, max_steps: int | None = None) -> list[int]:
    """List the numbers of the trials: none without a `search`, at most two in a smoke run.

    Example:
        >>> plan_trials(usecase="triage")
    """
    search = config.load(usecase).search
    return list(range(search.trials))[: SMOKE if max_steps else None] if search else []


def run_trial(
    *,
    usecase: str,
    dataset: ArtifactRef,
    start: ArtifactRef,
    number: int,
    max_steps: int | None = None,
    others: dict[str, ArtifactRef] | None = None,
) -> dict[str, Any]:
    """Run one trial of the search: train on the train split, measure the held-out loss.

    Args:
        usecase: name or YAML path, with a `search`.
        dataset: from `build_dataset`.
        start: weights to start from.
        number: of the trial; a finished one is not run again.
        max_steps: a smoke run, with a study of its own.
        others: as for `finetune`.

    Returns:
        {number, state, loss, settings}; state is "complete", "pruned" (worse than others), "failed" or "over budget".

    Example:
        >>> run_trial(usecase="triage", dataset=dataset, start=base, number=0)
    """
    import optuna

    case, name = config.load(usecase), config.usecase_name(usecase)
    search = _search(case)
    sources = training_plan.sources(case, name, dataset, start, others)
    study = _study(case, name, sources, start, max_steps, number)
    known = next((t for t in study.trials if t.user_attrs.get("number") == number and t.state.is_finished()), None)
    if known is not None:
        return _told(known, number)
    if _minutes(study) > search.minutes:
        return {"number": number, "state": "over budget", "loss": None, "settings": {}}
    tried = _proposed(study, search, number)
    try:
        changed = with_settings(case, {**tried.params, "epochs": search.epochs})
        prepare = partial(prepare_run, changed, name, sources, start, max_steps=max_steps)
        with tracking.run(usecase=name, name=f"trial {number}", key=f"{study.study_name}/{number}") as run:
            run.params(tried.params)
            work = partial(_train, prepare, tried, run.id)
            loss = processes.together(changed.finetune.processes, work)
            if loss is None:  # cut short, which is no failure of the run
                run.tags({"llmops.trial": "pruned"})
        study.tell(tried, loss, state=optuna.trial.TrialState.PRUNED if loss is None else None)
    except TrainingError as exc:  # settings that do not train, or not within the budget, are a result, too
        log.warning("trial %d failed: %s", number, exc)
        study.tell(tried, state=optuna.trial.TrialState.FAIL)
    return _told(study.trials[tried.number], number)


def choose_trial(
    *,
    usecase: str,
    dataset: ArtifactRef,
    start: ArtifactRef,
    tried: list[dict[str, Any]],
    max_steps: int | None = None,
    others: dict[str, ArtifactRef] | None = None,
) -> dict[str, Any]:
    """Choose the best trial's settings; report all trials and the importance of each setting.

    Args:
        usecase: name or YAML path.
        dataset: the trials' dataset.
        start: the trials' starting weights.
        tried: from `run_trial`.
        max_steps: as given to the trials.
        others: likewise.

    Returns:
        {settings, loss, report}; settings are {} without a search.

    Raises:
        TrainingError: if no trial finished.

    Example:
        >>> choose_trial(usecase="triage", dataset=dataset, start=base, tried=[trial])
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    if case.search is None:
        return {"settings": {}, "loss": None, "report": None}
    tried = [{name: result[name] for name in _TOLD} for result in tried]  # Airflow's list is a lazy one, with costs
    done = [result for result in tried if result["state"] == "complete"]
    if not done:
        raise TrainingError(f"None of {len(tried)} trials finished. Raise search.minutes, or narrow the space.")
    winner = min(done, key=lambda result: (result["loss"], result["number"]))
    study = _study(case, name, training_plan.sources(case, name, dataset, start, others), start, max_steps)
    inputs = {"study": study.study_name, "tried": tried}
    report = artifacts.publish(usecase=name, kind="search", inputs=inputs, build=partial(_write, study, tried, winner))
    log.info("trial %d won with a held-out loss of %.4f: %s", winner["number"], winner["loss"], winner["settings"])
    return {"settings": {**winner["settings"]}, "loss": winner["loss"], "report": report}


def _search(case: UseCase) -> Search:
    if case.search is None:
        raise InputError("The use case has no 'search'. Add one, with the space to search.")
    return case.search


def _study(
    case: UseCase, usecase: str, sources: Sources, start: ArtifactRef, max_steps: int | None, number: int = 0
) -> optuna.Study:
    """The study of these inputs, begun or gone on with; every trial draws from a seed of its own."""
    import optuna
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    search = _search(case)
    inputs = {
        **sources.digests(),
        "start": start["sha256"],
        "config": case.digest("task", "prompt", "search"),
        "settings": prepared.digested(case.finetune),
        "max_steps": max_steps,
        "code": code_digest(__name__),
    }
    folder = files.home() / "search"
    folder.mkdir(mode=0o700, exist_ok=True)
    kept = optuna.storages.JournalStorage(JournalFileBackend(str(folder / f"{usecase}.journal")))
    return optuna.create_study(
        study_name=digests.digest(inputs)[:32],
        storage=kept,
        load_if_exists=True,
        direction="minimize",
        sampler=optuna.samplers.TPESampler(seed=search.seed + number, constant_liar=True),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
    )


def _minutes(study: optuna.Study) -> float:
    spans = [t.datetime_complete - t.datetime_start for t in study.trials if t.datetime_complete and t.datetime_start]
    return sum(span.total_seconds() for span in spans) / 60


def _proposed(study: optuna.Study, search: Search, number: int) -> optuna.Trial:
    """A trial with settings from the space, under its number."""
    tried = study.ask()
    tried.set_user_attr("number", number)
    for name, found in sorted(search.space.items()):
        _suggest(tried, name, found)
    return tried


def _suggest(tried: optuna.Trial, name: str, found: Range) -> None:
    low, high = found.low or 0, found.high or 0
    if found.choices is not None:
        tried.suggest_categorical(name, found.choices)
    elif config.Finetune.model_fields[name].annotation is int:
        tried.suggest_int(name, int(low), int(high), log=found.log)
    else:
        tried.suggest_float(name, low, high, log=found.log)


def _train(prepare: Callable[[], Prepared], tried: optuna.Trial, run_id: str) -> float | None:
    """Four times during a trial, including its end, the held-out loss is measured and reported to the pruner."""
    import optuna

    ready = prepare()
    preflight.admit(ready.state, ready.settings, ready.plan, ready.usecase)
    total = len(ready.plan.batches)
    looks, losses = {-(-total * look // LOOKS): look for look in range(1, LOOKS + 1)}, [float("inf")]

    def after_step(made: int, speed: float, left: float) -> None:
        if made in looks:
            losses.append(loss := ready.held_out_loss())
            if not processes.rank():
                told = (tried.number, made, total, loss, speed, left)
                log.info("trial %d: step %d/%d held-out loss %.4f %.0f tokens/s, %.0f s left", *told)
                tracking.Run(run_id).metrics({"held_out_loss": loss, "tokens_per_second": speed}, step=made)
            _ask(tried, loss, looks[made])

    try:
        loop.run(ready.state, ready.settings, ready.training_set(), 0, after_step)
    except optuna.TrialPruned:
        return None
    return losses[-1]


def _ask(tried: optuna.Trial, loss: float, look: int) -> None:
    """The first process reports and asks; all of them heed the answer."""
    import optuna

    prune = False
    if not processes.rank():
        tried.report(loss, look)
        prune = tried.should_prune()
    if processes.total(float(prune)):
        raise optuna.TrialPruned


def _told(found: optuna.trial.FrozenTrial, number: int) -> dict[str, Any]:
    state = {"COMPLETE": "complete", "PRUNED": "pruned"}.get(found.state.name, "failed")
    loss = found.value if state == "complete" else None
    return {"number": number, "state": state, "loss": loss, "settings": dict(found.params)}


def _write(study: optuna.Study, tried: list[dict[str, Any]], winner: dict[str, Any], out: Path) -> dict[str, Any]:
    names = sorted(winner["settings"])
    lines = [f"# Search: trial {winner['number']} won with a held-out loss of {winner['loss']:.4f}", ""]
    lines += [f"| trial | state | held-out loss | {' | '.join(names)} |", "|---" * (3 + len(names)) + "|"]
    for result in sorted(tried, key=lambda result: (result["loss"] is None, result["loss"], result["number"])):
        loss = "" if result["loss"] is None else f"{result['loss']:.4f}"
        values = " | ".join(str(result["settings"].get(name, "")) for name in names)
        lines.append(f"| {result['number']} | {result['state']} | {loss} | {values} |")
    weights = _importance(study)
    lines += ["", "Share of the variance that each setting explains (fANOVA): " + (", ".join(f"{name} {share:.0%}" for name, share in weights.items()) or "too few trials") + "."]  # fmt: skip
    (out / "report.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"rows": len(tried), "winner": winner, "importance": weights}


def _importance(study: optuna.Study) -> dict[str, float]:
    """Empty if there are too few trials, or no differences."""
    import optuna

    try:
        found = optuna.importance.get_param_importances(study, evaluator=optuna.importance.FanovaImportanceEvaluator(seed=7))  # fmt: skip
    except (RuntimeError, ValueError):
        return {}
    return {name: round(float(share), 3) for name, share in found.items()}
