"""vLLM's rules, with the numbers of real models."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import constraints
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.constraints import RULES, Sizes
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.samples import LLAMA_70B, QWEN3_06B, QWEN25_7B

# 52 heads, as in vllm-project/vllm#414
LLAMA_33B = {"num_attention_heads": 52, "num_kv_heads": 52, "vocab_size": 32000, "intermediate_size": 17920}
DEEPSEEK_V3 = {
    "num_attention_heads": 128,
    "num_kv_heads": 128,
    "mla": True,
    "vocab_size": 129280,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_experts": 256,
    "hidden_size": 7168,
}
QWEN3_30B_A3B = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "num_attention_heads": 32,
    "num_kv_heads": 4,
    "vocab_size": 151936,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
    "layers": [{"count": 48, "attention": "full", "feed_forward": "moe"}],
}
FP8_BLOCKS = {"method": "fp8", "block": [128, 128]}
QWEN3_30B_A3B_FP8 = {**QWEN3_30B_A3B, "quantization": "fp8", "quantization_config": FP8_BLOCKS}
QWEN25_72B_AWQ = {
    "num_attention_heads": 64,
    "num_kv_heads": 8,
    "vocab_size": 152064,
    "hidden_size": 8192,
    "head_dim": 128,
    "intermediate_size": 29568,
    "dtype": "float16",
    "quantization_config": {"method": "awq", "bits": 4, "group_size": 128},
}
QWEN3_NEXT: dict[str, Any] = {
    "architectures": ["Qwen3NextForCausalLM"],
    "num_attention_heads": 16,
    "num_kv_heads": 2,
    "vocab_size": 151936,
    "moe_intermediate_size": 512,
    "shared_expert_intermediate_size": 512,
    "num_experts": 512,
    "attention": {
        "full": {"type": "full", "num_heads": 16, "num_kv_heads": 2, "head_dim": 256, "head_dim_v": 256},
        "gdn": {"type": "gdn", "num_k_heads": 16, "num_v_heads": 32, "head_k_dim": 128, "head_v_dim": 128},
    },
    "layers": [{"count": 48, "attention": "full", "feed_forward": "moe"}],
}
MAMBA = {
    "num_attention_heads": 64,
    "attention": {"m": {"type": "mamba2", "num_heads": 256, "n_groups": 8, "head_dim": 64}},
}
GPT_OSS = {
    "num_attention_heads": 64,
    "num_kv_heads": 8,
    "num_experts": 32,
    "intermediate_size": 2880,
    "dtype": "bfloat16",
    "quantization_config": {"method": "mxfp4"},
    "layers": [{"count": 24, "attention": "full", "feed_forward": "moe"}],
}
GEMMA3 = {
    "model_type": "gemma3",
    "num_attention_heads": 32,
    "num_kv_heads": 16,
    "dtype": "bfloat16",
    "max_model_len": 131072,
    "attention": {"s": {"type": "sliding", "num_heads": 32, "num_kv_heads": 16, "head_dim": 128, "window": 1024}},
    "vision": {"num_attention_heads": 16, "intermediate_size": 4304},
}

H100 = {"accelerator": "cuda", "name": "NVIDIA H100", "compute_capability": "9.0"}
A100 = {"accelerator": "cuda", "name": "NVIDIA A100", "compute_capability": "8.0"}
T4 = {"accelerator": "cuda", "name": "Tesla T4", "compute_capability": "7.5"}
V100 = {"accelerator": "cuda", "name": "Tesla V100", "compute_capability": "7.0"}
MI300X = {"accelerator": "rocm", "name": "AMD Instinct MI300X"}
CPU = {"accelerator": "cpu"}


def ids(
    model: dict[str, Any],
    gpu: dict[str, Any] | None = None,
    engine: str | None = None,
    severity: str = "refuse",
    **sizes: Any,
) -> set[str]:
    """The rules that are broken at these sizes, by severity."""
    found = constraints.check(model, Sizes(**sizes), gpu or H100, engine)
    return {one.rule_id for one in found if one.severity == severity}


@pytest.mark.parametrize(
    ("model", "most", "legal"),
    [
        (LLAMA_70B, 16, [1, 2, 4, 8, 16]),
        # 152064 = 64 * 2376 divides by 1, 2, 3, ...; its 28 heads leave 7, which its 4 KV heads forbid
        (QWEN25_7B, 8, [1, 2, 4]),
        # 151936 = 64 * 2374
        (QWEN3_06B, 8, [1, 2, 4, 8]),
        (LLAMA_33B, 4, [1, 2, 4]),
        (DEEPSEEK_V3, 16, [1, 2, 4, 8, 16]),
        (QWEN3_30B_A3B, 8, [1, 2, 4, 8]),
        # nothing here is a power of two but the vocabulary
        ({"num_attention_heads": 24, "num_kv_heads": 3, "vocab_size": 192}, 12, [1, 3, 6, 12]),
        (QWEN25_72B_AWQ, 8, [1]),
        ({}, 3, [1, 2, 3]),
        (LLAMA_70B, 0, []),
    ],
)
def test_legal_sizes(model: dict[str, Any], most: int, legal: list[int]) -> None:
    assert constraints.legal_sizes(model, most) == legal


@pytest.mark.parametrize(
    ("model", "size", "said"),
    [
        (
            LLAMA_33B,
            3,
            "52 attention heads and 52 KV heads and a vocabulary of 32000 (padded to a multiple of 64) "
            "and an intermediate size of 17920",
        ),
        (LLAMA_33B, 8, "52 attention heads and 52 KV heads"),
        (
            QWEN25_7B,
            7,
            "4 KV heads and a vocabulary of 152064 (padded to a multiple of 64) and an intermediate size of 18944",
        ),
        # 152064 divides by 3 and 18944 does not
        (QWEN25_7B, 3, "28 attention heads and 4 KV heads and an intermediate size of 18944"),
        ({"vocab_size": 151936}, 3, "a vocabulary of 151936 (padded to a multiple of 64)"),
        ({"num_kv_heads": 8}, 12, "8 KV heads"),
        ({"moe_intermediate_size": 768, "num_experts": 128}, 5, "an expert intermediate size of 768"),
    ],
)
def test_what_is_broken_is_named(model: dict[str, Any], size: int, said: str) -> None:
    assert constraints.say(model, constraints.broken(model, size)) == said


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ({"num_kv_heads": 8}, 16),  # each KV head on two ranks
        ({"num_kv_heads": 1}, 7),
        ({"num_kv_heads": 128, "mla": True}, 3),  # one latent head for all
        ({"vocab_size": 32001}, 32),  # padded to 32064 = 64 * 501
        ({"moe_intermediate_size": 768}, 5),  # a dense model of a family that names it
        ({"num_attention_heads": None, "vocab_size": None}, 3),
        # 1 group is copied to all ranks
        ({"attention": {"m": {"type": "mamba2", "num_heads": 128, "n_groups": 1}}}, 16),
        # no dense layer uses the intermediate size that the configuration names
        ({"intermediate_size": 6145, "num_experts": 8, "layers": [{"count": 1, "feed_forward": "moe"}]}, 1),
    ],
)
def test_what_is_allowed(model: dict[str, Any], size: int) -> None:
    assert constraints.broken(model, size) == []


# (rule, model, sizes, GPU, engine): the rule refuses, and nothing else does
HEADS_OF_64 = {"attention": {"full": {"type": "full", "num_heads": 8, "num_kv_heads": 8, "head_dim": 64}}}
SPARSE = {"attention": {"mla": {"type": "mla", "kv_lora_rank": 512, "qk_rope_head_dim": 64, "index_head_dim": 128}}}
REFUSED: list[tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], str | None]] = [
    ("heads_not_divisible", {"num_attention_heads": 32}, {"tensor_parallel_size": 3}, CPU, None),
    ("kv_heads_not_divisible", {"num_kv_heads": 8}, {"tensor_parallel_size": 12}, CPU, None),
    ("vocabulary_not_divisible", {"vocab_size": 151936}, {"tensor_parallel_size": 3}, CPU, None),
    ("intermediate_not_divisible", {"intermediate_size": 18944}, {"tensor_parallel_size": 3}, CPU, None),
    ("shared_expert_not_divisible", {"shared_expert_intermediate_size": 512}, {"tensor_parallel_size": 3}, CPU, None),
    (
        "experts_not_divisible",
        {"num_experts": 8, "moe_intermediate_size": 768},
        {"tensor_parallel_size": 2, "data_parallel_size": 5},
        H100,
        None,
    ),
    (
        "experts_fewer_than_ranks",
        {"architectures": ["MiniMaxM2ForCausalLM"], "num_experts": 8, "moe_intermediate_size": 1536},
        {"tensor_parallel_size": 16},
        H100,
        None,
    ),
    (
        "linear_attention_not_divisible",
        {**QWEN3_NEXT, "num_attention_heads": 64, "attention": {"gdn": QWEN3_NEXT["attention"]["gdn"]}},
        {"tensor_parallel_size": 64},
        H100,
        None,
    ),
    ("mamba_not_divisible", MAMBA, {"tensor_parallel_size": 16}, H100, None),
    (
        "mamba_not_divisible",
        {"attention": {"m": {"type": "mamba1", "intermediate_size": 8192}}},
        {"tensor_parallel_size": 3},
        H100,
        None,
    ),
    ("vision_not_divisible", GEMMA3, {"tensor_parallel_size": 32}, H100, None),
    ("ep_needs_moe", LLAMA_70B, {"enable_expert_parallel": True}, H100, None),
    (
        "ep_experts_not_even",
        {"architectures": ["DeepseekV4ForCausalLM"], "num_experts": 256, "moe_intermediate_size": 2048},
        {"tensor_parallel_size": 3, "enable_expert_parallel": True},
        H100,
        None,
    ),
    ("pipeline_not_supported", {"supports_pipeline": False}, {"pipeline_parallel_size": 2}, H100, None),
    ("pipeline_more_than_layers", {"num_layers": 28}, {"pipeline_parallel_size": 29}, H100, None),
    (
        "dcp_not_divisible",
        DEEPSEEK_V3,
        {"tensor_parallel_size": 8, "decode_context_parallel_size": 3},
        H100,
        None,
    ),
    ("dcp_kv_heads", LLAMA_70B, {"tensor_parallel_size": 8, "decode_context_parallel_size": 2}, H100, None),
    ("dcp_kv_heads", QWEN3_30B_A3B, {"tensor_parallel_size": 8, "decode_context_parallel_size": 4}, H100, None),
    (
        "dcp_sliding_window",
        {"mla": True, "attention": {"s": {"type": "sliding"}}},
        {"tensor_parallel_size": 2, "decode_context_parallel_size": 2},
        H100,
        None,
    ),
    (
        "block_quantization_not_divisible",
        {"intermediate_size": 25600, "quantization_config": FP8_BLOCKS},
        {"tensor_parallel_size": 16},
        H100,
        None,
    ),
    # the shared expert of Qwen3.5-35B-A3B-FP8: 512 / 8
    (
        "block_quantization_not_divisible",
        {"shared_expert_intermediate_size": 512, "quantization_config": FP8_BLOCKS},
        {"tensor_parallel_size": 8},
        H100,
        None,
    ),
    # gate and up projections are checked until 0.13, merged or not
    (
        "block_quantization_not_divisible",
        {"intermediate_size": 12288, "quantization_config": {"method": "fp8", "block": [256, 64]}},
        {"tensor_parallel_size": 64},
        H100,
        "0.13.0",
    ),
    # 768 / 4 = 192, vllm-project/vllm#25292
    ("expert_blocks_not_divisible", QWEN3_30B_A3B_FP8, {"tensor_parallel_size": 4}, H100, "0.10.2"),
    # 768 / 16 = 48, and gcd(128, 48) = 16 is below 32
    ("expert_blocks_not_divisible", QWEN3_30B_A3B_FP8, {"tensor_parallel_size": 16}, H100, None),
    # compressed-tensors does not refine
    (
        "expert_blocks_not_divisible",
        {**QWEN3_30B_A3B, "quantization_config": {"method": "compressed-tensors", "block": [128, 128]}},
        {"tensor_parallel_size": 4},
        H100,
        None,
    ),
    ("quantization_group_not_divisible", QWEN25_72B_AWQ, {"tensor_parallel_size": 2}, A100, None),
    (
        "marlin_tile_not_divisible",
        {
            "intermediate_size": 29568,
            "dtype": "bfloat16",
            "quantization_config": {"method": "compressed-tensors", "format": "pack-quantized", "group_size": -1},
        },
        {"tensor_parallel_size": 4},
        A100,
        "0.10.0",
    ),
    (
        "expert_group_not_divisible",
        {**QWEN3_30B_A3B, "quantization_config": {"method": "compressed-tensors", "group_size": 128}},
        {"tensor_parallel_size": 4},
        H100,
        None,
    ),
    (
        "expert_group_fails_on_request",
        {**QWEN3_30B_A3B, "quantization_config": {"method": "gptq", "group_size": 128}},
        {"tensor_parallel_size": 4},
        A100,
        "0.9.1",
    ),
    (
        "expert_group_too_small",
        {**QWEN3_30B_A3B, "quantization_config": {"method": "gptq", "group_size": 128}},
        {"tensor_parallel_size": 16},
        A100,
        None,
    ),
    (
        "expert_mxfp8_not_divisible",
        {"num_experts": 8, "moe_intermediate_size": 720, "quantization_config": {"method": "modelopt_mxfp8"}},
        {"tensor_parallel_size": 2},
        H100,
        None,
    ),
    ("capability_too_low", LLAMA_70B, {"dtype": "float16"}, V100, None),
    ("quantization_capability_too_low", GPT_OSS, {}, T4, "0.11.0"),
    ("quantization_capability_too_low", {"quantization": "modelopt"}, {}, A100, "0.19.0"),
    (
        "quantization_capability_too_low",
        {"quantization_config": {"method": "modelopt", "format": "NVFP4"}},
        {},
        T4,
        "0.13.0",
    ),
    ("bfloat16_needs_ampere", LLAMA_70B, {"dtype": "bfloat16"}, T4, None),
    ("bfloat16_needs_ampere", LLAMA_70B, {}, T4, "0.8.5"),
    ("float16_refused_for_model", GEMMA3, {"dtype": "half"}, H100, None),
    ("dtype_unknown", LLAMA_70B, {"dtype": "fp8"}, H100, None),
    ("activation_dtype_refused", GPT_OSS, {"dtype": "float16"}, H100, None),
    ("quantization_unknown", LLAMA_70B, {"quantization": "fp8_per_channel"}, H100, "0.23.0"),
    ("quantization_unknown", {"quantization": "bitsandbytes"}, {}, H100, None),
    ("quantization_deprecated", {"quantization": "fbgemm_fp8"}, {}, H100, None),
    ("quantization_not_of_checkpoint", QWEN25_72B_AWQ, {"quantization": "fp8"}, H100, None),
    ("quantization_not_of_checkpoint", LLAMA_70B, {"quantization": "awq"}, H100, None),
    ("quantization_not_on_rocm", {"quantization": "moe_wna16"}, {}, MI300X, None),
    ("kv_cache_dtype_unknown", LLAMA_70B, {"kv_cache_dtype": "int8_per_token_head"}, H100, "0.19.0"),
    ("kv_cache_dtype_not_of_model", LLAMA_70B, {"kv_cache_dtype": "float16"}, H100, None),
    ("kv_cache_fp8_needs_ampere", LLAMA_70B, {"kv_cache_dtype": "fp8"}, T4, None),
    ("kv_cache_nvfp4", LLAMA_70B, {"kv_cache_dtype": "nvfp4"}, H100, "0.32.0"),
    ("kv_cache_of_sparse_mla", QWEN3_NEXT, {"kv_cache_dtype": "fp8_ds_mla"}, H100, None),
    ("architecture_unknown_yet", QWEN3_NEXT, {}, H100, "0.10.1.1"),
    ("architecture_unknown_yet", {"architectures": ["DeepseekV32ForCausalLM"]}, {}, H100, "0.10.2"),
    ("architecture_unknown_yet", {"architectures": ["GlmMoeDsaForCausalLM"]}, {}, H100, "0.15.1"),
    ("kv_cache_nvfp4", LLAMA_70B, {"kv_cache_dtype": "nvfp4"}, {"compute_capability": "12.0"}, "0.25.1"),
    ("kv_cache_nvfp4", LLAMA_70B, {"kv_cache_dtype": "nvfp4_4over6"}, H100, None),
    ("kv_cache_nvfp4", HEADS_OF_64, {"kv_cache_dtype": "nvfp4"}, H100, None),
    ("kv_cache_nvfp4", {"model_type": "gpt_oss"}, {"kv_cache_dtype": "nvfp4"}, {"compute_capability": "12.0"}, None),
    ("sparse_attention_capability", SPARSE, {}, A100, None),
    ("sparse_attention_capability", SPARSE, {}, {"compute_capability": "12.0"}, "0.13.0"),
    ("stochastic_rounding", {}, {"stochastic_rounding": True}, H100, None),
    (
        "pipeline_not_supported_yet",
        {"architectures": ["MiniMaxM3SparseForCausalLM"], "supports_pipeline": True},
        {"pipeline_parallel_size": 2},
        H100,
        "0.22.1",
    ),
    ("kv_cache_nvfp4", DEEPSEEK_V3, {"kv_cache_dtype": "nvfp4"}, {"compute_capability": "10.0"}, None),
    ("batched_tokens_below_seqs", LLAMA_70B, {"max_num_batched_tokens": 128, "max_num_seqs": 256}, H100, None),
    ("max_model_len_too_long", LLAMA_70B, {"max_model_len": 131073}, H100, None),
    ("block_size_unknown", LLAMA_70B, {"block_size": 256}, H100, "0.11.0"),
]


@pytest.mark.parametrize(("rule", "model", "sizes", "gpu", "engine"), REFUSED)
def test_what_is_refused(
    rule: str, model: dict[str, Any], sizes: dict[str, Any], gpu: dict[str, Any], engine: str | None
) -> None:
    assert ids(model, gpu, engine, **sizes) == {rule}
    found = next(one for one in constraints.check(model, Sizes(**sizes), gpu, engine) if one.rule_id == rule)
    assert not found.reason.endswith(".")
    assert "None" not in found.reason
    assert not re.search(r"\bauto, auto\b|  ", found.reason)


# (model, sizes, GPU, engine): the same with something changed, and nothing is refused
ACCEPTED: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], str | None]] = [
    (LLAMA_70B, {"kv_cache_dtype": "nvfp4"}, H100, None),
    (HEADS_OF_64, {"kv_cache_dtype": "nvfp4"}, {"compute_capability": "10.0"}, None),
    (SPARSE, {}, H100, None),
    (SPARSE, {"kv_cache_dtype": "fp8_ds_mla"}, H100, None),
    (QWEN3_NEXT, {}, H100, "0.10.2"),
    ({"architectures": ["GlmMoeDsaForCausalLM"]}, {}, H100, "0.16.0rc1.dev20"),
    (SPARSE, {}, {"compute_capability": "12.0"}, "0.33.0"),
    (LLAMA_70B, {"max_model_len": 1_000_000, "allow_long": True}, H100, None),
    ({"quantization": "auto-round"}, {"quantization": "auto_round"}, H100, "0.20.2"),
    ({}, {"stochastic_rounding": True}, {"compute_capability": "10.0"}, None),
    (QWEN3_30B_A3B, {"tensor_parallel_size": 2, "data_parallel_size": 3}, H100, None),
    (
        {"num_experts": 8, "moe_intermediate_size": 768},
        {"tensor_parallel_size": 2, "data_parallel_size": 5, "enable_expert_parallel": True},
        H100,
        None,
    ),
    (GEMMA3, {"tensor_parallel_size": 32, "mm_encoder_tp_mode": "data"}, H100, None),
    (GEMMA3, {"tensor_parallel_size": 32, "language_model_only": True}, H100, None),
    (
        {**GEMMA3, "architectures": ["InternVLChatModel"]},
        {"tensor_parallel_size": 32},
        H100,
        None,
    ),
    ({"supports_pipeline": True}, {"pipeline_parallel_size": 2}, H100, None),
    ({"num_layers": 28}, {"pipeline_parallel_size": 3}, H100, None),
    (DEEPSEEK_V3, {"tensor_parallel_size": 8, "decode_context_parallel_size": 8}, H100, None),
    (QWEN3_30B_A3B, {"tensor_parallel_size": 8, "decode_context_parallel_size": 2}, H100, None),
    (
        {"intermediate_size": 12288, "quantization_config": {"method": "fp8", "block": [256, 64]}},
        {"tensor_parallel_size": 64},
        H100,
        "0.14.0",
    ),
    (QWEN3_30B_A3B_FP8, {"tensor_parallel_size": 4}, H100, "0.29.0"),
    (QWEN3_30B_A3B_FP8, {"tensor_parallel_size": 16, "enable_expert_parallel": True}, H100, "0.10.2"),
    # ignored attention, shared experts that are not quantized
    (
        {
            "num_attention_heads": 64,
            "head_dim": 64,
            "shared_expert_intermediate_size": 512,
            "quantization_config": {**FP8_BLOCKS, "attention": False, "shared_experts": False},
        },
        {"tensor_parallel_size": 64},
        H100,
        None,
    ),
    # a group for the whole input
    (
        {**QWEN25_72B_AWQ, "quantization_config": {"method": "gptq", "group_size": -1}},
        {"tensor_parallel_size": 2},
        A100,
        None,
    ),
    (
        {**QWEN25_72B_AWQ, "dtype": "bfloat16", "quantization_config": {"method": "gptq", "group_size": -1}},
        {"tensor_parallel_size": 2},
        A100,
        "0.24.0",
    ),
    (
        {**QWEN3_30B_A3B, "quantization_config": {"method": "gptq", "group_size": 128}},
        {"tensor_parallel_size": 4},
        A100,
        None,
    ),
    (LLAMA_70B, {"dtype": "float16"}, V100, "0.19.0"),
    (LLAMA_70B, {}, T4, None),
    (LLAMA_70B, {"dtype": "float16"}, {"accelerator": "cuda"}, None),
    (GEMMA3, {"dtype": "half"}, H100, "0.8.5"),
    (GPT_OSS, {"tensor_parallel_size": 8}, H100, None),
    (QWEN25_72B_AWQ, {"quantization": "awq_marlin"}, H100, None),
    ({"quantization": "auto-round"}, {}, H100, None),
    (LLAMA_70B, {"quantization": "fp8"}, H100, None),
    ({"quantization": "quark"}, {}, MI300X, None),
    (LLAMA_70B, {"kv_cache_dtype": "bfloat16"}, H100, None),
    (LLAMA_70B, {"kv_cache_dtype": "fp8"}, A100, None),
    (DEEPSEEK_V3, {"kv_cache_dtype": "nvfp4_ds_mla"}, {"compute_capability": "10.0"}, None),
    (LLAMA_70B, {"max_num_batched_tokens": 256, "max_num_seqs": 256, "max_model_len": 8192}, H100, None),
    (LLAMA_70B, {"block_size": 256}, H100, "0.11.1"),
    ({}, {"tensor_parallel_size": 3, "pipeline_parallel_size": 5, "enable_expert_parallel": True}, {}, None),
]


@pytest.mark.parametrize(("model", "sizes", "gpu", "engine"), ACCEPTED)
def test_what_is_accepted(
    model: dict[str, Any], sizes: dict[str, Any], gpu: dict[str, Any], engine: str | None
) -> None:
    assert ids(model, gpu, engine, **sizes) == set()


@pytest.mark.parametrize(
    ("rule", "model", "sizes", "gpu", "engine"),
    [
        ("kv_heads_replicated", QWEN3_30B_A3B, {"tensor_parallel_size": 8}, H100, None),
        (
            "ep_experts_uneven",
            {"num_experts": 8, "moe_intermediate_size": 768},
            {"tensor_parallel_size": 3, "enable_expert_parallel": True},
            H100,
            None,
        ),
        ("expert_blocks_refined", QWEN3_30B_A3B_FP8, {"tensor_parallel_size": 4}, H100, None),
        (
            "expert_group_falls_back",
            {**QWEN3_30B_A3B, "quantization_config": {"method": "gptq", "group_size": 128}},
            {"tensor_parallel_size": 4},
            H100,
            None,
        ),
        ("awq_without_marlin", {**QWEN25_72B_AWQ, "intermediate_size": 29632}, {}, A100, "0.19.0"),
        ("bfloat16_falls_back", LLAMA_70B, {}, T4, None),
        ("custom_all_reduce_size", LLAMA_70B, {"tensor_parallel_size": 16}, H100, "0.26.0"),
        ("custom_all_reduce_links", LLAMA_70B, {"tensor_parallel_size": 4}, {**A100, "fully_connected": False}, None),
    ],
)
def test_what_works_and_is_warned_of(
    rule: str, model: dict[str, Any], sizes: dict[str, Any], gpu: dict[str, Any], engine: str | None
) -> None:
    assert rule in ids(model, gpu, engine, severity="warn", **sizes)


@pytest.mark.parametrize(
    ("model", "sizes", "gpu", "engine"),
    [
        (QWEN3_30B_A3B, {"tensor_parallel_size": 4}, H100, None),
        # each copy of a KV head keeps other tokens
        (QWEN3_30B_A3B, {"tensor_parallel_size": 8, "decode_context_parallel_size": 2}, H100, None),
        (LLAMA_70B, {"tensor_parallel_size": 2}, {**A100, "fully_connected": False}, None),
        (LLAMA_70B, {"tensor_parallel_size": 4}, {**A100, "fully_connected": True}, None),
        (LLAMA_70B, {"tensor_parallel_size": 4}, CPU, None),
        (QWEN3_30B_A3B_FP8, {"tensor_parallel_size": 2}, H100, None),
        (QWEN3_30B_A3B_FP8, {"tensor_parallel_size": 4, "enable_expert_parallel": True}, H100, None),
        (LLAMA_70B, {"dtype": "float16"}, T4, None),
    ],
)
def test_what_is_not_warned_of(
    model: dict[str, Any], sizes: dict[str, Any], gpu: dict[str, Any], engine: str | None
) -> None:
    assert ids(model, gpu, engine, severity="warn", **sizes) == set()


def test_float32_where_neither_of_the_small_types_works() -> None:
    (warned,) = constraints.check(GEMMA3, Sizes(), T4)
    assert "float32: twice the memory" in warned.reason


def test_remedies_name_the_sizes_that_would_do() -> None:
    (refused,) = constraints.check({"num_attention_heads": 32}, Sizes(tensor_parallel_size=12), CPU)
    assert refused.remedies == ("write tensor_parallel_size: 8, 4 or 2",)
    (refused,) = constraints.refusals(constraints.check(QWEN3_30B_A3B_FP8, Sizes(tensor_parallel_size=16), H100))
    assert refused.remedies == (
        "write enable_expert_parallel: true, and each rank holds whole experts",
        "write tensor_parallel_size: 8, 4 or 2",
    )


def test_every_rule_is_written_once_says_where_it_comes_from_and_is_tested() -> None:
    assert all(re.match(r"[\w/.]+\.py:\d", rule.source) for rule in RULES)
    # the two rules of one name exclude each other: asked for, and by default
    assert sorted({rule.rule_id for rule in RULES}) == sorted(
        [rule.rule_id for rule in RULES if rule.find.__name__ != "bfloat16_by_default"]
    )
    assert {rule.rule_id for rule in RULES if rule.severity == "refuse"} == {row[0] for row in REFUSED}


KEYS = ("num_attention_heads", "num_kv_heads", "vocab_size", "intermediate_size", "moe_intermediate_size")
NUMBERS = st.none() | st.integers(1, 300_000)
MORE_KEYS = ("num_experts", "shared_expert_intermediate_size")
MODELS = st.fixed_dictionaries({}, optional={**dict.fromkeys(KEYS + MORE_KEYS, NUMBERS), "mla": st.booleans()})


@given(MODELS, st.integers(1, 20))
def test_size_one_is_legal_and_legal_sizes_break_nothing(model: dict[str, Any], most: int) -> None:
    legal = constraints.legal_sizes(model, most)
    assert legal[0] == 1
    for size in range(1, most + 1):
        found = constraints.broken(model, size)
        assert (size in legal) == (not found)
        checked = constraints.check(model, Sizes(tensor_parallel_size=size), CPU)
        assert [one.rule_id for one in constraints.refusals(checked)] == [one.rule_id for one in found]


@given(MODELS, st.integers(1, 40), st.integers(1, 4))
def test_expert_parallelism_forbids_nothing_that_slicing_allows(model: dict[str, Any], size: int, ranks: int) -> None:
    sizes = Sizes(tensor_parallel_size=size, data_parallel_size=ranks)
    sliced = {one.rule_id for one in constraints.refusals(constraints.check(model, sizes, CPU))}
    whole = constraints.check(model, replace(sizes, enable_expert_parallel=True), CPU)
    assert {one.rule_id for one in constraints.refusals(whole)} - sliced <= {"ep_needs_moe"}
