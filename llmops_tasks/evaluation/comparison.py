"""The candidate beside every other subject, record by record: all that the gate judges on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from llmops_tasks import config, metrics
from llmops_tasks.contracts import ABSTAINED, EARLIER, ArtifactRef, Comparison, Evidence, Report
from llmops_tasks.errors import EvidenceError
from llmops_tasks.evaluation import generation
from llmops_tasks.store import artifacts

if TYPE_CHECKING:
    import pandas as pd


def compare_subjects(*, usecase: str, reports: list[Report], champion: dict[str, Any] | None = None) -> Evidence:
    """Compare the candidate with every other subject.

    Args:
        usecase: name or YAML path; with `gate.max_forgetting`, also on the champion's own test set.
        reports: from `evaluate`.
        champion: from `find_champion`.

    Example:
        >>> evidence = compare_subjects(usecase="triage", reports=[report])
    """
    # what a process cost is no evidence: only a report's own keys count
    reports = [cast(Report, {name: report[name] for name in Report.__annotations__}) for report in reports]  # type: ignore[literal-required]
    candidate = next(report for report in reports if report["subject"] == "candidate")
    others = [report for report in reports if report["subject"] != "candidate"]
    comparisons = [compare_pair(usecase=usecase, candidate=candidate, reference=other) for other in others]
    serving = next((report for report in others if report["subject"] == "champion"), None)
    if serving and champion and config.load(usecase).gate.max_forgetting is not None:
        earlier = _test_records(champion["dataset"])
        found = compare_pair(usecase=usecase, candidate=candidate, reference=serving, only=earlier)
        comparisons.append({**found, "reference": EARLIER})
    return {"reports": [candidate, *others], "comparisons": comparisons}


def _test_records(dataset: ArtifactRef) -> set[str]:
    import pandas as pd

    path = artifacts.fetch(dataset) / "data.parquet"
    return set(pd.read_parquet(path, columns=["record_id"], filters=[("split", "==", "test")])["record_id"])


def compare_pair(*, usecase: str, candidate: Report, reference: Report, only: set[str] | None = None) -> Comparison:
    """Difference between candidate and reference in the gate's metric: paired, with a bootstrap interval over groups.

    Args:
        usecase: name or YAML path.
        candidate: from `evaluate`.
        reference: from `evaluate`, on the same dataset and split.
        only: ids of the records to compare; by default all.

    Raises:
        EvidenceError: if the two were not measured on the same records or scale, or none is left.

    Example:
        >>> compare_pair(usecase="triage", candidate=report, reference=baseline)
    """
    case = config.load(usecase)
    labels = candidate["predictions"]["meta"]["labels"]
    if labels != reference["predictions"]["meta"]["labels"]:
        raise EvidenceError(
            f"'{candidate['subject']}' and '{reference['subject']}' use different label scales. Create a "
            "separate use case for the new scale."
        )
    both = _both(candidate, reference, only)
    head = {"reference": reference["subject"], "metric": case.gate.metric, "n": len(both)}
    if case.task.type == "generation":
        return cast(Comparison, {**head, "difference": generation.difference(case, both)})
    codes = {name: both[name].map([*labels, ABSTAINED].index).to_numpy() for name in ("truth", "ours", "theirs")}
    difference = metrics.difference(
        **codes,
        groups=both["group"].tolist(),
        labels=labels,
        metric=case.gate.metric,
        resamples=case.evaluation.bootstrap,
        confidence=case.evaluation.confidence,
    )
    return cast(Comparison, {**head, "difference": difference})


def _both(candidate: Report, reference: Report, only: set[str] | None) -> pd.DataFrame:
    """Truth, group and both answers of every record that counts."""
    import pandas as pd

    ours, theirs = (
        pd.read_parquet(artifacts.fetch(report["predictions"]) / "predictions.parquet").sort_values("record_id")
        for report in (candidate, reference)
    )
    if ours["record_id"].tolist() != theirs["record_id"].tolist():
        raise EvidenceError(
            f"'{candidate['subject']}' and '{reference['subject']}' were measured on different records."
        )
    given = "label" if "label" in ours else "answer"
    both = ours[["record_id", "group", "truth"]].assign(ours=ours[given], theirs=theirs[given].to_numpy())
    if only is not None:
        both = both[both["record_id"].isin(only)]
    if both.empty:
        raise EvidenceError(
            "No record of the champion's test set is among those measured. Evaluate on a dataset that contains them."
        )
    return both
