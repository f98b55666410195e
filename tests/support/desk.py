"""The shipped generation use case, with the tiny model and questions of the test's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from llmops_tasks.data import synthetic_faq
from tests.support import tiny

FAQ = tiny.ROOT / "include" / "usecases" / "faq.yaml"
# Whatever a random model writes may pass here: it is not the gate that is tried.
LENIENT = {"limits": [{"metric": "token_f1", "at_least": 0.0}], "beats": [], "champion_margin": 2.0, "min_n": 10}


def write(folder: Path, questions: int = 120) -> Path:
    """Questions with answers, and two days of others."""
    synthetic_faq.write_faq(out=folder.as_uri(), questions=questions, chats=1, day_questions=50)
    return folder


def usecase(folder: Path, model: Path, desk: Path, name: str = "desk", **sections: dict[str, Any]) -> Path:
    """Write it; keyword arguments are merged into the sections of the same name, one level deep."""
    raw = yaml.safe_load(FAQ.read_text(encoding="utf-8"))
    raw["data"]["source"]["uri"] = f"{desk.as_uri()}/landing/*.jsonl"
    raw["batch"]["source"]["uri"] = f"{desk.as_uri()}/inbox/date={{date}}/*.jsonl"
    raw["base_model"] = {"uri": model.as_uri(), "licence": "none, random weights"}
    raw["finetune"] |= {"top_layers": 1, "epochs": 1}
    raw["evaluation"] |= {"bootstrap": 200}
    raw["task"]["decoding"] |= {"max_new_tokens": 12}
    for section, values in sections.items():
        raw[section] = {**raw.get(section, {}), **values}
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return path
