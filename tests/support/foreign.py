"""Small random models of other makes than a Llama: what transformers can load, fine-tuning takes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

_WIDTH = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
_SMALL = {**_WIDTH, "num_key_value_heads": 2, "max_position_embeddings": 256, "pad_token_id": 0}
# name -> configuration in transformers, its settings
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}),  # another layout altogether
    "glm": ("GlmConfig", {**_SMALL, "head_dim": 8}),  # turns half of every head
    "phi3": ("Phi3Config", _SMALL),  # fuses queries, keys and values
    "mixtral": ("MixtralConfig", {**_SMALL, "num_local_experts": 4}),  # experts that are no linear layers
    "gemma3": ("Gemma3TextConfig", {**_SMALL, "head_dim": 8, "sliding_window": 16}),  # scales what it is given
    "granite": ("GraniteConfig", {**_SMALL, "embedding_multiplier": 12.0, "logits_scaling": 2.0}),
    "mistral": ("MistralConfig", {**_SMALL, "sliding_window": 16}),  # looks back 16 tokens
    "phi3-window": ("Phi3Config", {**_SMALL, "sliding_window": 16}),
    "starcoder2": ("Starcoder2Config", {**_SMALL, "sliding_window": 16}),
}


def make(kind: str, **more: Any) -> Any:
    """A random model, evaluating; attention is made sharp, so that who looks where can be told."""
    import torch
    import transformers

    name, settings = KINDS[kind]
    torch.manual_seed(0)
    config = getattr(transformers, name)(
        **{**settings, "bos_token_id": 1, "eos_token_id": 2, "vocab_size": 500, **more}
    )
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    return model.eval()


def write(folder: Path, kind: str, like: Path, **more: Any) -> Path:
    """Keep such a model in a folder, with the tokenizer of another model's."""
    from transformers import AutoTokenizer

    make(kind, vocab_size=len(AutoTokenizer.from_pretrained(like)), **more).save_pretrained(
        folder, safe_serialization=True
    )
    for path in like.glob("*token*"):
        shutil.copyfile(path, folder / path.name)
    return folder
