"""Both kinds of store."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Both kinds of store."""
    uri = f"file://{tmp_path}/store"
    if request.param == "s3":
        request.getfixturevalue("s3")
        uri = "s3://bucket/store"
    monkeypatch.setenv("LLMOPS_STORE", uri)
    return uri
