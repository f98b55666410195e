"""What works with small random models of many families: the rows of docs/families.md, found by trying.

python -m tests.support.families
"""

from __future__ import annotations

import copy
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmops_tasks.config import Finetune
from llmops_tasks.config.decoding import Decoding
from llmops_tasks.errors import LLMOpsError
from llmops_tasks.models import decoding, label_tree, layers, loading, scoring
from llmops_tasks.training import loop, preferences_trl, trainable
from llmops_tasks.training.examples import IGNORED, Example, Pair

END = 2
_PLAIN = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
          "head_dim": 8, "max_position_embeddings": 256, "vocab_size": 128, "bos_token_id": 1, "eos_token_id": END, "pad_token_id": 0}  # fmt: skip
_EXPERTS = {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_NEOX = {name: value for name, value in _PLAIN.items() if name not in ("num_key_value_heads", "head_dim")}
# family -> configuration in transformers, its settings
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama 3": ("LlamaConfig", _PLAIN | {"rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 256}}),
    "Qwen 2": ("Qwen2Config", _PLAIN),
    "Qwen 3": ("Qwen3Config", _PLAIN),
    "Qwen 3 MoE": ("Qwen3MoeConfig", _PLAIN | _EXPERTS),
    "Mistral": ("MistralConfig", _PLAIN | {"sliding_window": None}),
    "Mistral, window": ("MistralConfig", _PLAIN | {"sliding_window": 8}),
    "Mixtral": ("MixtralConfig", _PLAIN | _EXPERTS),
    "Gemma": ("GemmaConfig", _PLAIN),
    "Gemma 2": ("Gemma2Config", _PLAIN | {"sliding_window": 8, "query_pre_attn_scalar": 8}),
    "Gemma 3": ("Gemma3TextConfig", _PLAIN | {"sliding_window": 8, "query_pre_attn_scalar": 8}),
    "Phi-3": ("Phi3Config", _PLAIN),
    "GLM-4": ("Glm4Config", _PLAIN),
    "OLMo 2": ("Olmo2Config", _PLAIN),
    "SmolLM 3": ("SmolLM3Config", _PLAIN),
    "StableLM": ("StableLmConfig", _PLAIN),
    "GPT-2": ("GPT2Config", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256, "vocab_size": 128, "bos_token_id": 1, "eos_token_id": END}),
    "GPT-NeoX": ("GPTNeoXConfig", _NEOX),
    "Cohere": ("CohereConfig", _PLAIN),
    "GPT-OSS": ("GptOssConfig", _PLAIN | _EXPERTS | {"sliding_window": 8}),
}  # fmt: skip
LABELS = [[5, 6, 7], [5, 6, 8], [5, 9], [10]]
PROMPTS = [[1, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30], [1, 40, 41], [1, 20, 21, 22, 60, 61]]
NEAR = 1e-4


def tokenizer() -> Any:
    """Of one word a token."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({f"t{number}": number for number in range(128)}, unk_token="t3"))
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="t0", bos_token="t1", eos_token=f"t{END}")


def make(family: str) -> Any:
    """A random model, evaluating, whose attention depends on what came before."""
    import torch
    import transformers

    name, settings = FAMILIES[family]
    torch.manual_seed(5)
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**settings)).float().eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.normal_(0, 0.3) if weights.ndim > 1 else None
    return model


def row(family: str) -> list[str]:
    """The family and what was found of it."""
    columns: list[Callable[[Any], str]] = [_layers, _scores, _writes, _lora, _full, _merged, _preferred]
    with tempfile.TemporaryDirectory() as folder:
        make(family).save_pretrained(folder)
        return [family, *(_tried(column, Path(folder)) for column in columns)]


def _tried(column: Callable[[Any], str], folder: Path) -> str:
    try:
        return column(loading.load_weights(folder).eval())
    except LLMOpsError as exc:
        return f"refused: {str(exc).split('. ')[0]}"


def _layers(model: Any) -> str:
    return "one by one" if layers.can_cut(model, 20) else "whole"


def _scores(model: Any) -> str:
    """Label probabilities beside transformers' own whole passes."""
    import torch

    tree, found = label_tree.build(LABELS), []
    with loading.running(model):
        if layers.can_cut(model, 20):
            batch = [torch.tensor(prompt + tree.tokens) for prompt in PROMPTS]
            found = scoring.in_one_pass(model, batch, tree, False, 0)
        else:
            found = scoring.by_forward(model, [torch.tensor(prompt) for prompt in PROMPTS], tree, False)
        ours = scoring.probabilities(found, tree, label_tree.BRANCHING)
        theirs = [_alone(model, prompt) for prompt in PROMPTS]
    return _near(ours, theirs)


def _alone(model: Any, prompt: list[int]) -> list[float]:
    import torch

    def share(start: list[int], token: int, among: list[int]) -> float:
        logits = model(input_ids=torch.tensor([start])).logits[0, -1, among].double()
        return float(torch.softmax(logits, -1)[among.index(token)])

    first = share(prompt, 5, [5, 10])
    second = share([*prompt, 5], 6, [6, 9])
    third = share([*prompt, 5, 6], 7, [7, 8])
    return [first * second * third, first * second * (1 - third), first * (1 - second), 1 - first]


def _near(ours: list[list[float]], theirs: list[list[float]]) -> str:
    worst = max(abs(a - b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True))
    return "yes" if worst < NEAR else f"differs by {worst:.1g}"


def _writes(model: Any) -> str:
    """Greedy texts beside transformers' own, one prompt at a time."""
    import torch

    model.generation_config.eos_token_id, words = END, tokenizer()
    answers = decoding.write(model, words, PROMPTS, Decoding(max_new_tokens=8), 2)
    for prompt, answer in zip(PROMPTS, answers, strict=True):
        asked = {"input_ids": torch.tensor([prompt]), "attention_mask": torch.ones(1, len(prompt), dtype=torch.long)}
        tokens = model.generate(**asked, max_new_tokens=8, do_sample=False)[0, len(prompt) :].tolist()
        if words.decode(tokens, skip_special_tokens=True) != answer.text:
            return "differs"
    return "yes"


def _settings(**more: Any) -> Finetune:
    plain = {"batch_size": 4, "top_layers": 1, "rank": 4, "target_modules": "all-linear", "learning_rate": 0.02, "warmup": 0, "schedule": "constant"}  # fmt: skip
    return Finetune.model_validate(plain | more)


def _records() -> list[Example]:
    return [Example([1, 20 + n, 30 + n, 40], [IGNORED, IGNORED, IGNORED, 50 + n]) for n in range(4)]


def _trained(model: Any, settings: Finetune, steps: int = 12) -> trainable.State:
    import torch

    torch.manual_seed(0)
    state = trainable.prepare(model, settings, 8)
    for number in range(steps):
        state.losses.append(loop.step(state, settings, number, steps, _records(), None))
    return state


def _learns(state: trainable.State) -> str:
    return "learns" if state.losses[-1] < state.losses[0] - 0.1 else "does not learn"


def _lora(model: Any) -> str:
    state = _trained(model, _settings())
    return f"{_learns(state)}, {'frozen layers cached' if state.cut else 'all layers run'}"


def _full(model: Any) -> str:
    return _learns(_trained(model, _settings(method="full", learning_rate=0.005)))


def _merged(model: Any) -> str:
    """A merged model beside the base with its adapter."""
    import torch

    state = _trained(model, _settings(), 3)
    tokens = torch.tensor([PROMPTS[0]])
    with torch.inference_mode():
        adapted = state.model.eval()(input_ids=tokens).logits
        found = copy.deepcopy(state.model).merge_and_unload(safe_merge=True)(input_ids=tokens).logits
    return "yes" if (found - adapted).abs().max() < NEAR * adapted.abs().max() else "differs"


def _preferred(model: Any) -> str:
    """Direct preference optimisation raises the preferred answer above the other."""
    from llmops_tasks.config.training import Preferences

    pairs = [Pair([1, 20 + n, 30], [50 + n], [60 + n]) for n in range(4)]
    settings = _settings(learning_rate=0.02, max_length=16)
    state = trainable.prepare(model, settings, 8)
    state.cut = 0
    before = _margin(state, settings, pairs)
    plan = preferences_trl.PairPlan([pairs] * 6, _Progress(), lambda seconds: None)  # type: ignore[arg-type]
    preferences_trl.run(state, settings, Preferences(beta=0.5), plan, tokenizer())
    return "learns" if _margin(state, settings, pairs) > before + 0.1 else "does not learn"


def _margin(state: trainable.State, settings: Finetune, pairs: list[Pair]) -> float:
    losses = loop.record_losses(state, settings, [record for pair in pairs for record in pair.examples()])
    return sum(losses[1::2]) - sum(losses[::2])


class _Progress:
    """That keeps nothing."""

    def resume(self, state: Any) -> int:
        return 0

    def after_step(self, *_: Any) -> None:
        """Quiet."""


HEAD = ["family", "layers are run", "scores labels", "writes", "LoRA", "full", "merges", "DPO"]


def table() -> str:
    """All rows, as Markdown."""
    lines = [HEAD, ["---"] * len(HEAD), *(row(family) for family in FAMILIES)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
