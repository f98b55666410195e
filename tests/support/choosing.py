"""Records that base models are measured on."""

from __future__ import annotations

from typing import Any

from llmops_tasks.config import UseCase


def rows(case: UseCase, count: int = 60, **values: Any) -> list[dict[str, Any]]:
    """Records as a dataset has them, the last tenth to validate on; all labels in turn."""
    labels = case.task.labels
    return [
        {
            "record_id": f"r{number}",
            "group": f"g{number}",
            "text": f"note {number}",
            "label": labels[number % len(labels)].name if labels else "an answer",
            "completion": labels[number % len(labels)].text if labels else " an answer",
            "split": "train" if number < count * 0.9 else "validation",
            **values,
        }
        for number in range(count)
    ]
