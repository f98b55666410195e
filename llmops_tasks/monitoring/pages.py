"""The drift report of one partition: names and numbers only, no words of the records."""

from __future__ import annotations

import html
from typing import Any

_STYLE = "body{font:16px system-ui;margin:3em}td,th{padding:.3em 1em;text-align:left}.bad{background:#fdd}.good{background:#efe}"
_SAID = {"alarm": "alarm", "quiet": "none", "insufficient": "too few records"}
_LEGEND = "<tr><th>signal<th>effect<th>limit<th>p-value<th>verdict"


def drift(report: dict[str, Any]) -> str:
    """HTML from a drift report."""
    title = f"Drift on {html.escape(report['date'])}: {_SAID[report['verdict']]}"
    head = f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{_STYLE}</style><h1>{title}</h1>"
    text = f"<p>{report['n']} records, against {report['reference_n']} of the champion's test set."
    if report["verdict"] == "insufficient":
        return f"{head}{text} {report['needed']} are needed. The day is judged once more have arrived."
    rows = "".join(map(_row, report["signals"]))
    rule = "<p>A signal drifts when its effect exceeds its limit and is larger than expected by chance among the same groups."
    return f"{head}{text}<table>{_LEGEND}{rows}</table>{rule}"


def _row(signal: dict[str, Any]) -> str:
    kind, said = ("bad", "drifting") if signal["drifted"] else ("good", "steady")
    figures = f"<td>{signal['value']:.3f}<td>{signal['limit']:.3f}<td>{signal['p']:.2g}"
    return f"<tr class={kind}><td>{html.escape(signal['name'])}{figures}<td>{said}"
