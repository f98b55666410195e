"""Layers run one by one give what the model gives, or the model is run whole."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.errors import ModelError
from llmops_tasks.models import layers
from tests.support import foreign


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    """The tiny model, evaluating."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model).eval()


@pytest.mark.parametrize("plain", [True, False])
def test_counted_positions_and_their_gradients_are_those_of_the_whole_layers(
    model: Any, plain: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where records have different numbers of counted positions, or none."""
    import torch

    assert layers._is_plain(model.model.layers[-1])
    monkeypatch.setattr(layers, "_is_plain", lambda _: plain)
    torch.manual_seed(0)
    hidden = torch.randn(4, 11, model.config.hidden_size)
    counted = torch.zeros(4, 11, dtype=torch.bool)
    counted[0, 3] = counted[1, 10] = counted[3, 0] = counted[3, 5] = counted[3, 6] = True
    weights, results = torch.randn(5, model.config.hidden_size), []
    for run in (
        lambda: layers.run_layers(model.model, hidden, model.model.layers)[counted],
        lambda: layers.run_layers_at(model.model, hidden, model.model.layers, counted),
    ):
        model.zero_grad()
        states = run()
        (states * weights).sum().backward()
        results.append((states, [value.grad.clone() for value in model.model.layers.parameters()]))
    (whole, gradients), (some, others) = results
    assert some.shape == (5, model.config.hidden_size)
    assert (whole - some).abs().max() < 1e-5
    assert max((a - b).abs().max() for a, b in zip(gradients, others, strict=True)) < 1e-4


@pytest.mark.parametrize("kind", ["gpt2", "gemma3"])
def test_a_model_of_another_make_is_run_whole(kind: str) -> None:
    """A Gemma has all parts of a Llama's names, and fails when they are put together as a Llama's are."""
    assert not layers.can_cut(foreign.make(kind), 8)


def test_only_a_llamas_last_layer_is_computed_in_part() -> None:
    """Others may do more in it than its parts tell: turn half of a head, clip what goes into attention."""
    assert layers._is_plain(foreign.make("mistral").model.layers[-1])
    for kind in ("glm", "granite"):
        model = foreign.make(
            kind, **({"embedding_multiplier": 1.0, "logits_scaling": 1.0} if kind == "granite" else {})
        )
        assert not layers._is_plain(model.model.layers[-1]) and layers.can_cut(model, 20)


@pytest.mark.parametrize("kind", ["longrope", "dynamic"])
def test_positions_that_follow_the_longest_record_are_not_cut(kind: str) -> None:
    """A record would get others in each batch."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    scaling: dict[str, Any] = {"rope_type": kind, "rope_theta": 10_000.0, "factor": 4.0}
    if kind == "longrope":
        scaling |= {"short_factor": [1.0] * 4, "long_factor": [3.0] * 4, "original_max_position_embeddings": 32}
    torch.manual_seed(0)
    small = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    most = 128 if kind == "longrope" else 32
    model = LlamaForCausalLM(
        LlamaConfig(**small, vocab_size=500, max_position_embeddings=most, rope_parameters=scaling)
    )
    assert [layers.can_cut(model.eval(), length) for length in (32, 33)] == [True, False]


def test_what_is_longer_than_the_model_looks_at_is_refused() -> None:
    layers.check_context(foreign.make("gpt2").config, 256)
    with pytest.raises(ModelError, match="has 257 tokens, the model's context is 256"):
        layers.check_context(foreign.make("gpt2").config, 257)


def test_a_llama_can_be_cut(model: Any) -> None:
    assert layers.can_cut(model, 100)


@pytest.mark.parametrize("kind", ["mistral", "phi3-window", "starcoder2"])
@pytest.mark.parametrize("named", [True, False])
def test_a_window_is_noticed_beyond_its_length(kind: str, named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within it, all layers see all there is. It is found by its name, and by trying, should it bear another."""
    if not named:
        monkeypatch.setattr(layers, "window_of", lambda _: None)
    model = foreign.make(kind)
    assert [layers.can_cut(model, length) for length in (8, 16, 24, 40)] == [True, True, False, False]


def test_beyond_a_named_window_no_trial_is_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """One key more among thousands changes too little to be told from rounding."""
    monkeypatch.setattr(layers, "_same_alone", lambda *_: True)
    model = foreign.make("mistral")
    assert [layers.can_cut(model, length) for length in (16, 17)] == [True, False]


def test_the_smallest_window_that_the_settings_name_is_found() -> None:
    from transformers import Gemma3TextConfig, LlamaConfig, MistralConfig, Qwen2Config

    assert layers.window_of(LlamaConfig()) is None
    assert layers.window_of(Qwen2Config(max_window_layers=3)) is None  # layers, not tokens
    assert layers.window_of(MistralConfig(sliding_window=16)) == 16
    assert layers.window_of(Gemma3TextConfig(sliding_window=12)) == 12
    two = MistralConfig(sliding_window=16, attention_chunk_size=8)
    assert layers.window_of(two) == 8  # the shortest-sighted layer


def test_dropout_of_the_models_own_is_found_by_its_settings() -> None:
    from transformers import GPT2Config, LlamaConfig, MixtralConfig, Starcoder2Config

    assert layers.has_dropout(GPT2Config()) and layers.has_dropout(LlamaConfig(attention_dropout=0.1))
    assert layers.has_dropout(Starcoder2Config(residual_dropout=0.1))
    assert layers.has_dropout(MixtralConfig(router_jitter_noise=0.1)) and not layers.has_dropout(MixtralConfig())
    assert not layers.has_dropout(LlamaConfig())
    plain = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    assert not layers.has_dropout(GPT2Config(**plain))  # that of its classifier is not asked for


@pytest.mark.parametrize("kind", sorted(foreign.KINDS))
def test_logits_at_some_positions_are_the_models_own(kind: str) -> None:
    """Beside padding, and with whatever the model does to its logits."""
    import torch

    model, tokens = foreign.make(kind), torch.arange(60).reshape(2, 30)
    counted = torch.zeros_like(tokens, dtype=torch.bool)
    counted[0, 29] = counted[1, 3] = counted[1, 20] = True
    with torch.inference_mode():
        found = layers.logits_at(model, tokens, counted)
        alone = [model(input_ids=tokens[row : row + 1, : at + 1]).logits[0, -1] for row, at in counted.nonzero()]
    assert torch.allclose(found, torch.stack(alone), atol=1e-4)


def test_a_model_whose_layers_alone_give_something_else_is_run_whole() -> None:
    """Granite scales its embeddings before the first layer: all parts have the names of a Llama's."""
    from transformers import GraniteConfig, GraniteForCausalLM

    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    plain, scaled = (
        GraniteForCausalLM(GraniteConfig(**small, num_key_value_heads=1, vocab_size=20, embedding_multiplier=factor))
        for factor in (1.0, 12.0)
    )
    assert layers.can_cut(plain.eval(), 8)
    assert not layers.can_cut(scaled.eval(), 8)


def test_a_model_whose_last_layer_would_come_out_wrong_is_run_whole(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One whose parts have the names of a Llama's, but that puts them together in another way."""
    assert layers.can_cut(model, 8)
    right = layers._last_layer
    with monkeypatch.context() as patch:
        patch.setattr(layers, "_last_layer", lambda *given: right(*given).roll(1, -1))
        assert not layers.can_cut(model, 8)
    assert layers.can_cut(model, 8)


def test_a_model_that_does_more_with_its_logits_is_run_whole(model: Any) -> None:
    own = copy.deepcopy(model)
    own.register_forward_hook(lambda _, __, output: output.__setitem__("logits", output.logits * 3))
    assert not layers.can_cut(own, 8)
