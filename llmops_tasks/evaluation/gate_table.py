"""The gate's verdict as an approver reads it."""

from __future__ import annotations

from llmops_tasks.contracts import Verdict


def render_gate_table(*, verdict: Verdict) -> dict[str, str]:
    """The verdict as a Markdown table, for the approver.

    Example:
        >>> render_gate_table(verdict=verdict)
    """
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
