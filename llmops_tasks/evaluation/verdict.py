"""The gate applied to what is in the store.

Reports are read again as they were published, whatever travelled meanwhile, and the verdict is kept beside all the
evidence that it was reached on. What is recorded, shown to a person and promoted by is this artifact alone.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, cast

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef, Evidence, Report, Verdict
from llmops_tasks.errors import EvidenceError
from llmops_tasks.evaluation.comparison import compare_subjects
from llmops_tasks.evaluation.gate import judge_candidate
from llmops_tasks.store import artifacts, digests, objects

FILE, EVIDENCE = "verdict.json", "evidence.json"
KINDS = {"base": "base", "tfidf": None, "retrieval": None}  # what a baseline's model is, by its kind in the store


def apply_gate(
    *,
    usecase: str,
    reports: list[Report],
    candidate: dict[str, Any],
    champion: dict[str, Any],
    dataset: ArtifactRef,
) -> ArtifactRef:
    """Apply the gate to a candidate, with the reports as stored.

    Args:
        usecase: name or YAML path.
        reports: from `evaluate`; only the subject and the address of its predictions are taken from each.
        candidate: from `find_candidate`.
        champion: from `find_champion`, as it is now.
        dataset: that all subjects were evaluated on.

    Returns:
        A reference of kind "verdict", with `verdict.json` and `evidence.json`; `meta` has the verdict.

    Raises:
        EvidenceError: if a report or the candidate's release differs from the store.

    Example:
        >>> verdict = apply_gate(usecase="triage", reports=[report], candidate=candidate, champion=champion, dataset=dataset)
    """
    name = config.usecase_name(usecase)
    candidate = {**candidate, "release": _as_published(candidate["release"])}
    found = [_as_measured(report, candidate, champion, dataset) for report in reports]
    evidence = compare_subjects(usecase=usecase, reports=found, champion=champion)
    verdict = judge_candidate(usecase=usecase, evidence=evidence, candidate=candidate, champion=champion)
    inputs = {"verdict": verdict, "evidence": evidence}
    build = partial(_build, verdict, evidence, [artifacts.parent(candidate["release"]), artifacts.parent(dataset)])
    return artifacts.publish(usecase=name, kind="verdict", inputs=inputs, build=build)


def _build(verdict: Verdict, evidence: Evidence, parents: list[dict[str, str]], out: Path) -> dict[str, Any]:
    (out / FILE).write_bytes(digests.canonical(verdict))
    (out / EVIDENCE).write_bytes(digests.canonical(evidence))
    about = {name: verdict[name] for name in ("verdict", "candidate_version", "champion_version")}
    return {"rows": len(verdict["checks"]), "parents": parents, **about}


def read_verdict(ref: ArtifactRef) -> Verdict:
    """The verdict that an artifact holds, checked against its digest."""
    return cast(Verdict, objects.parsed(ref["uri"], artifacts.read(ref, FILE)))


def has_passed(*, verdict: ArtifactRef) -> bool:
    """Whether the gate passed, so that approval is requested.

    Example:
        >>> has_passed(verdict=verdict)
    """
    return read_verdict(verdict)["verdict"] == "pass"


def _as_published(ref: ArtifactRef) -> ArtifactRef:
    """What the store has at a reference's address: its `meta` is in no digest, so the one handed in is not believed."""
    found = artifacts.at(ref["uri"])
    if found is None or found["sha256"] != ref["sha256"]:
        raise EvidenceError(f"'{ref['uri']}' does not match its reference. Run the step that produces it again.")
    return found


def _as_measured(report: Report, candidate: dict[str, Any], champion: dict[str, Any], dataset: ArtifactRef) -> Report:
    """A report with its metrics as published, if it is about the subject it names."""
    kept = _as_published(report["predictions"])
    meta, subject = kept["meta"], report["subject"]
    model = {"candidate": candidate["release"], "champion": champion["release"]}.get(subject)
    asked = meta["model_sha256"] == model["sha256"] if model else meta["model_kind"] == KINDS.get(subject)
    if not asked or meta["dataset_sha256"] != dataset["sha256"]:
        raise EvidenceError(
            f"The report of '{subject}' is about another model or dataset. Run the evaluation of this candidate again."
        )
    about = {"subject": subject, "subject_sha256": meta["model_sha256"] or kept["key"], "split": meta["split"]}
    figures = {"n": kept["rows"], "metrics": meta["metrics"], "overlap": meta["overlap"], "predictions": kept}
    return cast(Report, {**about, "dataset_sha256": meta["dataset_sha256"], **figures})
