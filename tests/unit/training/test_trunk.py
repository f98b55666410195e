"""The trunk run once, and the top layers on it, are the whole model."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import storage
from llmops_tasks.errors import ModelError
from llmops_tasks.training import trunk
from llmops_tasks.training.examples import IGNORED, Example


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    """The tiny model, evaluating."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model).eval()


def _examples(count: int, seed: int = 0) -> list[Example]:
    rng = random.Random(seed)
    lengths = [rng.randint(1, 40) for _ in range(count)]
    return [Example([rng.randrange(1000) for _ in range(n)], [IGNORED] * n) for n in lengths]


def _activations(model: Any, examples: list[Example], cut: int, sha: str = "m") -> list[Any]:
    return trunk.activations(usecase="tiny", model=model, model_sha256=sha, cut=cut, examples=examples, batch_size=4)


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_trunk_and_top_layers_are_the_whole_model(model: Any, cut: int) -> None:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    examples = _examples(9)
    hidden = _activations(model, examples, cut)
    with torch.inference_mode():
        padded = trunk.run_layers(model.model, pad_sequence(hidden, batch_first=True), model.model.layers[cut:])
        for row, example in enumerate(examples):
            alone = trunk.run_layers(model.model, hidden[row].unsqueeze(0), model.model.layers[cut:])
            whole = model(torch.tensor([example.tokens])).logits[0]
            for states in (padded[row, : len(example.tokens)], alone[0]):
                logits = model.lm_head(model.model.norm(states))
                assert (logits - whole).abs().max() < 1e-5


@pytest.mark.parametrize("plain", [True, False])
def test_counted_positions_and_their_gradients_are_those_of_the_whole_layers(
    model: Any, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where records have different numbers of counted positions, or none."""
    import torch

    assert trunk._is_plain(model.model.layers[-1])
    monkeypatch.setattr(trunk, "_is_plain", lambda _: plain)
    torch.manual_seed(0)
    hidden = torch.randn(4, 11, model.config.hidden_size)
    counted = torch.zeros(4, 11, dtype=torch.bool)
    counted[0, 3] = counted[1, 10] = counted[3, 0] = counted[3, 5] = counted[3, 6] = True
    weights, results = torch.randn(5, model.config.hidden_size), []
    for run in (
        lambda: trunk.run_layers(model.model, hidden, model.model.layers)[counted],
        lambda: trunk.run_layers_at(model.model, hidden, model.model.layers, counted),
    ):
        model.zero_grad()
        states = run()
        (states * weights).sum().backward()
        results.append((states, [value.grad.clone() for value in model.model.layers.parameters()]))
    (whole, gradients), (some, others) = results
    assert some.shape == (5, model.config.hidden_size)
    assert (whole - some).abs().max() < 1e-5
    assert max((a - b).abs().max() for a, b in zip(gradients, others, strict=True)) < 1e-4


def test_shards_are_used_again_when_records_are_appended(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(trunk, "SHARD", 4)
    first = _examples(10)
    before = _activations(model, first, 1)
    kept = set(storage.find(f"{storage.store_uri()}/tiny/activations/*/hidden.safetensors"))
    times = {uri: storage.local_path(uri).stat().st_mtime_ns for uri in kept}
    after = _activations(model, first + _examples(3, seed=1), 1)
    now = set(storage.find(f"{storage.store_uri()}/tiny/activations/*/hidden.safetensors"))
    assert len(kept) == 3
    assert len(now - kept) == 2  # the last shard, now full, and a new one
    assert all(storage.local_path(uri).stat().st_mtime_ns == time for uri, time in times.items())
    assert all(torch.equal(one, two) for one, two in zip(before[:8], after, strict=False))


def test_another_model_or_cut_has_shards_of_its_own(model: Any) -> None:
    examples = _examples(2)
    for sha, cut in (("m", 1), ("m", 2), ("n", 1)):
        _activations(model, examples, cut, sha)
    assert len(storage.find(f"{storage.store_uri()}/tiny/activations/*/hidden.safetensors")) == 3


def test_batches_are_padded_on_the_right_without_loss() -> None:
    tokens, labels = trunk.pad([Example([1, 2, 3], [IGNORED, IGNORED, 9]), Example([4], [8])])
    assert tokens.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert labels.tolist() == [[IGNORED, IGNORED, 9], [8, IGNORED, IGNORED]]


def test_a_model_that_cannot_be_cut_is_refused() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel, Qwen2Config, Qwen2ForCausalLM

    gpt = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=10, n_positions=8))
    with pytest.raises(ModelError, match=r"'gpt2' .* cannot be split"):
        trunk.check_architecture(gpt)
    small = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "vocab_size": 10,
    }
    windows = Qwen2Config(
        **small, num_key_value_heads=1, use_sliding_window=True, sliding_window=4, max_window_layers=1
    )
    with pytest.raises(ModelError, match="sliding_attention"):
        trunk.check_architecture(Qwen2ForCausalLM(windows))


def test_a_llama_can_be_cut(model: Any) -> None:
    trunk.check_architecture(model)
