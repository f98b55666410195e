"""Rebuilding MLflow's registry from ledger and store alone."""

from __future__ import annotations

from typing import Any

from llmops_tasks import tracking
from llmops_tasks.contracts import ArtifactRef, Report, Verdict
from llmops_tasks.errors import ReleaseError
from llmops_tasks.release import evaluations, ledger, logged_model, projection
from llmops_tasks.release.ledger import Head


def rebuild_registry(*, usecase: str) -> dict[str, Any]:
    """Rebuild MLflow's registry from ledger and store: versions, models, verdicts and aliases.

    Run it after MLflow's database was lost or replaced by an empty one; it changes nothing if nothing is missing.

    Returns:
        {champion, why, versions, entries}: the version that serves; its approver, its promotion's evidence and number,
        and the last rollback's reason; every version with its release; how many entries the verified ledger has.

    Raises:
        IntegrityError: if the ledger is damaged; nothing is rebuilt then.
        ReleaseError: if MLflow has other versions under these numbers, or is unreachable.

    Example:
        >>> rebuild_registry(usecase="triage")
    """
    chain = ledger.read_ledger(usecase=usecase)
    end = ledger.newest(usecase)
    shown = tracking.attempt(f"rebuilding the registry of '{end.name}'", lambda api: _rebuild(api, end))
    if shown is None:
        raise ReleaseError("MLflow is unreachable, see the log. Check MLFLOW_TRACKING_URI, and run this again.")
    change = end.last(ledger.CHANGE)
    registered = {
        entry["body"]["version"]: entry["body"]["release"] for entry in chain if entry["kind"] == "registration"
    }
    return {
        "champion": change["body"]["version"] if change else None,
        "why": _why(end),
        "versions": {number: release["sha256"] for number, release in registered.items()},
        "entries": len(chain),
    }


def _why(end: Head) -> dict[str, Any] | None:
    change = end.last(ledger.CHANGE)
    if change is None:
        return None
    promotion = ledger.entry_at(end, change["body"].get("promotion", change))
    found = {name: promotion["body"][name] for name in ("approved_by", "verdict_evidence_sha256")}
    back = {name: change["body"].get(name) for name in ("reason", "by")} if change["kind"] == "rollback" else None
    return {"promotion": promotion["seq"], **found, "rollback": back}


def _rebuild(api: Any, end: Head) -> dict[str, Any]:
    shown = projection.show(api, end)
    releases = {entry["body"]["version"]: entry["body"]["release"] for entry in end.walk("registration")}
    reports = {entry["body"]["version"]: entry["body"]["report"] for entry in end.walk("promotion")}
    judged: set[str] = set()
    for entry in end.walk("gate"):  # the newest verdict about a version counts
        verdict = entry["body"]["verdict"]
        version = verdict.get("candidate_version")
        if version in shown["run_ids"] and version not in judged:
            api.set_model_version_tag(end.name, version, "gate", verdict["verdict"])
            _show_evaluation(api, end.name, verdict, releases[version], reports.get(version))
            judged.add(version)
    for entry in end.walk("promotion"):
        api.set_model_version_tag(end.name, entry["body"]["version"], "ledger_seq", str(entry["seq"]))
    return shown


def _show_evaluation(api: Any, name: str, verdict: Verdict, release: ArtifactRef, report: Report | None) -> None:
    """What the ledger keeps of it, where MLflow has lost it: the checks, and the figures of what was promoted."""
    run = tracking.find_run(api, name, release["key"])
    if run and logged_model.EVALUATED not in run.data.tags:
        evaluations.write(name, release, {"reports": [report] if report else [], "comparisons": []}, verdict)
    logged_model.link_figures(api, api.get_model_version(name, verdict["candidate_version"]))
