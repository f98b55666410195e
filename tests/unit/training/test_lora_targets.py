"""Which linear layers got LoRA matrices is told, and a name that matches none is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.config import Finetune
from llmops_tasks.errors import ModelError
from llmops_tasks.training import lora_targets, trainable
from tests.support import foreign

ALL = Finetune(target_modules="all-linear", top_layers=1)


def _layers_with_matrices(model: Any) -> set[str]:
    return {name.split(".lora_A")[0] for name, _ in model.named_parameters() if "lora_A" in name}


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("phi3", {"down_proj": 1, "gate_up_proj": 1, "o_proj": 1, "qkv_proj": 1}),
        ("mixtral", {"k_proj": 1, "o_proj": 1, "q_proj": 1, "v_proj": 1}),
        ("gpt2", {"c_attn": 1, "c_fc": 1, "c_proj": 2}),
    ],
)
def test_all_linear_layers_of_the_top_layers_get_them(kind: str, wanted: dict[str, int]) -> None:
    state = trainable.prepare(foreign.make(kind), ALL, 8)
    assert state.lora == wanted
    places = _layers_with_matrices(state.model)
    assert len(places) == sum(wanted.values())
    assert all(".1." in place for place in places)  # the upper of two


def test_a_name_that_matches_nothing_is_refused_with_those_that_do() -> None:
    """Phi-3 has two of the seven: training went on with these, without a word."""
    with pytest.raises(ModelError, match=r"names \['q_proj', 'k_proj', 'v_proj', 'gate_proj', 'up_proj'\]") as told:
        trainable.prepare(foreign.make("phi3"), Finetune(), 8)
    assert "Its linear layers: ['down_proj', 'gate_up_proj', 'o_proj', 'qkv_proj']" in str(told.value)
    assert "'all-linear'" in str(told.value)


def test_the_vocabulary_head_is_none_of_them() -> None:
    assert "lm_head" not in lora_targets.linear(foreign.make("phi3"))


def _deepseek() -> Any:
    """Experts that are fused, beside linear layers of the names that experts once had."""
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    config = DeepseekV3Config(
        hidden_size=32, intermediate_size=64, moe_intermediate_size=16, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1, q_lora_rank=8,
        kv_lora_rank=8, qk_rope_head_dim=8, qk_nope_head_dim=8, v_head_dim=8, first_k_dense_replace=1, vocab_size=500,
    )  # fmt: skip
    return DeepseekV3ForCausalLM(config).eval()


@pytest.mark.parametrize("named", ["all-linear", ["gate_proj", "up_proj", "down_proj", "o_proj"], ["gate_proj"]])
def test_where_peft_would_take_fused_experts_instead_it_is_refused(named: Any) -> None:
    """In all layers, and none in the linear layers that were named; the log would have told something else."""
    with pytest.raises(ModelError, match=r"peft (would put LoRA matrices elsewhere|cannot put LoRA matrices)"):
        trainable.prepare(_deepseek(), Finetune(target_modules=named, top_layers=1), 8)


def test_other_layers_of_such_a_model_get_them_where_they_should() -> None:
    state = trainable.prepare(_deepseek(), Finetune(target_modules=["o_proj", "q_b_proj"], top_layers=1), 8)
    assert state.lora == {"o_proj": 1, "q_b_proj": 1}
    assert all(".layers.1." in place for place in _layers_with_matrices(state.model))


def test_matrices_are_those_of_the_language_model_not_of_its_eyes() -> None:
    from transformers import AutoModelForCausalLM, Gemma3Config

    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4,
            "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 300}  # fmt: skip
    seeing = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2,
              "image_size": 28, "patch_size": 14}  # fmt: skip
    config = Gemma3Config(text_config=text, vision_config=seeing, mm_tokens_per_image=4, image_token_index=299)
    state = trainable.prepare(AutoModelForCausalLM.from_config(config).eval(), ALL, 8)
    assert state.lora and not [place for place in _layers_with_matrices(state.model) if "vision" in place]


def test_what_peft_cannot_do_is_reported() -> None:
    from transformers import MambaConfig, MambaForCausalLM

    model = MambaForCausalLM(MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=100)).eval()
    with pytest.raises(ModelError, match=r"peft cannot put LoRA matrices into 'mamba': .* Name other target_modules"):
        trainable.prepare(model, ALL, 8)


def test_what_was_named_got_them(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        state = trainable.prepare(foreign.make("glm"), Finetune(target_modules=["q_proj", "down_proj"]), 8)
    assert state.lora == {"down_proj": 2, "q_proj": 2}
    assert "LoRA matrices beside down_proj (2), q_proj (2)" in caplog.text


def test_a_folder_is_checked_by_its_settings_alone(tmp_path: Path) -> None:
    foreign.make("phi3").config.save_pretrained(tmp_path)  # not one weight
    lora_targets.check(tmp_path, ALL)
    lora_targets.check(tmp_path, Finetune(method="full"))
    with pytest.raises(ModelError, match="'phi3' has not"):
        lora_targets.check(tmp_path, Finetune())


def test_a_model_with_dropout_of_its_own_is_trained_as_a_whole() -> None:
    """Its frozen layers give something else at every step."""
    plain, drawing = (trainable.prepare(foreign.make("phi3", attention_dropout=p), ALL, 8) for p in (0.0, 0.1))
    assert (plain.cut, plain.layerwise) == (1, True)
    assert (drawing.cut, drawing.layerwise) == (0, False)


def test_an_experts_number_is_not_taken_for_a_layers() -> None:
    import torch

    model = foreign.make("phi3", num_hidden_layers=3)
    for layer in model.model.layers:
        layer.mlp.experts = torch.nn.ModuleList([torch.nn.Linear(4, 4) for _ in range(2)])
        for expert in layer.mlp.experts:
            expert.inside = torch.nn.Linear(4, 4)
    adapted = lora_targets.with_lora(model, Finetune(target_modules=["inside"], top_layers=1))
    assert {place.split("layers.")[1][0] for place in _layers_with_matrices(adapted)} == {"2"}
