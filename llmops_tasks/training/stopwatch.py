"""Time used by a run so far, over all its attempts."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, field


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@dataclass
class Stopwatch:
    """Starts counting when created. Steps lost with a killed process are not counted."""

    seconds: float = 0.0  # by the clock, of earlier attempts
    cpu_seconds: float = 0.0  # of this process, in earlier attempts
    _clock: float = field(default_factory=time.monotonic)
    _processor: float = field(default_factory=_processor_seconds)

    def spent(self) -> dict[str, float]:
        """{seconds, cpu_seconds}, earlier attempts included."""
        return {
            "seconds": self.seconds + time.monotonic() - self._clock,
            "cpu_seconds": self.cpu_seconds + _processor_seconds() - self._processor,
        }

    def go_on_from(self, spent: dict[str, float]) -> None:
        """Add what an earlier attempt had spent."""
        self.seconds, self.cpu_seconds = spent["seconds"], spent["cpu_seconds"]
