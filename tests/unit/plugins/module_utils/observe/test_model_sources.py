# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files that describe a model, and those that do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model, model_files
from hypothesis import given
from hypothesis import strategies as st

PARAMS: dict[str, Any] = {
    "dim": 4096,
    "n_layers": 32,
    "head_dim": 128,
    "hidden_dim": 14336,
    "n_heads": 32,
    "n_kv_heads": 8,
    "vocab_size": 32768,
}
EXPERTS = {"num_experts": 128, "num_experts_per_tok": 4, "expert_hidden_dim": 2048, "first_k_dense_replace": 3}
LATENT = {"q_lora_rank": 1536, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128, "kv_lora_rank": 512, "v_head_dim": 128}


def read(tmp_path: Path, config: Any) -> dict[str, Any]:
    file = tmp_path / "some.json"
    file.write_text(json.dumps(config), encoding="utf-8")
    return model_files.read_config(str(file))


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"do_sample": True, "temperature": 0.6, "eos_token_id": 1}, "how text is generated"),
        ({"peft_type": "LORA", "r": 16, "base_model_name_or_path": "a/b"}, "LoRA adapter"),
        ({"metadata": {"total_size": 1}, "weight_map": {}}, "index of its weights"),
        ({"tokenizer_class": "X"}, "tokenizer"),
        ({}, "num_hidden_layers"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, config: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match="no model configuration") as caught:
        read(tmp_path, config)
    assert words in str(caught.value)
    assert "some.json" in str(caught.value)


def test_mistral_params(tmp_path: Path) -> None:
    found = read(tmp_path, {**PARAMS, "max_position_embeddings": 32768})
    assert found["architectures"] == ["MistralForCausalLM"]
    assert (found["num_layers"], found["num_kv_heads"], found["max_model_len"]) == (32, 8, 32768)
    assert sum(one["parameters"] for one in found["weights"]["tensors"]) == pytest.approx(7.25e9, rel=0.01)


def test_mistral_params_with_shared_experts(tmp_path: Path) -> None:
    found = read(tmp_path, {**PARAMS, **LATENT, "moe": {**EXPERTS, "num_shared_experts": 1}})
    assert found["architectures"] == ["MistralLarge3ForCausalLM"]
    assert found["mla"] is True
    assert (found["num_experts"], found["moe_intermediate_size"]) == (128, 2048)


def test_mistral_params_with_pictures_and_fp8(tmp_path: Path) -> None:
    vision = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096,
              "patch_size": 14, "image_size": 1540}  # fmt: skip
    found = read(
        tmp_path,
        {
            **PARAMS,
            "vision_encoder": vision,
            "quantization": {"qformat_weight": "fp8_e4m3"},
            "sliding_window": [4096, None],
        },
    )
    assert found["quantization"] == "fp8"
    assert found["vision"]["num_layers"] == 24
    assert {entry["type"] for entry in found["attention"].values()} == {"full", "sliding"}


@given(
    st.dictionaries(
        st.sampled_from([*PARAMS, "moe", "quantization", "sliding_window", "yarn", "vision_encoder", "multimodal"]),
        st.none() | st.integers(-3, 10**4) | st.text(max_size=3) | st.lists(st.integers(0, 9)) | st.just({}),
    )
)
def test_any_params_are_read_or_refused(written: dict[str, Any]) -> None:
    try:
        config = model.model_config(json.dumps({**PARAMS, **written}), "params.json")
    except InputError:
        return
    assert model.facts(config)["architectures"]


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"]},
        {"model_type": "qwen2", "architectures": ["Qwen2Model"], "is_causal": False},
        {"model_type": "gemma3_text", "architectures": ["Gemma3TextModel"], "use_bidirectional_attention": True},
    ],
)
def test_encoders(config: dict[str, Any]) -> None:
    numbers = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    found = model.facts({**config, **numbers, "vocab_size": 250002, "max_position_embeddings": 8194})
    assert {entry["type"] for entry in found["attention"].values()} == {"encoder"}
