"""A bank's use case: 77 labels in words of their own, many of which begin alike, and messages made by template."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import yaml

from benchmarks.banking import INTENTS

OPENINGS = ("Hello,", "Hi there,", "Please help:", "Good morning,", "Urgent!", "A question:")
ENDINGS = ("What can I do?", "Thank you.", "Please answer soon.", "This is annoying.", "How does it work?")


def messages(each: int = 10, seed: int = 1) -> list[dict[str, str]]:
    """So many messages of every intent, in all of its words; every fifth is vague and has the first alone."""
    rng = random.Random(seed)
    return [
        {
            "message_id": f"M{number}-{intent}",
            "intent": intent,
            "message": f"{rng.choice(OPENINGS)} about {' '.join(_words(intent, number, rng))}. {rng.choice(ENDINGS)} {number}",
        }
        for number in range(each)
        for intent in INTENTS
    ]


def is_vague(number: int) -> bool:
    """Whether a message of this number could have any intent that begins like its own."""
    return number % 5 == 0


def _words(intent: str, number: int, rng: random.Random) -> list[str]:
    words = intent.split("_")[: 1 if is_vague(number) else None]
    rng.shuffle(words)
    return words


def usecase(folder: Path, model: Path, **sections: dict[str, Any]) -> str:
    """Write messages and the use case, whose labels are the intents' own words; `sections` are merged into its own."""
    landing = folder / "landing.jsonl"
    landing.write_text("".join(json.dumps(row) + "\n" for row in messages()), encoding="utf-8")
    labels = [{"name": name, "values": [name], "text": f" {name.replace('_', ' ')}"} for name in INTENTS]
    raw: dict[str, Any] = {
        "version": 1,
        "description": "What a customer's message is about.",
        "owner": "customer-care",
        "task": {"type": "classification", "labels": labels, "abstain_below": 0.5},
        "data": {
            "source": {"uri": landing.as_uri(), "format": "jsonl"},
            "columns": {
                "message_id": {"role": "id", "required": True},
                "intent": {"role": "label", "required": True},
                "message": {"role": "input", "required": True},
            },
            "text": "{{ message }}",
            "min_rows": 100,
            "split": {"train": 0.6, "validation": 0.1, "test": 0.3, "by": "record", "order": "digest"},
        },
        "prompt": {"template": "Message: {{ text }}\nTopic:"},
        "base_model": {"uri": model.as_uri(), "licence": "apache-2.0"},
        "finetune": {"top_layers": 1, "epochs": 1, "learning_rate": 0.01, "max_length": 96},
        "evaluation": {"baselines": ["base"], "bootstrap": 100},
        "gate": {
            "metric": "accuracy",
            "limits": [{"metric": "accuracy", "at_least": 0.2}, {"metric": "coverage", "at_least": 0.2}],
            "min_n": 30,
        },
    }
    for name, values in sections.items():
        raw[name] |= values
    path = folder / "banking.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return str(path)
