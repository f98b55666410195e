"""Evidence that a gate passes, for tests that change one thing in it."""

from __future__ import annotations

from typing import Any

from llmops_tasks.config import Gate

POLICY = Gate.model_validate(
    {
        "metric": "quadratic_kappa",
        "limits": [
            {"metric": "quadratic_kappa", "at_least": 0.5},
            {"metric": "under_triage_rate", "at_most": 0.3},
        ],
        "beats": ["base"],
        "champion_margin": 0.02,
        "min_n": 100,
    }
)
STAMPS = {"smoke": False, "control": "none"}
Evidence = dict[str, Any]


def figure(low: float, high: float, n: int = 200) -> dict[str, float]:
    """A figure with its interval."""
    return {"value": (low + high) / 2, "low": low, "high": high, "n": n, "groups": n}


def sound_evidence() -> Evidence:
    """Everything is well: above 0.5, below 0.3, better than the base model, no champion."""
    metrics = {"quadratic_kappa": figure(0.55, 0.65), "under_triage_rate": figure(0.1, 0.2)}
    report = {
        "subject": "candidate",
        "subject_sha256": "c" * 64,
        "dataset_sha256": "d" * 64,
        "split": "test",
        "n": 200,
        "overlap": 0,
    }
    base = {"reference": "base", "metric": "quadratic_kappa", "n": 200, "difference": figure(0.2, 0.4)}
    return {
        "policy": POLICY,
        "reports": [{**report, "metrics": metrics}],
        "comparisons": [base],
        "has_champion": False,
        "stamps": dict(STAMPS),
    }
