"""What is due, by ledger and store alone: a lost, merged or forgotten event loses no work.

A candidate waits for a verdict, a verdict for an answer, a scored partition for a drift verdict, a dataset for a
training. Smoke runs and negative controls are judged like any candidate; they never count as a training.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import InputError, IntegrityError, ReleaseError
from llmops_tasks.release import evidence as proof
from llmops_tasks.release import ledger, registry
from llmops_tasks.release.ledger import Head
from llmops_tasks.store import artifacts, digests, partitions

log = logging.getLogger(__name__)


class _Past(NamedTuple):
    """What was decided about candidates, read once."""

    versions: list[str]  # registered, the newest first
    verdicts: dict[str, dict[str, Any]]  # the newest by version
    answers: dict[tuple[str, str], str]  # the newest by version and verdict
    promoted: set[str]
    serving: str | None
    changed: int  # number of the ledger's entry by which the champion changed last
    rules: config.UseCase

    def answer(self, version: str) -> str | None:
        """To its newest verdict."""
        return self.answers.get((version, digests.digest(self.verdicts[version])))

    def state(self, version: str) -> str:
        """What may put its question again: an answer that counts again once later versions were rejected."""
        rejected = sorted({other for (other, _), choice in self.answers.items() if choice == "Reject"})
        later = [other for other in rejected if int(other) > int(version)]
        return digests.digest([self.changed, later, self.answer(version)])[:8]

    def is_open(self, version: str) -> bool:
        """Whether its newest verdict may still lead to a promotion."""
        if self.verdicts[version]["verdict"] != "pass" or self.answer(version) not in (None, "Approve"):
            return False
        later = (int(other) > int(version) for other in proof.standing(self.verdicts, self.answers))
        return not (self.rules.approval.newer_candidate == "supersedes" and any(later))

    def is_current(self, version: str) -> bool:
        """Whether its newest verdict is beside the champion of today, by the policy of today."""
        verdict = self.verdicts[version]
        beside, policy = verdict.get("champion_version"), verdict["policy_sha256"]
        return bool(beside == self.serving and policy == proof.policy_of(self.rules))


def _past(usecase: str) -> _Past:
    end = ledger.newest(usecase)
    change = end.last(ledger.CHANGE)
    return _Past(
        versions=[entry["body"]["version"] for entry in end.walk("registration")],
        verdicts=proof.newest_verdicts(end),
        answers=proof.newest_answers(end),
        promoted={entry["body"]["version"] for entry in end.walk("promotion")},
        serving=change["body"]["version"] if change else None,
        changed=change["seq"] if change else 0,
        rules=config.in_charge(usecase),
    )


def find_due_candidates(*, usecase: str) -> list[str]:
    """List versions that wait for a verdict, newest first.

    That is every registered version without a verdict, and every one whose verdict is outdated because the champion
    has changed since, whether it was approved or not answered yet.

    Example:
        >>> find_due_candidates(usecase="triage")
    """
    past = _past(usecase)
    return [
        version
        for version in past.versions
        if version not in past.promoted
        and (version not in past.verdicts or (past.is_open(version) and not past.is_current(version)))
    ]


def find_due_questions(*, usecase: str) -> list[dict[str, str]]:
    """List passed verdicts without an answer that can still lead to a promotion: {version, verdict_sha256}.

    Example:
        >>> find_due_questions(usecase="triage")
    """
    past = _past(usecase)
    return [
        {"version": version, "verdict_sha256": digests.digest(verdict)}
        for version, verdict in past.verdicts.items()
        if version not in past.promoted and past.is_open(version) and past.is_current(version)
    ]


def find_candidate(*, usecase: str, version: str) -> dict[str, Any]:
    """Find a registered version, with the dataset that it was trained on.

    Returns:
        {version, release, dataset, run_id}.

    Raises:
        EvidenceError: if the ledger has no such version.

    Example:
        >>> candidate = find_candidate(usecase="triage", version="3")
    """
    release = proof.registered(ledger.newest(usecase), version)
    run_id = release["meta"].get("mlflow_run")
    return {
        "version": version,
        "release": release,
        "dataset": artifacts.made_from(release, "dataset"),
        "run_id": run_id,
    }


def find_question(*, usecase: str, version: str) -> dict[str, Any]:
    """Find the question that an approver is asked about a version.

    Returns:
        {version, verdict, verdict_sha256, passed, champion_version, notice}: `verdict` refers to the artifact with
        verdict and evidence, `notice` explains what an approval means beside newer candidates.

    Raises:
        EvidenceError: if the ledger has no verdict about it.

    Example:
        >>> question = find_question(usecase="triage", version="3")
    """
    end, rule = ledger.newest(usecase), config.in_charge(usecase).approval
    found = proof.judged(end, version)
    later = proof.superseded_by(end, version)
    if rule.newer_candidate == "supersedes":
        notice = "If a newer candidate passes the gate before you answer, an approval of this one promotes nothing."
    else:
        notice = "This question stays open when newer candidates pass the gate."
    if later:
        notice += f" **Version {later} has passed it already.**"
    return {
        "version": version,
        "verdict": artifacts.at(found["kept"]["uri"]),
        "verdict_sha256": digests.digest(found["verdict"]),
        "passed": found["verdict"]["verdict"] == "pass",
        "champion_version": found["verdict"].get("champion_version"),
        "notice": notice,
    }


def find_answer(*, usecase: str, version: str, verdict_sha256: str, people: int = 1) -> dict[str, Any] | None:
    """Find the recorded answer to a question, or None; a timeout is no answer.

    Args:
        usecase: name or YAML path.
        version: the candidate.
        verdict_sha256: of the verdict that was shown.
        people: number of different approvers required; one rejection is enough.

    Example:
        >>> find_answer(usecase="triage", version="3", verdict_sha256=sha256)
    """
    end = ledger.newest(usecase)
    given = proof.answer(end, version, verdict_sha256)
    if given is None or given["choice"] == proof.TIMED_OUT:
        return None
    missing = given["choice"] == "Approve" and len(proof.approvers(end, version, verdict_sha256)) < people
    return None if missing else given


def may_be_promoted(*, usecase: str, version: str) -> bool:
    """Whether the last answer is an approval that still counts: not superseded by a newer candidate.

    Example:
        >>> may_be_promoted(usecase="triage", version="3")
    """
    past = _past(usecase)
    answered = (version, digests.digest(past.verdicts.get(version))) in past.answers
    return answered and (version in past.promoted or past.is_open(version))


# ---------------------------------------------------------------- days and datasets


def find_due_days(*, usecase: str) -> list[dict[str, Any]]:
    """List scored partitions without a drift verdict, earliest first: {day, predictions, champion}.

    A partition is due again when records were added. The champion is the version that scored last.

    Example:
        >>> find_due_days(usecase="triage")
    """
    name, end = config.usecase_name(usecase), ledger.newest(usecase)
    decided = {entry["body"].get("predictions_sha256") for entry in end.walk("retrain")}
    found = (_scored(usecase, name, date, decided) for date in partitions.dates(name))
    return [day for day in found if day is not None]


def _scored(usecase: str, name: str, date: str, decided: set[str | None]) -> dict[str, Any] | None:
    """A day as `measure_drift` takes it; None if it is decided on, or cannot be read, which keeps no other day waiting."""
    partition = partitions.together(date, partitions.parts(name, date))
    if partition["sha256"] in decided:
        return None
    if not partition["parts"][-1]["meta"].get("parents"):
        log.warning("%s was scored by an earlier version, without its input: no drift verdict", date)
        return None
    try:
        day = artifacts.made_from(partition["parts"][-1], "day")
        champion = registry.find_champion(usecase=usecase, version=partition["release_version"])
    except (IntegrityError, ReleaseError) as exc:
        log.error("%s gets no drift verdict: %s", date, exc)
        return None
    return {"day": day, "predictions": partition, "champion": champion}


def find_due_dataset(*, usecase: str) -> ArtifactRef | None:
    """Find the newest dataset if no candidate was trained on it. Older ones are skipped: the newest contains their rows.

    Example:
        >>> find_due_dataset(usecase="triage")
    """
    newest = artifacts.newest(config.usecase_name(usecase), "dataset")
    return None if newest is None or newest["sha256"] in _trained_on(ledger.newest(usecase)) else newest


def _trained_on(end: Head) -> set[str]:
    releases = (entry["body"]["release"] for entry in end.walk("registration"))
    return {ref["meta"]["dataset_sha256"] for ref in releases if _is_training(ref)}


def _is_training(release: ArtifactRef) -> bool:
    """No smoke run, and no negative control."""
    return not release["meta"]["smoke"] and release["meta"]["control"] == "none"


def find_dataset(*, usecase: str, sha256: str | None = None) -> ArtifactRef:
    """Find the newest dataset version, or the newest with a given SHA-256 prefix.

    Raises:
        InputError: if there is none.

    Example:
        >>> find_dataset(usecase="triage")
    """
    found = artifacts.newest(config.usecase_name(usecase), "dataset", sha256 or "")
    if found is None:
        what = f"dataset whose sha256 begins with '{sha256}'" if sha256 else "dataset"
        raise InputError(f"There is no {what} of '{config.usecase_name(usecase)}' yet. Run prepare_data first.")
    return found


def find_due(*, usecase: str, stage: str | None = None, but: str | None = None) -> list[dict[str, Any]]:
    """List all due work, each as the run that would do it: {stage, conf, run_id}.

    The same work has the same `run_id`, so it is never started twice.

    Args:
        usecase: name or YAML path.
        stage: only work of this DAG; by default all.
        but: a version to leave out, because it is in progress.

    Example:
        >>> find_due(usecase="triage")
    """
    found = [run for name in _WAITING if stage in (None, name) for run in _WAITING[name](usecase)]
    return [run for run in found if but is None or run["conf"].get("version") != but]


def _trainings(usecase: str) -> list[dict[str, Any]]:
    dataset = find_due_dataset(usecase=usecase)
    return [run_of("train", dataset["sha256"][:12], dataset=dataset["sha256"])] if dataset else []


def _evaluations(usecase: str) -> list[dict[str, Any]]:
    """Named by the change of champion and the policy, too: what was judged before one may be due after it."""
    past = _past(usecase)
    beside = f"{past.serving or 'none'}_{digests.digest([past.changed, proof.policy_of(past.rules)])[:8]}"
    return [
        run_of("evaluate", f"{version}_beside_{beside}", version=version)
        for version in find_due_candidates(usecase=usecase)
    ]


def _questions(usecase: str) -> list[dict[str, Any]]:
    past = _past(usecase)
    found = [(one["version"], one["verdict_sha256"][:12]) for one in find_due_questions(usecase=usecase)]
    return [
        run_of("promote", f"{version}_{sha256}_{past.state(version)}", version=version) for version, sha256 in found
    ]


def _days(usecase: str) -> list[dict[str, Any]]:
    days = [day["predictions"]["sha256"] for day in find_due_days(usecase=usecase)]
    return [run_of("monitor", digests.digest(days)[:12])] if days else []


def _retrainings(usecase: str) -> list[dict[str, Any]]:
    """The last decision to retrain, if no candidate was registered since; without new records it only reads the source again."""
    end = ledger.newest(usecase)
    decided = end.last(ledger.RETRAINING)
    trained = next((entry["seq"] for entry in end.walk("registration") if _is_training(entry["body"]["release"])), 0)
    if decided is None or trained > decided["seq"]:
        return []
    return [run_of("prepare_data", f"retrain_{decided['body']['once'][:12]}")]


_WAITING = {
    "prepare_data": _retrainings,
    "train": _trainings,
    "evaluate": _evaluations,
    "promote": _questions,
    "monitor": _days,
}


def run_of(stage: str, work: str, **conf: str) -> dict[str, Any]:
    """The run of a stage that does a piece of work, named by it."""
    return {"stage": stage, "conf": conf, "run_id": f"due__{work}"}
