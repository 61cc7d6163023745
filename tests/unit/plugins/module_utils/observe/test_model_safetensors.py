"""Kinds of weights from the headers of safetensors files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model, model_tensors, safetensors

from tests.unit.plugins.module_utils.observe import checkpoints
from tests.unit.plugins.module_utils.observe.checkpoints import LLAMA, llama_headers, write_checkpoint


def tensors(found: dict[str, Any]) -> dict[tuple[str, str | None], tuple[int, int]]:
    """The entries of a fact ``weights``, by kind and layer: bytes and parameters."""
    return {(one["kind"], one["layer"]): (one["bytes"], one["parameters"]) for one in found["weights"]["tensors"]}


def test_headers_and_configuration_agree() -> None:
    computed = model.facts(LLAMA)
    read = model.facts(LLAMA, headers=llama_headers())
    assert read["weights"]["source"] == "headers"
    assert read["weights"]["exact"] is True
    assert tensors(read) == tensors(computed)


@pytest.mark.parametrize(
    ("name", "attention", "kind"),
    [
        ("model.embed_tokens.weight", None, "embedding"),
        ("transformer.word_embeddings.weight", None, "embedding"),
        ("backbone.embeddings.weight", None, "embedding"),
        ("embed.weight", None, "embedding"),
        ("model.language_model.embed_tokens_per_layer.weight", None, "embedding"),
        ("transformer.wpe.weight", None, "position_embedding"),
        ("embeddings.position_embeddings.weight", None, "position_embedding"),
        ("embeddings.token_type_embeddings.weight", None, "other"),
        ("lm_head.weight", None, "lm_head"),
        ("language_model.lm_head.weight", None, "lm_head"),
        ("head.weight", None, "lm_head"),
        ("transformer.output_layer.weight", None, "lm_head"),
        ("model.norm.weight", None, "norm"),
        ("backbone.norm_f.weight", None, "norm"),
        ("transformer.h.0.ln_1.bias", "full", "norm"),
        ("model.layers.0.input_layernorm.weight", "full", "norm"),
        ("model.layers.0.self_attn.q_norm.weight", "full", "norm"),
        ("model.layers.0.self_attn.q_proj.weight", "full", "qkv_q"),
        ("model.layers.0.self_attn.q_proj.bias", "full", "qkv_q"),
        ("model.layers.0.self_attn.sinks", "full", "qkv_q"),
        ("model.layers.0.self_attn.k_proj.qweight", "full", "qkv_kv"),
        ("model.layers.0.self_attn.v_proj.weight_scale_inv", "full", "qkv_kv"),
        ("model.layers.0.self_attn.qkv_proj.weight", "full", "qkv"),
        ("transformer.h.0.self_attention.query_key_value.weight", "full", "qkv"),
        ("transformer.blocks.0.norm_attn_norm.attn.Wqkv.weight", "full", "qkv"),
        ("transformer.blocks.0.norm_attn_norm.attn.out_proj.weight", "full", "attention_output"),
        ("model.layers.0.self_attn.o_proj.weight", "full", "attention_output"),
        ("model.layers.0.self_attn.dense.weight", "full", "attention_output"),
        ("encoder.layer.0.attention.self.query.weight", "full", "qkv_q"),
        ("encoder.layer.0.attention.output.dense.weight", "full", "attention_output"),
        ("encoder.layer.0.intermediate.dense.weight", "full", "ffn_gate_up"),
        ("encoder.layer.0.output.dense.weight", "full", "ffn_down"),
        ("h.0.attn.c_proj.weight", "full", "attention_output"),
        ("h.0.mlp.c_proj.weight", "full", "ffn_down"),
        ("model.layers.0.mlp.gate_proj.weight", "full", "ffn_gate_up"),
        ("transformer.h.0.mlp.dense_h_to_4h.weight", "full", "ffn_gate_up"),
        ("model.layers.0.mlp.down_proj.weight", "full", "ffn_down"),
        ("model.layers.0.mlp.gate.weight", "full", "router"),
        ("model.layers.0.mlp.gate.e_score_correction_bias", "full", "router"),
        ("model.layers.0.block_sparse_moe.gate.weight", "full", "router"),
        ("model.layers.0.mlp.router.weight", "full", "router"),
        ("model.layers.0.mlp.shared_expert_gate.weight", "full", "router"),
        ("model.layers.3.moe.gate.weight", "full", "router"),
        ("model.layers.3.moe.gate_proj.weight", "full", "expert_gate_up"),
        ("model.layers.3.moe.down_proj.weight", "full", "expert_down"),
        ("model.layers.3.share_expert.up_proj.weight", "full", "shared_expert_gate_up"),
        ("model.layers.0.mlp.experts.7.gate_proj.weight", "full", "expert_gate_up"),
        ("model.layers.0.mlp.experts.7.down_proj.weight_scale_inv", "full", "expert_down"),
        ("model.layers.0.mlp.experts.gate_up_proj_blocks", "full", "expert_gate_up"),
        ("model.layers.0.mlp.experts.down_proj_scales", "full", "expert_down"),
        ("model.layers.0.block_sparse_moe.experts.0.w1.weight", "full", "expert_gate_up"),
        ("model.layers.0.block_sparse_moe.experts.0.w2.weight", "full", "expert_down"),
        ("transformer.blocks.0.ffn.experts.mlp.w2", "full", "expert_down"),
        ("transformer.blocks.0.ffn.router.layer.weight", "full", "router"),
        ("model.layers.0.mlp.shared_experts.down_proj.weight", "full", "shared_expert_down"),
        ("language_model.model.layers.0.feed_forward.shared_expert.up_proj.weight", "full", "shared_expert_gate_up"),
        ("model.layers.0.self_attn.q_a_proj.weight", "mla", "mla_down"),
        ("model.layers.0.self_attn.kv_a_proj_with_mqa.weight", "mla", "mla_down"),
        ("model.layers.0.self_attn.kv_a_layernorm.weight", "mla", "mla_down"),
        ("model.layers.0.self_attn.q_b_proj.weight", "mla", "mla_up"),
        ("model.layers.0.self_attn.q_proj.weight", "mla", "mla_up"),
        ("model.layers.0.self_attn.o_proj.weight", "mla", "attention_output"),
        ("model.layers.0.self_attn.indexer.wq_b.weight", "mla", "indexer"),
        ("layers.0.attn.wkv.weight", "mla", "mla_down"),
        ("layers.0.attn.wo_a.weight", "mla", "attention_output"),
        ("layers.0.attn.attn_sink", "mla", "mla_up"),
        ("layers.0.ffn.gate.tid2eid", "mla", "router"),
        ("layers.0.hc_attn_fn", "mla", "other"),
        ("model.language_model.layers.0.linear_attn.in_proj_qkv.weight", "gdn", "linear_attention"),
        ("model.language_model.layers.0.linear_attn.norm.weight", "gdn", "linear_attention_replicated"),
        ("model.language_model.layers.0.input_layernorm.weight", "gdn", "norm"),
        ("model.layers.0.self_attn.q_conv1d.weight", "kda", "linear_attention"),
        ("model.layers.0.self_attn.o_norm.weight", "kda", "linear_attention_replicated"),
        ("backbone.layers.0.mixer.in_proj.weight", "mamba2", "mamba"),
        ("backbone.layers.0.mixer.norm.weight", "mamba2", "mamba"),
        ("backbone.layers.0.norm.weight", "mamba2", "norm"),
        ("backbone.layers.5.mixer.q_proj.weight", "full", "qkv_q"),
        ("backbone.layers.1.mixer.experts.0.up_proj.weight", None, "expert_gate_up"),
        ("backbone.layers.1.mixer.fc1_latent_proj.weight", None, "other"),
        ("mtp.fc.weight", None, "mtp"),
        ("mtp.layers.0.self_attn.q_proj.weight", None, "mtp"),
        ("model.layers.61.self_attn.q_a_proj.weight", None, "mtp"),
        ("model.visual.blocks.0.attn.qkv.weight", None, "vision"),
        ("vision_tower.vision_model.encoder.layers.99.mlp.fc1.weight", None, "vision"),
        ("model.visual.merger.linear_fc1.weight", None, "projector"),
        ("multi_modal_projector.linear_1.weight", None, "projector"),
        ("mlp1.0.weight", None, "projector"),
        ("a.name.never.seen", None, "other"),
    ],
)
def test_the_kind_of_a_tensor(name: str, attention: str | None, kind: str) -> None:
    assert model_tensors.kind_of(name, attention, 61) == kind


def test_fused_queries_are_split_by_heads() -> None:
    headers = llama_headers()
    for index in range(2):
        for one in ("q", "k", "v"):
            del headers[f"model.layers.{index}.self_attn.{one}_proj.weight"]
        headers[f"model.layers.{index}.self_attn.qkv_proj.weight"] = {"dtype": "BF16", "shape": [128, 64]}
    assert tensors(model.facts(LLAMA, headers=headers)) == tensors(model.facts(LLAMA))


@pytest.mark.parametrize(
    ("config", "dtype", "size"),
    [
        ({"torch_dtype": "float32"}, "F32", 2),
        ({"torch_dtype": None}, "F32", 2),
        ({"torch_dtype": "bfloat16"}, "BF16", 2),
        ({"torch_dtype": None}, "F16", 2),
    ],
)
def test_32_bit_models_are_loaded_in_16_bits(config: dict[str, Any], dtype: str, size: int) -> None:
    found = model.facts({**LLAMA, **config}, headers=llama_headers(dtype))
    assert tensors(found)["embedding", None] == (320 * 64 * size, 320 * 64)
    assert tensors(found)["norm", None] == (5 * 64 * size, 5 * 64)


def test_scales_are_bytes_and_no_parameters() -> None:
    headers = llama_headers()
    place = "model.layers.0.self_attn.o_proj.weight"
    headers[place] = {"dtype": "F8_E4M3", "shape": [64, 64]}
    headers[f"{place}_scale_inv"] = {"dtype": "F32", "shape": [1, 1]}
    quantized = {**LLAMA, "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}
    found = tensors(model.facts(quantized, headers=headers))
    assert found["attention_output", "full"] == (64 * 64 + 4 + 64 * 64 * 2, 2 * 64 * 64)


def test_packed_weights_count_as_what_they_hold() -> None:
    headers = llama_headers()
    for name in [name for name in headers if name.endswith("down_proj.weight")]:
        del headers[name]
        place = name.removesuffix("weight")
        headers[f"{place}qweight"] = {"dtype": "I32", "shape": [128, 8]}
        headers[f"{place}qzeros"] = {"dtype": "I32", "shape": [1, 8]}
        headers[f"{place}scales"] = {"dtype": "F16", "shape": [1, 64]}
    quantized = {**LLAMA, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}}
    found = tensors(model.facts(quantized, headers=headers))
    assert found["ffn_down", "dense"] == (2 * (128 * 8 * 4 + 8 * 4 + 64 * 2), 2 * 64 * 128)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"tie_word_embeddings": True}, "although the input table is the head; vLLM does not load it."),
        ({"architectures": ["LlamaModel"]}, "although the model only pools; vLLM does not load it."),
    ],
)
def test_a_head_that_is_not_loaded(change: dict[str, Any], sentence: str) -> None:
    found = model.facts({**LLAMA, **change}, headers=llama_headers())
    assert ("lm_head", None) not in tensors(found)
    assert [warning for warning in found["warnings"] if warning.endswith(sentence)]


def test_unknown_names_are_said() -> None:
    headers = {**llama_headers(), "mystery": {"dtype": "BF16", "shape": [100000]}}
    found = model.facts(LLAMA, headers=headers)
    assert tensors(found)["other", None] == (200000, 100000)
    assert any("names of no known kind" in warning for warning in found["warnings"])


class TestFiles:
    def test_all_shards_of_a_folder(self, tmp_path: Path) -> None:
        headers = llama_headers()
        names = sorted(headers)
        shards = {
            "model-1.safetensors": {name: headers[name] for name in names[:10]},
            "model-2.safetensors": {name: headers[name] for name in names[10:]},
        }
        found = model.read_folder(str(write_checkpoint(tmp_path / "m", LLAMA, shards)))
        assert tensors(found) == tensors(model.facts(LLAMA))
        assert found["warnings"] == []

    def test_a_header(self, tmp_path: Path) -> None:
        file = tmp_path / "model.safetensors"
        file.write_bytes(checkpoints.safetensors(llama_headers()))
        read = safetensors.read_header(file)
        assert {name: {"dtype": one["dtype"], "shape": one["shape"]} for name, one in read.items()} == llama_headers()

    @pytest.mark.parametrize(
        "content",
        [b"", b"\x00" * 8, (2).to_bytes(8, "little") + b"[]", b"\xff" * 100, (5).to_bytes(8, "little") + b"{"],
    )
    def test_no_header(self, tmp_path: Path, content: bytes) -> None:
        file = tmp_path / "model.safetensors"
        file.write_bytes(content)
        with pytest.raises(InputError) as raised:
            safetensors.read_header(file)
        assert str(raised.value) == f"{file} does not begin with a safetensors header; fetch the model again."

    @pytest.mark.parametrize(
        ("index", "size"),
        [
            ({"metadata": {"total_size": 5}}, 5),
            ({"metadata": {"total_size": 5.0}}, 5),
            ({"metadata": {}}, None),
            ({"metadata": {"total_size": "5"}}, None),
            ({}, None),
        ],
    )
    def test_total_size(self, index: dict[str, Any], size: int | None) -> None:
        assert safetensors.total_size(index) == size
