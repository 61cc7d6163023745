"""How a checkpoint is quantized, and what its matrices are stored as."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model, model_patterns
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_schemes import Scheme, stored, tensor_bytes

from tests.unit.plugins.module_utils.observe.checkpoints import LLAMA

EXPERTS: dict[str, Any] = {
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "model_type": "qwen3_moe",
}
FP8_GROUP = {
    "targets": ["Linear"],
    "weights": {"num_bits": 8, "type": "float", "strategy": "channel", "symmetric": True},
    "input_activations": {"num_bits": 8, "type": "float", "dynamic": True},
}


def read(quantization: dict[str, Any], files: dict[str, Any] | None = None, **config: Any) -> dict[str, Any]:
    """Facts of a small model that is quantized so."""
    whole = {**LLAMA, **config}
    if quantization:
        whole["quantization_config"] = quantization
    return model.facts(whole, quantization_files=files)


def bytes_of(facts: dict[str, Any], kind: str) -> int:
    """Bytes of all layers of one kind."""
    return sum(one["bytes"] for one in facts["weights"]["tensors"] if one["kind"] == kind)


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [
        (
            {"quant_method": "fp8", "weight_block_size": [128, 128], "activation_scheme": "dynamic", "fmt": "e4m3"},
            {"method": "fp8", "bits": 8, "block": [128, 128], "activation_bits": 8, "format": "e4m3"},
        ),
        ({"quant_method": "fp8"}, {"method": "fp8", "bits": 8, "block": None}),
        (
            {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
            {"method": "awq", "bits": 4, "group_size": 128, "zero_point": True, "symmetric": False},
        ),
        ({"quant_method": "awq", "w_bit": 4, "q_group_size": 64}, {"bits": 4, "group_size": 64}),
        (
            {"quant_method": "gptq", "bits": 8, "group_size": -1, "desc_act": True, "sym": True},
            {"method": "gptq", "bits": 8, "group_size": -1, "desc_act": True, "symmetric": True},
        ),
        ({"quant_method": "gptq", "bits": 4, "lm_head": True}, {"lm_head": True}),
        ({"quant_method": "mxfp4"}, {"method": "mxfp4", "bits": 4, "group_size": 32}),
        (
            {"quant_method": "compressed-tensors", "format": "float-quantized", "ignore": ["lm_head"],
             "config_groups": {"group_0": FP8_GROUP}},
            {"method": "compressed-tensors", "bits": 8, "activation_bits": 8, "format": "float-quantized",
             "ignored": ["lm_head"], "kv_cache_dtype": None},
        ),
        (
            {"quant_method": "compressed_tensors", "config_groups": {"group_0": FP8_GROUP},
             "kv_cache_scheme": {"num_bits": 8, "type": "float"}},
            {"method": "compressed-tensors", "kv_cache_dtype": "fp8"},
        ),
        (
            {"quant_method": "compressed-tensors", "format": "pack-quantized",
             "config_groups": {"group_0": {"targets": ["Linear"], "weights": {
                 "num_bits": 4, "type": "int", "strategy": "group", "group_size": 32, "symmetric": False}}}},
            {"bits": 4, "group_size": 32, "zero_point": True, "symmetric": False, "activation_bits": None},
        ),
        (
            {"quant_method": "compressed-tensors",
             "config_groups": {"group_0": {"targets": ["Linear"], "format": "nvfp4-pack-quantized", "weights": {
                 "num_bits": 4, "type": "float", "group_size": 16}, "input_activations": {"num_bits": 4}}}},
            {"bits": 4, "group_size": 16, "activation_bits": 4, "format": "nvfp4-pack-quantized"},
        ),
        (
            {"producer": {"name": "modelopt"}, "quant_algo": "FP8", "kv_cache_scheme": "FP8", "ignore": ["lm_head"]},
            {"method": "modelopt", "bits": 8, "kv_cache_dtype": "fp8"},
        ),
        (
            {"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_scheme": {"num_bits": 8, "type": "float"}},
            {"method": "modelopt_fp4", "bits": 4, "group_size": 16, "kv_cache_dtype": "fp8"},
        ),
        (
            {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "MIXED_PRECISION", "quantized_layers": {
                "model.layers.0.mlp.up_proj": {"quant_algo": "NVFP4"},
                "lm_head": {"quant_algo": "FP8"}}}},
            {"method": "modelopt_mixed", "bits": 4, "lm_head": True, "attention": False},
        ),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, {"method": "bitsandbytes", "bits": 4}),
        ({"quant_method": "newest", "bits": 3}, {"method": "newest", "bits": 3}),
    ],
)  # fmt: skip
def test_settings(quantization: dict[str, Any], expected: dict[str, Any]) -> None:
    found = read(quantization)
    assert {key: found["quantization_config"][key] for key in expected} == expected
    assert found["quantization"] == found["quantization_config"]["method"]


@pytest.mark.parametrize(
    ("name", "content", "method"),
    [
        ("hf_quant_config.json", {"quantization": {"quant_algo": "NVFP4"}}, "modelopt_fp4"),
        ("quantize_config.json", {"bits": 4, "group_size": 128, "desc_act": False}, "gptq"),
        ("quant_config.json", {"w_bit": 4, "q_group_size": 128, "zero_point": True}, "awq"),
    ],
)  # fmt: skip
def test_files_beside_the_configuration(name: str, content: dict[str, Any], method: str) -> None:
    assert read({}, {name: content})["quantization"] == method
    assert read({"quant_method": "fp8"}, {name: content})["quantization"] == "fp8"


def test_no_quantization() -> None:
    found = read({})
    assert found["quantization"] is None
    assert found["quantization_config"] is None


@pytest.mark.parametrize(
    ("scheme", "tensors"),
    [
        (Scheme("fp8_block", 8, block=(128, 128), scale="f32"), [("f8", 200 * 300), ("f32", 2 * 3)]),
        (Scheme("fp8_tensor", 8, static=True), [("f8", 60000), ("f32", 1), ("f32", 1)]),
        (Scheme("fp8_channel", 8), [("f8", 60000), ("bf16", 200)]),
        (Scheme("int8_channel", 8), [("i8", 60000), ("bf16", 200)]),
        (Scheme("nvfp4", 4, static=True), [("u8", 200 * 150), ("f8", 200 * 19), ("f32", 1), ("f32", 1)]),
        (Scheme("mxfp4", 4), [("u8", 200 * 150), ("u8", 200 * 10)]),
        (Scheme("mxfp8", 8), [("f8", 60000), ("u8", 200 * 10)]),
        (
            Scheme("awq", 4, group=100, zero_point=True),
            [("i32", 7500), ("f16", 200 * 3), ("i32", 3 * 25)],
        ),
        (
            Scheme("gptq", 4, group=100),
            [("i32", 7500), ("f16", 200 * 3), ("i32", 3 * 25), ("i32", 300)],
        ),
        (Scheme("packed", 4, group=-1), [("i32", 200 * 38), ("bf16", 200), ("i64", 2)]),
        (
            Scheme("packed", 8, group=100, zero_point=True),
            [("i32", 200 * 75), ("bf16", 600), ("i64", 2), ("i32", 50 * 3)],
        ),
    ],
)
def test_what_a_matrix_is_stored_as(scheme: Scheme, tensors: list[tuple[str, int]]) -> None:
    assert stored(scheme, 200, 300) == tensors


def test_bytes_of_tensors() -> None:
    assert tensor_bytes([("f8", 10), ("f32", 2), ("i64", 1), ("bf16", 3)]) == 10 + 8 + 8 + 6


PLAIN_GATE_UP = 2 * 2 * 128 * 64 * 2
FP8_GATE_UP = 2 * 2 * (128 * 64 + 4)


@pytest.mark.parametrize(
    ("left_out", "size"),
    [
        ([], FP8_GATE_UP),
        (["lm_head"], FP8_GATE_UP),
        (["mlp"], PLAIN_GATE_UP),
        (["model.layers.0.mlp.gate_proj"], FP8_GATE_UP + 128 * 64 - 4),
        (["model.layers.0.mlp.gate_up_proj"], FP8_GATE_UP + 2 * (128 * 64 - 4)),
        (["language_model.model.layers.0.mlp*"], FP8_GATE_UP + 2 * (128 * 64 - 4)),
        (["model.layers.*.mlp"], PLAIN_GATE_UP),
        (["re:.*mlp.*"], PLAIN_GATE_UP),
        (["re:mlp"], FP8_GATE_UP),
        (["re:("], FP8_GATE_UP),
        (["gate"], FP8_GATE_UP),
        ([5, None, ""], FP8_GATE_UP),
    ],
)
def test_modules_that_are_left_out(left_out: list[Any], size: int) -> None:
    quantization = {"quant_method": "fp8", "weight_block_size": [128, 128], "modules_to_not_convert": left_out}
    assert bytes_of(read(quantization), "ffn_gate_up") == size


def test_dynamic_rules_of_gptq() -> None:
    quantization = {"quant_method": "gptq", "bits": 4, "group_size": 32, "dynamic": {"-:.*attn.*": {}}}
    found = read(quantization)
    assert found["quantization_config"]["attention"] is False
    assert found["quantization_config"]["ignored"] == ["-:.*attn.*"]
    assert bytes_of(found, "attention_output") == 2 * 64 * 64 * 2
    assert bytes_of(found, "ffn_down") < 2 * 64 * 128


def test_only_listed_modules_of_mixed_precision() -> None:
    layers = {
        "model.layers.0.mlp.experts": {"quant_algo": "NVFP4"},
        "model.layers.1.self_attn.o_proj": {"quant_algo": "FP8"},
    }
    found = read({"quant_algo": "MIXED_PRECISION", "quant_method": "modelopt", "quantized_layers": layers}, **EXPERTS)
    packed = 4 * (32 * 64 // 2 + 32 * 64 // 16 + 8)
    assert bytes_of(found, "expert_gate_up") == 2 * packed + 2 * 4 * 32 * 64 * 2
    assert bytes_of(found, "attention_output") == 64 * 64 * 2 + 64 * 64 + 8
    assert found["quantization_config"]["shared_experts"] is False


def test_targets_of_compressed_tensors() -> None:
    group = {**FP8_GROUP, "targets": ["re:.*down_proj"]}
    found = read({"quant_method": "compressed-tensors", "config_groups": {"group_0": group}})
    assert bytes_of(found, "ffn_down") == 2 * (64 * 128 + 64 * 2)
    assert bytes_of(found, "ffn_gate_up") == PLAIN_GATE_UP


def test_a_quantized_head() -> None:
    plain, quantized = read({}), read({"quant_method": "gptq", "bits": 4, "group_size": 32, "lm_head": True})
    assert bytes_of(quantized, "lm_head") < bytes_of(plain, "lm_head") / 3


@pytest.mark.parametrize(
    ("pattern", "name", "meant"),
    [
        ("lm_head", "lm_head", True),
        ("model.layers.1", "layers.1.mlp.up_proj", True),
        ("model.layers.1", "layers.11.mlp.up_proj", False),
        ("model.layers.1*", "layers.11.mlp.up_proj", True),
        ("model.layers.1.*", "layers.11.mlp.up_proj", False),
        ("model.layers.1.*", "layers.1.mlp.up_proj", True),
        ("backbone.layers.1.mixer.in_proj", "layers.1.mixer.in_proj", True),
        ("mlp.gate", "layers.1.mlp.gate", True),
        ("mlp.gate", "layers.1.mlp.gate_proj", False),
        ("*.mlp.shared_expert.*", "layers.1.mlp.shared_expert.up_proj", True),
        ("visual", "visual.blocks.0", True),
        ("model.layers.0.self_attn.qkv_proj", "layers.0.self_attn.k_proj", True),
    ],
)
def test_patterns(pattern: str, name: str, meant: bool) -> None:
    assert model_patterns.Patterns([pattern]).meant(name) is meant
