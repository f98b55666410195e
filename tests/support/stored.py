"""Where the store really keeps a file, for tests that change it behind the store's back."""

from __future__ import annotations

from llmops_tasks.store import artifacts, objects


def place(uri: str, name: str) -> str:
    """The address of a file of an artifact; of its manifest, too."""
    if name == artifacts.MANIFEST:
        return f"{uri}/{name}"
    return artifacts._place(uri, objects.read_json(f"{uri}/{artifacts.MANIFEST}"), name)
