"""The gate: whether a candidate may be promoted. Pure: the same evidence gives the same verdict.

The unfavourable confidence bound of each metric is compared with its limit. `fail` if even the favourable bound
misses it, `insufficient` if the interval contains it or evidence is missing. Only `pass` leads to approval.
"""

from __future__ import annotations

from typing import Any, cast

from llmops_tasks import config
from llmops_tasks.config import Gate, Limit
from llmops_tasks.contracts import EARLIER, Check, Comparison, Evidence, Interval, Report, Verdict
from llmops_tasks.store import digests


def judge_candidate(
    *, usecase: str, evidence: Evidence, candidate: dict[str, Any], champion: dict[str, Any]
) -> Verdict:
    """Judge a registered candidate by the use case's policy.

    Args:
        usecase: name or YAML path.
        evidence: from `compare_subjects`.
        candidate: from `register_release`; its stamps `smoke` and `control` are checked.
        champion: from `find_champion`, as it is now.

    Example:
        >>> verdict = judge_candidate(usecase="triage", evidence=evidence, candidate=candidate, champion=champion)
    """
    verdict = apply_policy(
        policy=config.load(usecase).gate,
        reports=evidence["reports"],
        comparisons=evidence["comparisons"],
        has_champion=champion["version"] is not None,
        stamps={name: candidate["release"]["meta"][name] for name in ("smoke", "control")},
    )
    return {**verdict, "candidate_version": candidate["version"], "champion_version": champion["version"]}


def apply_policy(
    *, policy: Gate, reports: list[Report], comparisons: list[Comparison], has_champion: bool, stamps: dict[str, Any]
) -> Verdict:
    """The verdict on evidence and policy alone.

    Args:
        policy: limits and comparisons.
        reports: of every subject.
        comparisons: of the candidate with the others.
        has_champion: whether there is a champion.
        stamps: `smoke` and `control` of the candidate's training run.
    """
    candidate = _candidate(reports)
    references = {comparison["reference"]: comparison for comparison in comparisons}
    bounds: dict[str, float] = {name: 0.0 for name in policy.beats}
    if has_champion:
        bounds["champion"] = -policy.champion_margin
        bounds |= {EARLIER: -policy.max_forgetting} if policy.max_forgetting is not None else {}
    checks = [_limit(limit, candidate, policy.min_n) for limit in policy.limits]
    checks += [_beats(name, references.get(name), bound, policy) for name, bound in bounds.items()]
    checks += [_unseen(report) for report in reports]
    checks += _refusals(stamps)
    found = {check["verdict"] for check in checks}
    overall = "fail" if "fail" in found else "insufficient" if "insufficient" in found or not candidate else "pass"
    return {
        "verdict": overall,
        "reasons": [check["reason"] for check in checks if check["verdict"] != "pass"] or ["every check passed"],
        "checks": checks,
        "candidate_sha256": candidate["subject_sha256"] if candidate else "",
        "dataset_sha256": candidate["dataset_sha256"] if candidate else "",
        "policy_sha256": digests.digest(policy.model_dump(mode="json")),
        "evidence_sha256": digests.evidence_digest(reports, comparisons, stamps),
    }


def _candidate(reports: list[Report]) -> Report | None:
    """The candidate's report on the test split, if all reports are about the same dataset."""
    found = [report for report in reports if report["subject"] == "candidate" and report["split"] == "test"]
    return found[0] if len({report["dataset_sha256"] for report in reports}) == 1 and found else None


def _limit(limit: Limit, report: Report | None, min_n: int) -> Check:
    at_least = limit.at_least is not None
    bound = limit.at_least if limit.at_least is not None else limit.at_most or 0.0
    figure = report["metrics"].get(limit.metric) if report else None
    return _check(limit.metric, figure, bound, at_least, limit.min_n or min_n)


def _beats(name: str, comparison: Comparison | None, bound: float, policy: Gate) -> Check:
    figure = comparison["difference"] if comparison and comparison["metric"] == policy.metric else None
    return _check(f"{policy.metric}, difference to {name}", figure, bound, True, policy.min_n)


def _check(name: str, figure: Interval | None, bound: float, at_least: bool, min_n: int) -> Check:
    """Compare the unfavourable confidence bound with the limit; `n` is the metric's own denominator."""
    rule = "at least" if at_least else "at most"
    if figure is None:
        return _row(name, None, bound, rule, 0, "insufficient", "not measured; missing evidence never passes")
    if figure["n"] < min_n:
        reason = f"{figure['n']} records, {min_n} are needed"
        return _row(name, figure["value"], bound, rule, figure["n"], "insufficient", reason)
    worst, best = (figure["low"], figure["high"]) if at_least else (-figure["high"], -figure["low"])
    limit = bound if at_least else -bound
    verdict = "pass" if worst >= limit else "fail" if best < limit else "insufficient"
    reason = f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}], {rule} {bound:g} required"
    return _row(name, figure["value"], bound, rule, figure["n"], verdict, reason)


def _unseen(report: Report) -> Check:
    """A subject that was trained on groups of the test set is no evidence, whatever its metrics."""
    name, overlap = f"groups of the test set in the training data of {report['subject']}", report["overlap"]
    reason = "unknown" if overlap is None else f"{overlap} groups overlap"
    verdict = "pass" if overlap == 0 else "insufficient"
    return _row(name, overlap, 0.0, "at most", report["n"], verdict, reason)


def _refusals(stamps: dict[str, Any]) -> list[Check]:
    """Runs that must never be promoted, whatever their metrics."""
    found = []
    if stamps["smoke"]:
        found.append(_row("a smoke run", None, 0.0, "at most", 0, "fail", "trained for a few steps only"))
    if stamps["control"] != "none":
        reason = f"trained as a negative control ({stamps['control']})"
        found.append(_row("a negative control", None, 0.0, "at most", 0, "fail", reason))
    return found


def _row(name: str, observed: float | None, limit: float, rule: str, n: int, verdict: str, reason: str) -> Check:
    row = {"observed": observed, "limit": limit, "rule": rule, "n": n, "verdict": verdict}
    return cast(Check, {"name": name, **row, "reason": f"{name}: {reason}"})
