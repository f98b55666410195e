"""Whether files have landed that no run has read: of those that were read, the last look at them is kept.

<store>/<usecase>/landed/...   {files}: a digest of the files' names and marks, the last one last
"""

from __future__ import annotations

from typing import Any

from llmops_tasks import config
from llmops_tasks.store import digests, journal, objects


def remember(name: str, marks: dict[str, str]) -> None:
    """Keep which files were there when they were read."""
    seen = digests.digest(marks)
    if _newest(name) != seen:
        journal.push(_folder(name), digests.canonical({"files": seen}))


def find_new_files(*, usecase: str) -> list[dict[str, Any]]:
    """The run that would read newly landed files, if there are any: {stage, conf, run_id}.

    Example:
        >>> find_new_files(usecase="triage")
    """
    name = config.usecase_name(usecase)
    marks = objects.fingerprints(config.expand(config.load(usecase).data.source.uri))
    seen = digests.digest(marks)
    if not marks or seen == _newest(name):
        return []
    return [{"stage": "prepare_data", "conf": {}, "run_id": f"due__{seen[:12]}"}]


def _newest(name: str) -> str | None:
    number = journal.last(folder := _folder(name))
    data = objects.read_if_there(uri := journal.address(folder, number)) if number else None
    return None if data is None else objects.parsed(uri, data)["files"]


def _folder(name: str) -> str:
    return f"{objects.store_uri()}/{name}/landed"
