"""Rows that come and go are read as if each were alone."""

from __future__ import annotations

from typing import Any

import pytest

from llmops_tasks.errors import ModelError
from llmops_tasks.models.states import States


def _model() -> Any:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    size = {"vocab_size": 60, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    model = LlamaForCausalLM(LlamaConfig(**size, num_attention_heads=4, num_key_value_heads=2)).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.normal_(0, 0.3) if weights.ndim > 1 else None
    return model


def _plain(model: Any, *texts: list[int]) -> Any:
    import torch

    with torch.inference_mode():
        return torch.stack([model(torch.tensor([text])).logits[0, -1] for text in texts])


@pytest.mark.parametrize("beginning", [[], [1, 2, 3]])
def test_logits_are_those_of_each_text_alone(beginning: list[int]) -> None:
    import torch

    model = _model()
    one, two, three = [*beginning, 5, 6, 7, 8], [*beginning, 9], [*beginning, *range(20, 40)]
    with torch.inference_mode():
        states = States(model, beginning)
        known = len(beginning)
        assert torch.allclose(states.add([one[known:], two[known:]]), _plain(model, one, two), atol=1e-5)
        assert torch.allclose(states.step([11, 12]), _plain(model, [*one, 11], [*two, 12]), atol=1e-5)
        states.keep([1])
        assert torch.allclose(states.add([three[known:]]), _plain(model, three), atol=1e-5)
        wanted = _plain(model, [*two, 12, 13], [*three, 14])
        assert torch.allclose(states.step([13, 14]), wanted, atol=1e-5)
        assert states.lengths == [len(two) + 2, len(three) + 1]
        states.keep([0])
        assert torch.allclose(states.step([15]), _plain(model, [*two, 12, 13, 15]), atol=1e-5)
        assert states._layers[0][0].shape[2] == len(two) + 3  # what only longer rows needed is forgotten
        states.keep([])
        assert torch.allclose(states.add([one[known:]]), _plain(model, one), atol=1e-5)


@pytest.mark.parametrize(
    ("family", "more"), [("MambaConfig", {}), ("Lfm2Config", {"layer_types": ["conv", "full_attention"]})]
)
def test_models_that_keep_anything_else_are_refused(family: str, more: dict[str, Any]) -> None:
    import transformers

    size = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
    model = transformers.AutoModelForCausalLM.from_config(getattr(transformers, family)(**size, **more))
    with pytest.raises(ModelError, match="keeps more than keys and values"):
        States(model, [1, 2])
