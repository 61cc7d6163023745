"""What the layers of a model are, read from small configurations."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model

from tests.unit.plugins.module_utils.observe.checkpoints import LLAMA

MLA = {
    "model_type": "deepseek_v3", "kv_lora_rank": 32, "q_lora_rank": 48, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
    "v_head_dim": 16,
}  # fmt: skip
EXPERTS = {"n_routed_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
GDN = {
    "model_type": "qwen3_5_text", "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8,
    "linear_value_head_dim": 16, "linear_conv_kernel_dim": 4,
}  # fmt: skip
MAMBA = {
    "model_type": "nemotron_h", "mamba_num_heads": 8, "mamba_head_dim": 16, "n_groups": 2, "ssm_state_size": 32,
    "conv_kernel": 4, "head_dim": 16,
}  # fmt: skip


def read(**config: Any) -> dict[str, Any]:
    """Facts of a four-layer model with these settings; None takes a setting away."""
    whole = {**LLAMA, "num_hidden_layers": 4, **config}
    return model.facts({key: value for key, value in whole.items() if value is not None})


def runs(facts: dict[str, Any]) -> list[tuple[int, str | None, str | None]]:
    """The layers, short."""
    return [(run["count"], run["attention"], run["feed_forward"]) for run in facts["layers"]]


@pytest.mark.parametrize(
    ("config", "layers"),
    [
        ({}, [(4, "full", "dense")]),
        ({"model_type": "qwen2", "sliding_window": 64}, [(4, "full", "dense")]),
        ({"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": False}, [(4, "full", "dense")]),
        (
            {"model_type": "qwen2", "sliding_window": 64, "use_sliding_window": True, "max_window_layers": 3},
            [(3, "full", "dense"), (1, "sliding", "dense")],
        ),
        ({"model_type": "mistral", "sliding_window": 64}, [(4, "sliding", "dense")]),
        ({"model_type": "mistral", "sliding_window": 0}, [(4, "full", "dense")]),
        ({"model_type": "mistral"}, [(4, "sliding", "dense")]),
        ({"model_type": "gemma2"}, [(1, "sliding", "dense"), (1, "full", "dense")] * 2),
        (
            {"model_type": "gemma3_text", "num_hidden_layers": 8},
            [(5, "sliding", "dense"), (1, "full", "dense"), (2, "sliding", "dense")],
        ),
        (
            {"layer_types": ["sliding_attention", "full_attention"] * 2, "sliding_window": 64},
            [(1, "sliding", "dense"), (1, "full", "dense")] * 2,
        ),
        ({"layer_types": ["sliding_attention"] * 4}, [(4, "full", "dense")]),
        (
            {"model_type": "llama4_text", **EXPERTS, "interleave_moe_layer_step": 2},
            [(1, "chunked", "dense"), (1, "chunked", "moe"), (1, "chunked", "dense"), (1, "full", "moe")],
        ),
        ({"model_type": "mixtral", "num_local_experts": 8}, [(4, "full", "moe")]),
        ({**MLA, **EXPERTS, "first_k_dense_replace": 1}, [(1, "mla", "dense"), (3, "mla", "moe")]),
        ({**EXPERTS, "moe_layer_freq": [0, 1, 0, 1]}, [(1, "full", "dense"), (1, "full", "moe")] * 2),
        ({**EXPERTS, "mlp_only_layers": [3]}, [(3, "full", "moe"), (1, "full", "dense")]),
        ({**EXPERTS, "decoder_sparse_step": 2}, [(1, "full", "dense"), (1, "full", "moe")] * 2),
        (
            {**EXPERTS, "mlp_layer_types": ["dense", "sparse", "sparse", "sparse"]},
            [(1, "full", "dense"), (3, "full", "moe")],
        ),
        ({**EXPERTS, "moe_layers_enum": "1,2"}, [(1, "full", "dense"), (2, "full", "moe"), (1, "full", "dense")]),
        ({**GDN}, [(3, "gdn", "dense"), (1, "full", "dense")]),
        (
            {**GDN, "layer_types": ["full_attention", "linear_attention", "linear_attention", "linear_attention"]},
            [(1, "full", "dense"), (3, "gdn", "dense")],
        ),
        (
            {**MAMBA, "hybrid_override_pattern": "M-*E", **EXPERTS},
            [(1, "mamba2", None), (1, None, "dense"), (1, "full", None), (1, None, "moe")],
        ),
        (
            {**MAMBA, "num_hidden_layers": None, "layers_block_type": ["mamba", "moe", "attention"], **EXPERTS},
            [(1, "mamba2", None), (1, None, "moe"), (1, "full", None)],
        ),
        ({"model_type": "mamba", "state_size": 16, "conv_kernel": 4}, [(4, "mamba1", None)]),
        (
            {**MLA, "model_type": "kimi_linear", "linear_attn_config": {"kda_layers": [1, 2, 3], "num_heads": 4,
             "head_dim": 8, "short_conv_kernel_size": 4}},
            [(3, "kda", "dense"), (1, "mla", "dense")],
        ),
        (
            {"hybrid_layer_pattern": [0, 1, 1, 0], "sliding_window": 64, "swa_head_dim": 8},
            [(1, "full", "dense"), (2, "sliding", "dense"), (1, "full", "dense")],
        ),
        (
            {"block_configs": [
                {"attention": {"n_heads_in_group": 2}, "ffn": {"ffn_mult": 1.0}},
                {"attention": {"no_op": True}, "ffn": {"ffn_mult": 1.0}},
                {"attention": {"n_heads_in_group": 4}, "ffn": {"no_op": True}},
                {"attention": {"n_heads_in_group": 2}, "ffn": {"ffn_mult": 1.0}},
            ]},
            [(1, "full", "dense"), (1, None, "dense"), (1, "full_2", None), (1, "full", "dense")],
        ),
        ({"model_type": "zamba2"}, [(4, "other", "dense")]),
    ],
)  # fmt: skip
def test_layers(config: dict[str, Any], layers: list[tuple[int, str | None, str | None]]) -> None:
    assert runs(read(**config)) == layers


@pytest.mark.parametrize(
    ("config", "key", "described"),
    [
        ({}, "full", {"type": "full", "num_heads": 4, "num_kv_heads": 2, "head_dim": 16, "head_dim_v": 16}),
        (
            {"model_type": "mistral", "sliding_window": 64},
            "sliding",
            {"type": "sliding", "num_heads": 4, "num_kv_heads": 2, "head_dim": 16, "head_dim_v": 16, "window": 64},
        ),
        (
            MLA,
            "mla",
            {"type": "mla", "num_heads": 4, "kv_lora_rank": 32, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16,
             "v_head_dim": 16, "q_lora_rank": 48},
        ),
        (
            {**MLA, "model_type": "deepseek_v32", "index_head_dim": 8, "index_n_heads": 2},
            "mla",
            {"type": "mla", "num_heads": 4, "kv_lora_rank": 32, "qk_rope_head_dim": 8, "qk_nope_head_dim": 16,
             "v_head_dim": 16, "q_lora_rank": 48, "index_head_dim": 8, "index_n_heads": 2},
        ),
        (
            {**GDN, "mamba_ssm_dtype": "float32"},
            "gdn",
            {"type": "gdn", "num_k_heads": 2, "num_v_heads": 4, "head_k_dim": 8, "head_v_dim": 16, "conv_kernel": 4,
             "state_dtype": "float32"},
        ),
        ({**GDN}, "gdn", {"type": "gdn", "num_k_heads": 2, "num_v_heads": 4, "head_k_dim": 8, "head_v_dim": 16,
                          "conv_kernel": 4, "state_dtype": None}),
        (
            {**MAMBA, "hybrid_override_pattern": "M-*E"},
            "mamba2",
            {"type": "mamba2", "num_heads": 8, "head_dim": 16, "n_groups": 2, "state_size": 32, "conv_kernel": 4,
             "intermediate_size": 128, "state_dtype": "float32"},
        ),
        (
            {"model_type": "mamba", "state_size": 16, "conv_kernel": 4},
            "mamba1",
            {"type": "mamba1", "intermediate_size": 128, "state_size": 16, "conv_kernel": 4, "state_dtype": None},
        ),
        (
            {"model_type": "gemma4_text", "head_dim": 16, "global_head_dim": 32, "num_global_key_value_heads": 1},
            "full",
            {"type": "full", "num_heads": 4, "num_kv_heads": 1, "head_dim": 32, "head_dim_v": 32},
        ),
        (
            {"hybrid_layer_pattern": [0, 1, 1, 0], "sliding_window": 64, "swa_head_dim": 8, "swa_v_head_dim": 4,
             "swa_num_key_value_heads": 4},
            "sliding",
            {"type": "sliding", "num_heads": 4, "num_kv_heads": 4, "head_dim": 8, "head_dim_v": 4, "window": 64},
        ),
        (
            {"layer_types": ["sliding_attention"] * 4, "sliding_window": 64, "model_type": "step3p5",
             "attention_other_setting": {"num_attention_heads": 6, "num_attention_groups": 3}},
            "sliding",
            {"type": "sliding", "num_heads": 6, "num_kv_heads": 3, "head_dim": 16, "head_dim_v": 16, "window": 64},
        ),
    ],
)  # fmt: skip
def test_attention(config: dict[str, Any], key: str, described: dict[str, Any]) -> None:
    assert read(**config)["attention"][key] == described


def test_layers_that_share_a_kv_cache() -> None:
    found = read(model_type="gemma3n_text", num_kv_shared_layers=2, sliding_window=64)
    assert found["layers"] == [
        {"count": 2, "attention": "sliding", "feed_forward": "dense"},
        {"count": 2, "attention": "sliding", "feed_forward": "dense", "shares_kv": True},
    ]


def test_layers_without_a_number_are_others() -> None:
    found = read(num_attention_heads=None, model_type="unheard_of")
    sizes = {"num_heads": None, "num_kv_heads": 2, "head_dim": None, "head_dim_v": None}
    assert found["attention"] == {"other": {"type": "other", "name": "unheard_of", **sizes}}
    assert found["warnings"][0].startswith("Layers of the kind unheard_of are not known exactly")


def test_unknown_layers_are_said() -> None:
    assert read(model_type="zamba2")["warnings"][0] == (
        "Layers of the kind zamba2 are not known exactly, so their KV cache or state is an estimate."
    )


@pytest.mark.parametrize(
    ("config", "length", "default"),
    [
        ({"max_position_embeddings": 4096}, 4096, 4096),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "yarn", "factor": 4.0}}, 4096, 4096),
        ({"max_position_embeddings": 4096, "rope_scaling": {"rope_type": "llama3", "factor": 8}}, 4096, 4096),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "linear", "factor": 4.0}}, 16384, 16384),
        ({"max_position_embeddings": 4096, "rope_scaling": {"type": "dynamic", "factor": None}}, 4096, 4096),
        ({"max_position_embeddings": 4096, "rope_parameters": {"rope_type": "linear", "factor": 2}}, 8192, 8192),
        (
            {"max_position_embeddings": 4096,
             "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2},
                                 "sliding_attention": {"rope_type": "default"}}},
            8192, 8192,
        ),
        (
            {"model_type": "gemma3_text", "max_position_embeddings": 4096,
             "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
            4096, 4096,
        ),
        (
            {"max_position_embeddings": 131072, "original_max_position_embeddings": 4096,
             "rope_scaling": {"type": "longrope"}},
            131072, 4096,
        ),
        ({"max_position_embeddings": 8192, "seq_length": 2048}, 2048, 2048),
        ({"max_position_embeddings": 8192, "model_max_length": 131072}, 131072, 131072),
        ({"max_position_embeddings": None}, 2048, 2048),
        ({"max_position_embeddings": None, "model_type": "unheard_of"}, None, None),
    ],
)  # fmt: skip
def test_longest_sequence(config: dict[str, Any], length: int | None, default: int | None) -> None:
    found = read(**config)
    assert (found["max_model_len"], found["default_max_model_len"]) == (length, default)


@pytest.mark.parametrize(
    ("config", "files", "runner", "multimodal", "pipeline"),
    [
        ({}, {}, "generate", False, True),
        ({"architectures": ["BertModel"]}, {}, "pooling", False, False),
        ({"architectures": ["Qwen2ForSequenceClassification"]}, {}, "pooling", False, False),
        ({"architectures": ["ChatGLMModel"]}, {}, "generate", False, True),
        ({"architectures": ["Gemma3nForConditionalGeneration"]}, {}, "generate", True, False),
        ({"architectures": ["Phi3VForCausalLM"]}, {}, "generate", True, True),
        ({"architectures": ["X"], "vision_config": {"depth": 2}}, {}, "generate", True, True),
        ({}, {"modules.json": [{"type": "sentence_transformers.models.Pooling"}]}, "pooling", False, False),
        ({}, {"modules.json": [{"type": "sentence_transformers.models.Dense"}]}, "generate", False, True),
    ],
)
def test_runner(config: dict[str, Any], files: dict[str, Any], runner: str, multimodal: bool, pipeline: bool) -> None:
    found = model.facts({**LLAMA, **config}, quantization_files=files)
    assert (found["runner"], found["multimodal"], found["supports_pipeline"]) == (runner, multimodal, pipeline)


@pytest.mark.parametrize(
    ("files", "length"),
    [
        ({}, 514),
        ({"tokenizer_config.json": {"model_max_length": 512}}, 512),
        ({"tokenizer_config.json": {"model_max_length": 10**30}}, 514),
        ({"sentence_bert_config.json": {"max_seq_length": 256}}, 256),
    ],
)
def test_length_of_an_encoder(files: dict[str, Any], length: int) -> None:
    config = {**LLAMA, "architectures": ["BertModel"], "model_type": "bert", "max_position_embeddings": 514,
              "position_embedding_type": "absolute"}  # fmt: skip
    assert model.facts(config, quantization_files=files)["max_model_len"] == length
    assert (
        model.facts({**config, "architectures": ["BertForCausalLM"]}, quantization_files=files)["max_model_len"] == 514
    )
