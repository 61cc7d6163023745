"""Bytes of each kind of weight, from the configuration and the size of the files."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model, model_weights
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.plugins.module_utils.observe.checkpoints import LLAMA

TABLE = 320 * 64 * 2
WHOLE = 2 * TABLE + 2 * 2 * (2 * 64 * 64 + 2 * 32 * 64 + 3 * 64 * 128 + 2 * 64) + 64 * 2
MTP = {"model_type": "deepseek_v3", "num_nextn_predict_layers": 1}


def total(facts: dict[str, Any]) -> int:
    """Bytes of all entries."""
    return sum(one["bytes"] for one in facts["weights"]["tensors"])


def kinds(facts: dict[str, Any]) -> set[str]:
    """The kinds that there are."""
    return {one["kind"] for one in facts["weights"]["tensors"]}


def test_a_llama() -> None:
    found = model.facts(LLAMA)
    assert found["weights"]["tensors"] == [
        {"kind": "embedding", "layer": None, "bytes": TABLE, "parameters": 320 * 64},
        {"kind": "lm_head", "layer": None, "bytes": TABLE, "parameters": 320 * 64},
        {"kind": "qkv_q", "layer": "full", "bytes": 2 * 64 * 64 * 2, "parameters": 2 * 64 * 64},
        {"kind": "qkv_kv", "layer": "full", "bytes": 2 * 64 * 64 * 2, "parameters": 2 * 64 * 64},
        {"kind": "attention_output", "layer": "full", "bytes": 2 * 64 * 64 * 2, "parameters": 2 * 64 * 64},
        {"kind": "ffn_gate_up", "layer": "dense", "bytes": 2 * 2 * 128 * 64 * 2, "parameters": 2 * 2 * 128 * 64},
        {"kind": "ffn_down", "layer": "dense", "bytes": 2 * 128 * 64 * 2, "parameters": 2 * 128 * 64},
        {"kind": "norm", "layer": None, "bytes": 5 * 64 * 2, "parameters": 5 * 64},
    ]
    assert total(found) == WHOLE
    assert found["weights"] == {**found["weights"], "source": "computed", "exact": False}
    assert "computed_bytes" not in found["weights"]


@pytest.mark.parametrize(
    ("config", "present", "absent"),
    [
        ({}, {"lm_head"}, {"position_embedding", "mtp", "vision"}),
        ({"tie_word_embeddings": True}, {"embedding"}, {"lm_head"}),
        ({"architectures": ["LlamaModel"]}, {"embedding"}, {"lm_head"}),
        ({"model_type": "gpt2", "tie_word_embeddings": None}, {"position_embedding"}, {"lm_head"}),
        ({**MTP}, {"mtp"}, set()),
        ({"vision_config": {"hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64, "patch_size": 14}},
         {"vision", "projector"}, set()),
        ({"model_type": "mixtral", "num_local_experts": 4}, {"expert_gate_up", "expert_down", "router"}, {"ffn_down"}),
    ],
)  # fmt: skip
def test_kinds(config: dict[str, Any], present: set[str], absent: set[str]) -> None:
    found = kinds(model.facts({**LLAMA, **config}))
    assert present <= found
    assert not absent & found


def test_without_sizes_there_are_no_weights() -> None:
    assert model.facts({"architectures": ["LlamaForCausalLM"]}, 1000)["weights"] is None


class TestFitted:
    def test_to_the_size_of_the_files(self) -> None:
        found = model.facts(LLAMA, WHOLE + 50000)
        assert abs(total(found) - WHOLE - 50000) <= 5
        assert found["weights"]["source"] == "stated"
        assert found["weights"]["exact"] is False
        assert found["weights"]["computed_bytes"] == WHOLE
        plain = {one["kind"]: one["bytes"] for one in model.facts(LLAMA)["weights"]["tensors"]}
        fitted = {one["kind"]: one["bytes"] for one in found["weights"]["tensors"]}
        assert {kind for kind in plain if fitted[kind] != plain[kind]} == {
            "qkv_q", "qkv_kv", "attention_output", "ffn_gate_up", "ffn_down"
        }  # fmt: skip

    def test_a_stored_head_of_a_tied_model(self) -> None:
        found = model.facts({**LLAMA, "tie_word_embeddings": True}, WHOLE)
        assert total(found) == WHOLE - TABLE
        assert found["warnings"] == [
            "The files hold an output head of 0.00 GiB although the input table is the head; vLLM does not load it."
        ]

    def test_files_without_a_head(self) -> None:
        found = model.facts(LLAMA, WHOLE - TABLE)
        assert total(found) == WHOLE - TABLE
        assert "lm_head" not in kinds(found)
        assert found["warnings"][0].startswith("By their size the files hold no output head")

    def test_files_without_layers_for_multi_token_prediction(self) -> None:
        plain = model.facts({**LLAMA, **MTP})
        size = model_weights.loaded_bytes(plain["weights"])
        assert size < total(plain)
        found = model.facts({**LLAMA, **MTP}, size)
        assert total(found) == size
        assert "mtp" not in kinds(found)

    @pytest.mark.parametrize("size", [WHOLE // 5, WHOLE * 5])
    def test_files_of_another_model(self, size: int) -> None:
        found = model.facts(LLAMA, size)
        assert abs(total(found) - size) <= 8
        assert any("was not understood" in warning for warning in found["warnings"])

    def test_a_32_bit_model_is_loaded_in_16_bits(self) -> None:
        assert total(model.facts({**LLAMA, "torch_dtype": "float32"}, 2 * WHOLE)) == WHOLE

    def test_the_dtype_that_makes_the_size(self) -> None:
        config = {**LLAMA, "torch_dtype": None}
        found = model.facts(config, 2 * WHOLE)
        assert total(found) == WHOLE
        assert found["warnings"] == [
            "The configuration names no dtype; float32 is assumed for each unquantized weight."
        ]
        assert "bfloat16 is assumed" in model.facts(config, WHOLE)["warnings"][0]

    @given(st.integers(min_value=1, max_value=10**9))
    def test_to_any_size(self, size: int) -> None:
        found = model.facts(LLAMA, size)
        assert abs(total(found) - size) <= max(8, size * model_weights.SAME)
        assert all(one["bytes"] >= 0 for one in found["weights"]["tensors"])


def test_an_unknown_model_type_is_said_unless_its_size_is_right() -> None:
    config = {**LLAMA, "model_type": "unheard_of"}
    said = [
        "The model type unheard_of is not one that is read exactly; its weights are computed as those of a Llama with "
        "the same sizes."
    ]
    assert model.facts(config)["warnings"] == said
    assert model.facts(config, WHOLE)["warnings"] == []


def test_what_vllm_loads_is_without_multi_token_prediction() -> None:
    found = model.facts({**LLAMA, **MTP})
    mtp = next(one["bytes"] for one in found["weights"]["tensors"] if one["kind"] == "mtp")
    assert model_weights.loaded_bytes(found["weights"]) == total(found) - mtp
