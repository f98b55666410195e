"""The trunk run once, and the top layers on it, are the whole model."""

from __future__ import annotations

import copy
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.errors import ModelError
from llmops_tasks.models import trunk
from llmops_tasks.store import objects


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    """The tiny model, evaluating."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(tiny_model).eval()


def _sequences(count: int, seed: int = 0) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(1000) for _ in range(rng.randint(1, 40))] for _ in range(count)]


def _activations(model: Any, sequences: list[list[int]], cut: int) -> list[Any]:
    return trunk.activations(model=model, shared=trunk.Shared("tiny", cut), sequences=sequences)


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_trunk_and_top_layers_are_the_whole_model(model: Any, cut: int) -> None:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    sequences = _sequences(9)
    hidden = _activations(model, sequences, cut)
    with torch.inference_mode():
        padded = trunk.run_layers(model.model, pad_sequence(hidden, batch_first=True), model.model.layers[cut:])
        for row, tokens in enumerate(sequences):
            alone = trunk.run_layers(model.model, hidden[row].unsqueeze(0), model.model.layers[cut:])
            whole = model(torch.tensor([tokens])).logits[0]
            for states in (padded[row, : len(tokens)], alone[0]):
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


def test_shards_that_nobody_needed_for_a_month_are_dropped(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retraining after just so long keeps its own, however old they are."""
    monkeypatch.setattr(trunk, "SHARD", 4)
    needed, other = _sequences(4), _sequences(4, seed=1)
    _activations(model, needed, 1)
    _activations(model, other, 1)
    folder = f"{objects.store_uri()}/tiny/activations"

    def shards() -> set[tuple[str, int]]:
        found = objects.find(f"{folder}/*/hidden.safetensors")
        return {(uri, objects.local_path(uri).stat().st_mtime_ns) for uri in found}

    def age() -> None:
        for uri in [*objects.find(f"{folder}/*/_manifest.json"), *objects.find(f"{folder}_used/*")]:
            os.utime(objects.local_path(uri), times=(0, time.time() - 29 * 86_400))

    age()
    _activations(model, needed, 1)
    both = shards()
    assert len(both) == 2  # not a month yet
    age()
    monkeypatch.setattr(trunk, "KEEP_DAYS", 28)
    _activations(model, needed, 1)
    assert len(shards()) == 1 and shards() < both  # not one made anew
    assert trunk.missing(model=model, shared=trunk.Shared("tiny", 1), sequences=needed) == 0
    assert trunk.missing(model=model, shared=trunk.Shared("tiny", 1), sequences=other) > 0


def test_shards_are_used_again_when_records_are_appended(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(trunk, "SHARD", 4)
    first = _sequences(10)
    before = _activations(model, first, 1)
    kept = set(objects.find(f"{objects.store_uri()}/tiny/activations/*/hidden.safetensors"))
    times = {uri: objects.local_path(uri).stat().st_mtime_ns for uri in kept}
    after = _activations(model, first + _sequences(3, seed=1), 1)
    now = set(objects.find(f"{objects.store_uri()}/tiny/activations/*/hidden.safetensors"))
    assert len(kept) == 3
    assert len(now - kept) == 2  # the last shard, now full, and a new one
    assert all(objects.local_path(uri).stat().st_mtime_ns == time for uri, time in times.items())
    assert all(torch.equal(one, two) for one, two in zip(before[:8], after, strict=False))


def _shards() -> int:
    return len(objects.find(f"{objects.store_uri()}/tiny/activations/*/hidden.safetensors"))


def test_a_cut_has_shards_of_its_own(model: Any) -> None:
    for cut in (0, 1, 2):
        _activations(model, _sequences(2), cut)
    assert _shards() == 3


def test_models_share_a_trunk_exactly_if_its_weights_and_settings_are_the_same(model: Any) -> None:
    import torch

    tuned, sequences = copy.deepcopy(model), _sequences(2)
    with torch.no_grad():
        tuned.model.layers[1].mlp.up_proj.weight += 1  # above the cut
    _activations(model, sequences, 1)
    _activations(tuned, sequences, 1)
    assert _shards() == 1
    with torch.no_grad():
        tuned.model.layers[0].mlp.up_proj.weight[0, 0] += 1e-3
    _activations(tuned, sequences, 1)
    assert _shards() == 2
    other = copy.deepcopy(model)
    other.config.rms_norm_eps *= 2
    _activations(other, sequences, 1)
    assert _shards() == 3


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


def test_a_model_whose_layers_alone_give_something_else_is_refused() -> None:
    """Granite scales its embeddings before the first layer: all parts have the names of a Llama's."""
    from transformers import GraniteConfig, GraniteForCausalLM

    small = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    plain, scaled = (
        GraniteForCausalLM(GraniteConfig(**small, num_key_value_heads=1, vocab_size=20, embedding_multiplier=factor))
        for factor in (1.0, 12.0)
    )
    assert trunk.can_cut(plain.eval())
    with pytest.raises(ModelError, match=r"'granite' .* cannot be split"):
        trunk.check_architecture(scaled.eval())


def test_kept_states_are_mapped_not_read(tmp_path: Path) -> None:
    """So a dataset's states may be larger than memory: the system brings in what is touched."""
    import torch
    from safetensors.torch import save_file

    sequences = [[0] * 100] * 300
    save_file({"hidden": torch.ones(30_000, 576)}, tmp_path / "hidden.safetensors")  # 66 MiB
    before = _anonymous_mib()
    states = trunk._read_shard(tmp_path, sequences)
    assert len(states) == 300 and states[7].shape == (100, 576)
    assert _anonymous_mib() - before < 20


def _anonymous_mib() -> float:
    """Memory of this process that no file stands behind."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def test_a_model_whose_last_layer_would_come_out_wrong_is_refused(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """One whose parts have the names of a Llama's, but that puts them together in another way."""
    assert trunk.can_cut(model)
    right = trunk._last_layer
    with monkeypatch.context() as patch:
        patch.setattr(trunk, "_last_layer", lambda *given: right(*given).roll(1, -1))
        with pytest.raises(ModelError, match="cannot be split"):
            trunk.check_architecture(model)
    assert trunk.can_cut(model)


def test_a_model_that_does_more_with_its_logits_is_refused(model: Any) -> None:
    own = copy.deepcopy(model)
    own.register_forward_hook(lambda _, __, output: output.__setitem__("logits", output.logits * 3))
    assert not trunk.can_cut(own)
