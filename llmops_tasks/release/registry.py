"""Which release serves: numbered, promoted and rolled back in the ledger, shown in MLflow.

The ledger's last promotion or rollback says who is champion; MLflow's versions and aliases are its projection and are
made again whenever they differ. Doing twice what was done changes nothing, and nothing here needs MLflow.
"""

from __future__ import annotations

import logging
from typing import Any

from llmops_tasks import config, tracking
from llmops_tasks.contracts import ArtifactRef, Evidence, LedgerEntry, Verdict
from llmops_tasks.errors import ModelError, ReleaseError
from llmops_tasks.release import evidence as proof
from llmops_tasks.release import ledger, projection, witnesses
from llmops_tasks.release.ledger import Head
from llmops_tasks.store import artifacts

log = logging.getLogger(__name__)


def register_release(*, usecase: str, release: ArtifactRef) -> dict[str, Any]:
    """Give a release its version: the next number in the ledger, and a version of the model named like the use case.

    In MLflow the version has the alias `challenger`, the manifest and the card; the weights stay in the store. What a
    killed process did not get to there, the retry does.

    Returns:
        {version, release, run_id}; the same release keeps its version. `run_id` is None while MLflow is out of reach.

    Raises:
        IntegrityError: if the release is damaged; it gets no number then.

    Example:
        >>> candidate = register_release(usecase="triage", release=release)
    """
    artifacts.fetch(release)

    def body(end: Head) -> dict[str, Any]:
        newest = end.last("registration")
        return {"version": str(int(newest["body"]["version"]) + 1 if newest else 1), "release": release}

    entry = ledger.append(usecase=usecase, kind="registration", once=release["sha256"], body=body)
    shown, version = projection.project(usecase), entry["body"]["version"]
    return {"version": version, "release": release, "run_id": shown["run_ids"].get(version) if shown else None}


def annotate_version(
    *, usecase: str, candidate: dict[str, Any], evidence: Evidence, verdict: Verdict
) -> dict[str, str | None]:
    """Write the figures with their intervals, and the verdict, to the candidate's MLflow run and version.

    Example:
        >>> annotate_version(usecase="triage", candidate=candidate, evidence=evidence, verdict=verdict)
    """
    name, release = config.usecase_name(usecase), candidate["release"]
    figures: dict[str, float] = {}
    for report in evidence["reports"]:
        for metric, found in report["metrics"].items():
            figures |= {f"{report['subject']}.{metric}": found["value"]}
            figures |= {f"{report['subject']}.{metric}.{end}": found[end] for end in ("low", "high")}
    with tracking.run(usecase=name, name=f"release {release['sha256'][:8]}", key=release["key"]) as run:
        run.metrics(figures)
        run.json("evaluation.json", {"evidence": evidence, "verdict": verdict})
    end = ledger.head(usecase=usecase)

    def show(api: Any) -> None:
        api.set_model_version_tag(name, candidate["version"], "gate", verdict["verdict"])
        witnesses.tell(api, name, end)

    tracking.attempt(f"the verdict about version {candidate['version']}", show)
    return {"run_id": candidate["run_id"], "verdict": verdict["verdict"]}


# ---------------------------------------------------------------- who is champion


def find_champion(*, usecase: str, version: str | None = None) -> dict[str, Any]:
    """Who serves now, resolved once; or, with `version`, what was promoted under that number.

    Returns:
        {version, release, dataset, report, seq, head}; version is None before the first promotion. `head` is where the
        ledger ended: who keeps it is a witness of that.

    Raises:
        ReleaseError: if that version was never promoted.

    Example:
        >>> champion = find_champion(usecase="triage")
    """
    return _champion(ledger.newest(usecase), usecase, version)


def _champion(end: Head, usecase: str, version: str | None = None) -> dict[str, Any]:
    entry = _promotion(end, usecase, version) if version else _serving(end)
    known = entry["body"] if entry else dict.fromkeys(("version", "release", "dataset", "report"))
    found = {name: known[name] for name in ("version", "release", "dataset", "report")}
    seen = {"seq": end.seq, "sha256": end.sha256}
    return found | {"seq": entry["seq"] if entry else 0, "head": seen}


def _serving(end: Head) -> LedgerEntry | None:
    """The promotion of the version that serves."""
    change = end.last(ledger.CHANGE)
    if change is None or change["kind"] == "promotion":
        return change
    return ledger.entry_at(end, change["body"]["promotion"])


def _promotion(end: Head, usecase: str, version: str) -> LedgerEntry:
    entry = ledger.find_entry(usecase=usecase, kind="promotion", once=_once(version))
    if entry is None:
        promoted = sorted(entry["body"]["version"] for entry in end.walk("promotion"))
        raise ReleaseError(f"Version '{version}' was never promoted. Promoted versions: {promoted}.")
    return entry


def _once(version: str) -> str:
    return f"promote {version}"


def find_starting_point(*, usecase: str, base: ArtifactRef) -> ArtifactRef:
    """The weights that training starts from, as `finetune.start` says: the base model, or a champion's release.

    Args:
        usecase: name or YAML path.
        base: the use case's base model; also where there is no champion yet.

    Raises:
        ModelError: if the champion is an ensemble, which is not one set of weights.

    Example:
        >>> find_starting_point(usecase="triage", base=base)
    """
    start = config.load(usecase).finetune.start
    if start == "base":
        return base
    whose = start.partition(":")[2] or usecase
    found: ArtifactRef | None = find_champion(usecase=whose)["release"]
    if found is None:
        log.info("'%s' has no champion yet: training starts from the base model", config.usecase_name(whose))
        return base
    if (members := found["meta"].get("members", 1)) > 1:
        raise ModelError(
            f"The champion of '{config.usecase_name(whose)}' is an ensemble of {members} members: training starts from "
            "one set of weights. Set finetune.start to 'base', or promote a release with one member first."
        )
    return found


def add_champions(*, usecase: str, events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """For answered days: {day, predictions, champion}, the champion being the version that answered last.

    Example:
        >>> add_champions(usecase="triage", events=events)
    """
    return [
        {
            "day": event["day"],
            "predictions": event["predictions"],
            "champion": find_champion(usecase=usecase, version=event["predictions"]["release_version"]),
        }
        for event in events
    ]


def promote(
    *,
    usecase: str,
    candidate: dict[str, Any],
    verdict: Verdict,
    approval: dict[str, Any],
    evidence: Evidence,
    dataset: ArtifactRef,
) -> dict[str, Any]:
    """Make an approved candidate the champion: ledger entry first, then MLflow's aliases.

    Args:
        usecase: name or YAML path.
        candidate: from `register_release`.
        verdict: from the gate, as `record_verdict` recorded it; must be `pass` and about these bytes.
        approval: from `record_approval`; must be about this verdict.
        evidence: what was judged; the candidate's report is kept as what drift is measured against.
        dataset: what it was evaluated on.

    Raises:
        EvidenceError: if verdict or approval are missing, not in the ledger, negative, or about something else.
        ReleaseError: if another version was promoted after the verdict.

    Example:
        >>> promote(usecase="triage", candidate=candidate, verdict=verdict, approval=approval, evidence=evidence, dataset=dataset)
    """
    proof.check(candidate, verdict, approval, evidence, dataset)
    made = {
        "version": candidate["version"],
        "previous": approval["champion_version"],
        "release": candidate["release"],
        "dataset": dataset,
        "report": evidence["reports"][0],
        "verdict_evidence_sha256": verdict["evidence_sha256"],
        "approved_by": approval["by"],
    }

    def body(end: Head) -> dict[str, Any]:
        proof.check_recorded(end, candidate, verdict, approval)
        proof.check_champion(end, approval["champion_version"])
        return made

    ledger.append(usecase=usecase, kind="promotion", once=_once(candidate["version"]), body=body)
    projection.project(usecase)
    now = find_champion(usecase=usecase)
    if now["version"] != candidate["version"]:
        raise ReleaseError(
            f"Version {candidate['version']} was promoted before, and version {now['version']} serves since. "
            f"To return to it, start the rollback with version {candidate['version']}."
        )
    return now


def rollback(*, usecase: str, reason: str, by: str, version: str | None = None) -> dict[str, Any]:
    """Return to the version that served before the current one, or to a given one that was promoted once.

    Rolling back twice changes nothing: a second call without `version` right after the first is a no-op. MLflow is not
    needed: where it is out of reach, its alias follows later.

    Raises:
        ReleaseError: if there is nothing to return to.

    Example:
        >>> rollback(usecase="triage", reason="worse on the ward", by="Dr. Who")
    """
    last = ledger.newest(usecase).last(ledger.CHANGE)
    if last is None:
        raise ReleaseError("Nothing was promoted yet, so there is nothing to roll back.")
    target = version or (last["body"]["version"] if last["kind"] == "rollback" else last["body"]["previous"])
    if target is None:
        raise ReleaseError(f"Version {last['body']['version']} is the first champion; there is none to return to.")
    if target != last["body"]["version"]:
        _roll_back(usecase, last, target, {"reason": reason, "by": by})
    projection.project(usecase)
    return find_champion(usecase=usecase)


def _roll_back(usecase: str, last: LedgerEntry, target: str, why: dict[str, Any]) -> None:
    promotion = _promotion(ledger.newest(usecase), usecase, target)  # raises if it was never promoted
    pinned = {"seq": promotion["seq"], "sha256": promotion["sha256"]}
    made = {"version": target, "previous": last["body"]["version"], "promotion": pinned, **why}

    def body(end: Head) -> dict[str, Any]:
        proof.check_champion(end, last["body"]["version"], since="the rollback began")
        return made

    ledger.append(usecase=usecase, kind="rollback", once=f"after {last['seq']} to {target}", body=body)
