"""A double that notes what it is asked, and may be killed at a prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.models.decoding import Answer
from llmops_tasks.models.generator import Stub
from llmops_tasks.store import artifacts
from tests.support import tiny


class Counting(Stub):
    """See above."""

    def __init__(self, dies_at: str = "") -> None:
        super().__init__(tiny.ROOT)
        self.asked: list[Any] = []
        self.dies_at = dies_at

    def _note(self, prompts: Any) -> None:
        if self.dies_at and any(self.dies_at in prompt for prompt in prompts):
            raise KeyboardInterrupt
        self.asked += prompts
        self.cut += 1

    def scores(self, prompts: Any, *given: Any, **more: Any) -> list[list[float]]:
        """See Stub."""
        self._note(prompts)
        return super().scores(prompts, *given, **more)

    def generate(self, prompts: Any, *given: Any, **more: Any) -> list[Answer]:
        """See Stub."""
        self._note(prompts)
        return super().generate(prompts, *given, **more)


def some_model() -> ArtifactRef:
    """A reference that a model would have."""

    def build(out: Path) -> dict[str, Any]:
        (out / "weights").write_text("x")
        return {}

    return artifacts.publish(usecase="models", kind="base", inputs={}, build=build)
