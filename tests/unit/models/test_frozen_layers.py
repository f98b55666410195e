"""The frozen layers run once, and the top layers on it, are the whole model."""

from __future__ import annotations

import copy
import os
import random
import time
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.models import frozen_layers, layers
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
    return frozen_layers.activations(model=model, shared=frozen_layers.Shared("tiny", cut), sequences=sequences)


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_frozen_layers_and_top_layers_are_the_whole_model(model: Any, cut: int) -> None:
    import torch
    from torch.nn.utils.rnn import pad_sequence

    sequences = _sequences(9)
    hidden = _activations(model, sequences, cut)
    with torch.inference_mode():
        padded = layers.run_layers(model.model, pad_sequence(hidden, batch_first=True), model.model.layers[cut:])
        for row, tokens in enumerate(sequences):
            alone = layers.run_layers(model.model, hidden[row].unsqueeze(0), model.model.layers[cut:])
            whole = model(torch.tensor([tokens])).logits[0]
            for states in (padded[row, : len(tokens)], alone[0]):
                logits = model.lm_head(model.model.norm(states))
                assert (logits - whole).abs().max() < 1e-5


def test_shards_that_nobody_needed_for_a_month_are_dropped(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retraining after just so long keeps its own, however old they are."""
    monkeypatch.setattr(frozen_layers, "SHARD", 4)
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
    monkeypatch.setattr(frozen_layers, "KEEP_DAYS", 28)
    _activations(model, needed, 1)
    assert len(shards()) == 1 and shards() < both  # not one made anew
    assert frozen_layers.missing(model=model, shared=frozen_layers.Shared("tiny", 1), sequences=needed) == 0
    assert frozen_layers.missing(model=model, shared=frozen_layers.Shared("tiny", 1), sequences=other) > 0


def test_shards_are_used_again_when_records_are_appended(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(frozen_layers, "SHARD", 4)
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


def test_models_share_frozen_layers_exactly_if_its_weights_and_settings_are_the_same(model: Any) -> None:
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


def test_another_version_of_a_library_computes_anew(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = _sequences(2)
    _activations(model, sequences, 1)
    monkeypatch.setattr(frozen_layers, "version", lambda name: "99" if name == "transformers" else "1")
    _activations(model, sequences, 1)
    assert _shards() == 2


def test_what_is_kept_is_that_of_a_model_that_answers(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also right after the steps of a probe, which leave it training."""
    own, modes = copy.deepcopy(model).train(), list[bool]()
    run = frozen_layers.run_layers
    monkeypatch.setattr(frozen_layers, "run_layers", lambda *given: modes.append(own.training) or run(*given))
    _activations(own, _sequences(2), 1)
    assert modes == [False]


def test_after_every_shard_a_callback_is_called(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_layers, "SHARD", 4)
    told: list[int] = []
    shared = frozen_layers.Shared("tiny", 1)
    frozen_layers.activations(model=model, shared=shared, sequences=_sequences(9), after_shard=lambda: told.append(1))
    assert len(told) == 3


def test_kept_states_are_mapped_not_read(tmp_path: Path) -> None:
    """So a dataset's states may be larger than memory: the system brings in what is touched."""
    import torch
    from safetensors.torch import save_file

    save_file({"hidden": torch.ones(30_000, 576)}, tmp_path / "hidden.safetensors")  # 66 MiB
    before = _anonymous_mib()
    states = frozen_layers._read_shard(tmp_path, [100] * 300)
    assert len(states) == 300 and states[7].shape == (100, 576)
    assert _anonymous_mib() - before < 20


def _anonymous_mib() -> float:
    """Memory of this process that no file stands behind."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0]) / 1024
