"""Probabilities of labels by hand: whole forward passes of transformers, one label and prompt at a time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.models.label_tree import Scoring

Ids = list[int]


def probabilities(folder: Path, prompts: list[str], labels: list[str], rule: Scoring) -> list[list[float]]:
    """No tree, no cache, no batch. A label that begins another is followed by the end of the text."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in labels]
    begun = [any(other[: len(one)] == one and len(other) > len(one) for other in ids) for one in ids]
    ids = [one + [tokenizer.eos_token_id] * more for one, more in zip(ids, begun, strict=True)]
    return [_row(model, tokenizer(prompt)["input_ids"], ids, rule) for prompt in prompts]


def _row(model: Any, start: Ids, ids: list[Ids], rule: Scoring) -> list[float]:
    logs = [_log(model, start, label, ids, rule) / (len(label) if rule.length_normalised else 1) for label in ids]
    if not rule.whole_text:
        assert sum(map(math.exp, logs)) == pytest.approx(1)  # nothing is left to share out
    shares = [math.exp(log - max(logs)) for log in logs]
    return [share / sum(shares) for share in shares]


def _log(model: Any, start: Ids, label: Ids, ids: list[Ids], rule: Scoring) -> float:
    import torch

    with torch.inference_mode():
        logits = model(torch.tensor([start + label])).logits[0].double()
    total = 0.0
    for at, token in enumerate(label):
        choice = sorted({other[at] for other in ids if other[:at] == label[:at] and at < len(other)})
        here = logits[len(start) + at - 1]
        total += float(here[token] - torch.logsumexp(here if rule.whole_text else here[choice], -1))
    return total
