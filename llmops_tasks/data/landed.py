"""New files in the landing area."""

from __future__ import annotations

from typing import Any

from llmops_tasks import config
from llmops_tasks.store import digests, looks, objects


def find_new_files(*, usecase: str) -> list[dict[str, Any]]:
    """The run that would read newly landed files, if there are any: {stage, conf, run_id}.

    Example:
        >>> find_new_files(usecase="triage")
    """
    marks = objects.fingerprints(config.expand(config.load(usecase).data.source.uri))
    seen = digests.digest(marks)
    if not marks or seen == looks.last(config.usecase_name(usecase)):
        return []
    return [{"stage": "prepare_data", "conf": {}, "run_id": f"due__{seen[:12]}"}]
