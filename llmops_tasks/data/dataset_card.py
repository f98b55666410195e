"""A dataset's card: statistics only, no records."""

from __future__ import annotations

from typing import Any

from llmops_tasks.config import UseCase
from llmops_tasks.data.splits import SPLITS


def dataset_card(usecase: str, case: UseCase, rows: int, meta: dict[str, Any]) -> str:
    """Markdown from a dataset's figures."""
    rule, roles = case.data.split, {role: case.data.named(role) for role in ("input", "identifier", "leakage")}
    dropped = ", ".join(f"{count} {what}" for what, count in meta["dropped"].items() if count) or "none"
    parts = [
        f"# Dataset of '{usecase}'",
        case.description,
        f"- {rows} records" + (f", {meta['span'][0]} to {meta['span'][1]}" if meta["span"][0] else ""),
        f"- dropped: {dropped}; texts with more than one label: {meta['conflicting_texts']}",
        f"- synthetic, made from training records (marked in the column `augmented`): {meta['augmented']}",
        f"- words per text: {', '.join(f'{name} {value:g}' for name, value in meta['words'].items())}",
        f"- test set: {meta['evaluation']['rows']} records, {meta['evaluation']['sha256'][:12]}",
        "",
        "## Splits",
        _table(case, meta),
        "",
        f"Split by {rule.by}, ordered by {rule.order}"
        + (
            f", in cohorts of {rule.cohort} groups: within each, the groups seen first are for training, the last for testing."
            if rule.order == "time"
            else "."
        )
        + " No group is in two splits.",
        "",
        "## Columns",
        f"- read by the model: {', '.join(roles['input'])}",
        f"- identifiers, masked and dropped: {', '.join(roles['identifier']) or 'none'}",
        f"- known only after the outcome, not allowed as input: {', '.join(roles['leakage']) or 'none'}",
    ]
    if languages := meta.get("languages"):
        parts.append(f"- languages: {', '.join(f'{name} {count}' for name, count in languages.items())}")
    return "\n".join(parts) + "\n"


def _table(case: UseCase, meta: dict[str, Any]) -> str:
    names = [label.name for label in case.task.labels]
    head = ["split", "rows", *names]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for part in SPLITS:
        labels = meta.get("labels", {}).get(part, {})
        cells = [part, meta["splits"][part], *(labels.get(name, 0) for name in names)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)
