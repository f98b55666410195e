"""The gate's verdict as an approver reads it."""

from __future__ import annotations

from llmops_tasks.contracts import ArtifactRef, Verdict
from llmops_tasks.evaluation.verdict import read_verdict


def render_gate_table(*, verdict: ArtifactRef) -> dict[str, str]:
    """Render the verdict as a Markdown table for the approver.

    Args:
        verdict: from `apply_gate`.

    Example:
        >>> render_gate_table(verdict=verdict)
    """
    return {"markdown": as_table(read_verdict(verdict))}


def as_table(verdict: Verdict) -> str:
    """A verdict's checks, one a line, and its reasons."""
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
    return "\n".join(lines)
