"""SHA-256 over values, files and sources: they identify and address results."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any


def canonical(value: Any) -> bytes:
    """JSON with sorted keys and no spaces: equal values give equal bytes. NaN is refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def digest(value: Any) -> str:
    """SHA-256 of bytes, or of the canonical JSON of anything else."""
    return hashlib.sha256(value if isinstance(value, bytes) else canonical(value)).hexdigest()


def evidence_digest(reports: Any, comparisons: Any, run: dict[str, Any]) -> str:
    """By what a verdict names its evidence, and a promotion finds it again.

    Args:
        reports: all that were judged.
        comparisons: likewise.
        run: of the candidate's training, `smoke` and `control`.
    """
    return digest([reports, comparisons, {name: run[name] for name in ("smoke", "control")}])


def file_digest(path: Path) -> str:
    """SHA-256 of a file, read in chunks."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
