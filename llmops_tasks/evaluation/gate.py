"""Whether a candidate may be promoted. Pure: the same evidence gives the same verdict.

Cautious: the unfavourable end of each interval is held against the limit. `fail` where the evidence
speaks against the candidate, `insufficient` where it does not speak clearly, or is missing. Only `pass` goes on.
"""

from __future__ import annotations

from typing import Any

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
        evidence: from `quality.compare_all`.
        candidate: from `registry.register`; its stamps `smoke` and `control` are looked at.
        champion: from `registry.champion`, as it is now.
    """
    verdict = apply_policy(
        policy=config.load(usecase).gate,
        reports=evidence["reports"],
        comparisons=evidence["comparisons"],
        has_champion=champion["version"] is not None,
        stamps={name: candidate["release"]["meta"][name] for name in ("smoke", "control")},
    )
    verdict["candidate_version"] = candidate["version"]
    return verdict


def needs_verdict(*, candidate: dict[str, Any], champion: dict[str, Any]) -> bool:
    """False for the version that serves already: there is nothing to decide."""
    return bool(candidate["version"] != champion["version"])


def has_passed(*, verdict: Verdict) -> bool:
    """Whether a person is to be asked."""
    return verdict["verdict"] == "pass"


def apply_policy(
    *, policy: Gate, reports: list[Report], comparisons: list[Comparison], has_champion: bool, stamps: dict[str, Any]
) -> Verdict:
    """The verdict on evidence and policy alone."""
    found_reports = [report for report in reports if report["subject"] == "candidate" and report["split"] == "test"]
    candidate = (
        found_reports[0] if len({report["dataset_sha256"] for report in reports}) == 1 and found_reports else None
    )
    checks = [_limit(limit, candidate, policy.min_n) for limit in policy.limits]
    references = {comparison["reference"]: comparison for comparison in comparisons}
    checks += [_beats(name, references.get(name), 0.0, policy) for name in policy.beats]
    if has_champion:
        checks.append(_beats("champion", references.get("champion"), -policy.champion_margin, policy))
    if has_champion and policy.max_forgetting is not None:
        checks.append(_beats(EARLIER, references.get(EARLIER), -policy.max_forgetting, policy))
    if stamps.get("smoke"):
        checks.append(_marked("a smoke run", "trained for a few steps only, never to be promoted"))
    found = {check["verdict"] for check in checks}
    overall = "fail" if "fail" in found else "insufficient" if "insufficient" in found else "pass"
    return {
        "verdict": overall,
        "reasons": [check["reason"] for check in checks if check["verdict"] != "pass"] or ["every check passed"],
        "checks": checks,
        "candidate_sha256": candidate["subject_sha256"] if candidate else "",
        "dataset_sha256": candidate["dataset_sha256"] if candidate else "",
        "policy_sha256": digests.digest(policy.model_dump(mode="json")),
        "evidence_sha256": digests.digest([reports, comparisons, stamps]),
    }


def _limit(limit: Limit, report: Report | None, min_n: int) -> Check:
    at_least = limit.at_least is not None
    bound = limit.at_least if limit.at_least is not None else limit.at_most or 0.0
    figure = report["metrics"].get(limit.metric) if report else None
    return _check(limit.metric, figure, bound, at_least, report["n"] if report else 0, min_n)


def _beats(name: str, comparison: Comparison | None, bound: float, policy: Gate) -> Check:
    figure = comparison["difference"] if comparison and comparison["metric"] == policy.metric else None
    label = f"{policy.metric} minus {name}'s"
    return _check(label, figure, bound, True, comparison["n"] if comparison else 0, policy.min_n)


def _check(name: str, figure: Interval | None, bound: float, at_least: bool, n: int, min_n: int) -> Check:
    rule = "at least" if at_least else "at most"
    if figure is None:
        verdict, reason = "insufficient", f"{name}: not measured; missing evidence never passes"
    elif n < min_n:
        verdict, reason = "insufficient", f"{name}: {n} records, {min_n} are needed"
    else:
        cautious, kind = (figure["low"], figure["high"]) if at_least else (-figure["high"], -figure["low"])
        limit = bound if at_least else -bound
        verdict = "pass" if cautious >= limit else "fail" if kind < limit else "insufficient"
        reason = f"{name}: {figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}], {rule} {bound:g} is asked"
    observed = figure["value"] if figure else None
    return {
        "name": name,
        "observed": observed,
        "limit": bound,
        "rule": rule,
        "n": n,
        "verdict": verdict,
        "reason": reason,
    }


def _marked(name: str, reason: str) -> Check:
    return {
        "name": name,
        "observed": None,
        "limit": 0.0,
        "rule": "at most",
        "n": 0,
        "verdict": "fail",
        "reason": f"{name}: {reason}",
    }


def render_gate_table(*, verdict: Verdict) -> dict[str, str]:
    """The verdict as a Markdown table, for the approver."""
    lines = [
        f"**Candidate version {verdict.get('candidate_version', '?')}: {verdict['verdict']}**",
        "",
        "| check | observed | rule | n | verdict |",
        "|---|---|---|---|---|",
    ]
    for check in verdict["checks"]:
        observed = "not measured" if check["observed"] is None else f"{check['observed']:.3f}"
        lines.append(
            f"| {check['name']} | {observed} | {check['rule']} {check['limit']:g} | {check['n']} | {check['verdict']} |"
        )
    lines += ["", *(f"- {reason}" for reason in verdict["reasons"])]
    lines += ["", f"Release `{verdict['candidate_sha256'][:12]}`, evidence `{verdict['evidence_sha256'][:12]}`."]
    return {"markdown": "\n".join(lines)}
