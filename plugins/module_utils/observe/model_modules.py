# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The modules of each attention and feed-forward part, from the configuration. Shapes are rows x columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_config import (
    TOO_LARGE,
    TextConfig,
    listing,
    mapping,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_parts import Part, Parts
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_traits import setting, traits

# A feed-forward part is at most some times as wide as the hidden state.
MOST_TIMES_WIDER = 1000


def _size(described: Mapping[str, Any], *names: str) -> int:
    product = 1
    for name in names:
        value = described.get(name)
        product *= value if isinstance(value, int) else 0
    return product


def attention(
    text: TextConfig, described: Mapping[str, Any], prefix: str, key: str | None, shares_kv: bool = False
) -> list[Part]:
    """List the modules of one layer's attention; ``described`` is an entry of the stack's attention.

    ``prefix`` is the layer's name with its dot. Norms inside of the attention are of the kind norm.
    """
    parts = Parts(f"{prefix}{traits(text).attention}.", key)
    kind = described["type"]
    if kind == "mla":
        _mla(parts, text, described)
    elif kind == "gdn":
        _gdn(parts, text, described)
    elif kind == "kda":
        _kda(parts, text, described)
    elif kind in ("mamba1", "mamba2"):
        _mamba(parts, text, described)
    else:
        _heads(parts, text, described, shares_kv)
    return parts.items


def _heads(parts: Parts, text: TextConfig, described: Mapping[str, Any], shares_kv: bool) -> None:
    family, hidden = traits(text), text.hidden_size
    query = _size(described, "num_heads", "head_dim")
    keys = _size(described, "num_kv_heads", "head_dim")
    values = _size(described, "num_kv_heads", "head_dim_v")
    bias = setting(text, family.qkv_bias)
    # attn_output_gate: the query projection carries a gate of its own size (models/qwen3_next.py)
    doubled = 2 if text.flag("attn_output_gate", default=text.model_type == "qwen3_next") else 1
    parts.matrix("qkv_q", "q_proj", query * doubled, hidden, bias)
    if not shares_kv:
        parts.matrix("qkv_kv", "k_proj", keys, hidden, bias)
        if not (text.flag("attention_k_eq_v") and described["type"] == "full"):
            parts.matrix("qkv_kv", "v_proj", values, hidden, bias)
    output = _size(described, "num_heads", "head_dim_v")
    parts.matrix("attention_output", "o_proj", hidden, output, setting(text, family.output_bias))
    heads = _size(described, "num_heads")
    if family.qk_norm:
        query_norm = {"head": _size(described, "head_dim"), "all": query, "each": query}[family.qk_norm]
        key_norm = {"head": _size(described, "head_dim"), "all": keys, "each": keys}[family.qk_norm]
        parts.vector("norm", "q_norm", query_norm)
        if not shares_kv:
            parts.vector("norm", "k_norm", key_norm)
    if text.model_type == "gpt_oss" or (described["type"] == "sliding" and text.flag("add_swa_attention_sink_bias")):
        parts.vector("qkv_q", "sinks", heads)
    if text.flag("use_head_wise_attn_gate") or text.model_type.startswith("step3p"):
        parts.matrix("qkv_q", "g_proj", heads, hidden)
    index_dim = _size(described, "index_head_dim")
    if index_dim:
        # MiniMax-M3 (models/minimax_m3/nvidia/model.py:430-490)
        parts.matrix("indexer", "index_q_proj", _size(described, "index_n_heads") * index_dim, hidden)
        parts.matrix("indexer", "index_k_proj", index_dim, hidden)
        parts.vector("indexer", "index_q_norm", index_dim)
        parts.vector("indexer", "index_k_norm", index_dim)


def _mla(parts: Parts, text: TextConfig, described: Mapping[str, Any]) -> None:
    """models/deepseek_v2.py; the gate of Kimi K3 is in models/kimi_k3/nvidia/mla.py."""
    hidden, heads = text.hidden_size, _size(described, "num_heads")
    nope, rope = _size(described, "qk_nope_head_dim"), _size(described, "qk_rope_head_dim")
    value, rank, query_rank = (_size(described, key) for key in ("v_head_dim", "kv_lora_rank", "q_lora_rank"))
    bias = text.flag("attention_bias")
    if query_rank:
        parts.matrix("mla_down", "q_a_proj", query_rank, hidden, bias)
        parts.vector("mla_down", "q_a_layernorm", query_rank)
        parts.matrix("mla_up", "q_b_proj", heads * (nope + rope), query_rank)
    else:
        parts.matrix("mla_up", "q_proj", heads * (nope + rope), hidden)
    parts.matrix("mla_down", "kv_a_proj_with_mqa", rank + rope, hidden, bias)
    parts.vector("mla_down", "kv_a_layernorm", rank)
    parts.matrix("mla_up", "kv_b_proj", heads * (nope + value), rank)
    parts.matrix("attention_output", "o_proj", hidden, heads * value, bias)
    if text.flag("mla_use_output_gate"):
        parts.matrix("mla_up", "g_proj", heads * value, hidden)
    index_dim, index_heads = _size(described, "index_head_dim"), _size(described, "index_n_heads")
    if index_dim:
        parts.matrix("indexer", "indexer.wq_b", index_heads * index_dim, query_rank)
        parts.matrix("indexer", "indexer.wk", index_dim, hidden)
        parts.vector("indexer", "indexer.k_norm", 2 * index_dim)
        parts.matrix("indexer", "indexer.weights_proj", index_heads, hidden, plain=True)


def _gdn(parts: Parts, text: TextConfig, described: Mapping[str, Any]) -> None:
    """Gated delta net (models/qwen3_next.py, models/qwen3_5.py)."""
    parts.prefix = parts.prefix.replace(traits(text).attention, "linear_attn")
    hidden, heads = text.hidden_size, _size(described, "num_v_heads")
    keys, values = _size(described, "num_k_heads", "head_k_dim"), _size(described, "num_v_heads", "head_v_dim")
    parts.matrix("linear_attention", "in_proj_qkv", 2 * keys + values, hidden)
    parts.matrix("linear_attention", "in_proj_z", values, hidden)
    for name in ("in_proj_b", "in_proj_a"):
        parts.matrix("linear_attention", name, heads, hidden, plain=True)
    parts.matrix("linear_attention", "conv1d", 2 * keys + values, _size(described, "conv_kernel"), plain=True)
    parts.vector("linear_attention", "dt_bias", heads)
    parts.vector("linear_attention", "A_log", heads)
    parts.vector("linear_attention_replicated", "norm", _size(described, "head_v_dim"))
    parts.matrix("linear_attention", "out_proj", hidden, values)


def _kda(parts: Parts, text: TextConfig, described: Mapping[str, Any]) -> None:
    """Kimi delta attention (models/kimi_k3/nvidia/kda.py)."""
    hidden, heads, head_dim = text.hidden_size, _size(described, "num_heads"), _size(described, "head_dim")
    size = heads * head_dim
    for name in ("q", "k", "v"):
        parts.matrix("linear_attention", f"{name}_proj", size, hidden)
        parts.matrix("linear_attention", f"{name}_conv1d", size, _size(described, "conv_kernel"), plain=True)
    parts.vector("linear_attention", "A_log", heads, dtype="float32")
    parts.matrix("linear_attention_replicated", "f_a_proj", head_dim, hidden)
    parts.matrix("linear_attention", "f_b_proj", size, head_dim)
    parts.vector("linear_attention", "dt_bias", size, dtype="float32")
    parts.matrix("linear_attention", "b_proj", heads, hidden)
    if mapping(text.own.get("linear_attn_config")).get("use_full_rank_gate"):
        parts.matrix("linear_attention", "g_proj", size, hidden)
    else:
        parts.matrix("linear_attention_replicated", "g_a_proj", head_dim, hidden)
        parts.matrix("linear_attention", "g_b_proj", size, head_dim)
    parts.vector("linear_attention_replicated", "o_norm", head_dim)
    parts.matrix("linear_attention", "o_proj", hidden, size)


def _mamba(parts: Parts, text: TextConfig, described: Mapping[str, Any]) -> None:
    """model_executor/layers/mamba/mamba_mixer2.py and mamba_mixer.py."""
    hidden, inner = text.hidden_size, _size(described, "intermediate_size")
    state, conv = _size(described, "state_size"), _size(described, "conv_kernel")
    conv_bias, bias = text.flag("use_conv_bias", default=True), text.flag("use_bias")
    if described["type"] == "mamba1":
        rank = text.number("time_step_rank", "mamba_dt_rank") or -(-hidden // 16)
        parts.matrix("mamba", "in_proj", 2 * inner, hidden, bias)
        parts.matrix("mamba", "conv1d", inner, conv, conv_bias, plain=True)
        parts.matrix("mamba", "x_proj", rank + 2 * state, inner)
        parts.matrix("mamba", "dt_proj", inner, rank, bias=True)
        parts.vector("mamba", "A_log", inner * state)
        parts.vector("mamba", "D", inner)
    else:
        heads, grouped = _size(described, "num_heads"), _size(described, "n_groups", "state_size")
        channels = inner + 2 * grouped
        parts.matrix("mamba", "in_proj", inner + channels + heads, hidden, bias)
        parts.matrix("mamba", "conv1d", channels, conv, conv_bias, plain=True)
        for name in ("A_log", "D", "dt_bias"):
            parts.vector("mamba", name, heads)
        parts.vector("mamba", "norm", inner)
    parts.matrix("mamba", "out_proj", hidden, inner, bias)


def shared_expert_size(text: TextConfig) -> int | None:
    """Intermediate size of all shared experts of a layer together, None without any."""
    total = text.number(
        "shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "share_expert_dim",
        "share_expert_dims", "shared_intermediate_size",
    )  # fmt: skip
    if total:
        return total
    if text.model_type == "llama4_text":
        return text.alias("intermediate_size")
    each, count = expert_size(text), text.alias("num_shared_experts")
    return each * count if each and count else None


def expert_size(text: TextConfig) -> int | None:
    """Intermediate size of a routed expert; the plain one where there is no key for it (Mixtral, gpt-oss)."""
    if not text.alias("num_experts"):
        return None
    return text.alias("moe_intermediate_size") or text.alias("intermediate_size")


def dense_size(text: TextConfig, index: int) -> int:
    """Intermediate size of a layer's dense feed-forward part."""
    blocks = listing(text.own.get("block_configs"))
    if index < len(blocks):
        block = mapping(mapping(blocks[index]).get("ffn"))
        multiplier = block.get("ffn_mult")
        if isinstance(multiplier, (int, float)) and 0 <= multiplier < MOST_TIMES_WIDER:
            # models/nemotron_nas.py:_ffn_mult_to_intermediate_size: a multiple of 256
            size = int(2 * multiplier * text.hidden_size / 3)
            return -(-size // 256) * 256
    sizes = listing(text.own.get("intermediate_size"))
    if index < len(sizes) and isinstance(sizes[index], int) and 0 <= sizes[index] < TOO_LARGE:
        return int(sizes[index])
    written = text.number("dense_intermediate_size", "intermediate_size_mlp") or text.alias("intermediate_size")
    if written is None and text.model_type in ("falcon", "gpt2", "bloom"):
        written = 4 * text.hidden_size
    return written or 0


def dense(text: TextConfig, size: int, prefix: str, name: str | None = None) -> list[Part]:
    """List the modules of a dense feed-forward part of ``size``."""
    family, hidden = traits(text), text.hidden_size
    parts = Parts(f"{prefix}{name or family.mlp}.", "dense")
    bias = setting(text, family.mlp_bias)
    if family.gated:
        parts.matrix("ffn_gate_up", "gate_proj", size, hidden, bias)
    parts.matrix("ffn_gate_up", "up_proj", size, hidden, bias)
    parts.matrix("ffn_down", "down_proj", hidden, size, bias)
    return parts.items


def experts(text: TextConfig, prefix: str) -> list[Part]:
    """List the modules of a layer's mixture of experts: router, routed and shared experts."""
    family, hidden = traits(text), text.hidden_size
    count, size = text.alias("num_experts") or 0, expert_size(text) or 0
    parts = Parts(prefix, "moe")
    block = family.experts.rsplit(".", 1)[0]
    bias = text.model_type == "gpt_oss"
    parts.matrix("router", f"{block}.gate", count, hidden, bias)
    if _has_routing_bias(text):
        parts.vector("router", f"{block}.e_score_correction_bias", count, dtype="float32")
    # Some models narrow the hidden state before the routed experts (Nemotron-3, Kimi K3)
    latent = text.number("moe_latent_size", "routed_expert_hidden_size")
    width = latent or hidden
    if latent:
        parts.matrix("other", f"{block}.fc1_latent_proj", latent, hidden)
        parts.matrix("other", f"{block}.fc2_latent_proj", hidden, latent)
        if text.flag("latent_moe_use_norm"):
            parts.vector("norm", f"{block}.routed_expert_norm", latent)
    gate, up, down = (f"{family.experts}.0.{name}" for name in family.expert_names)
    if family.gated:
        parts.matrix("expert_gate_up", gate, size, width, bias, count)
    parts.matrix("expert_gate_up", up, size, width, bias, count)
    parts.matrix("expert_down", down, width, size, bias, count)
    shared = shared_expert_size(text)
    if shared:
        if family.gated:
            parts.matrix("shared_expert_gate_up", f"{family.shared_expert}.gate_proj", shared, hidden)
        parts.matrix("shared_expert_gate_up", f"{family.shared_expert}.up_proj", shared, hidden)
        parts.matrix("shared_expert_down", f"{family.shared_expert}.down_proj", hidden, shared)
        if text.model_type.startswith(("qwen2_moe", "qwen3_next", "qwen3_5_moe")):
            parts.matrix("router", f"{block}.shared_expert_gate", 1, hidden)
    return parts.items


def _has_routing_bias(text: TextConfig) -> bool:
    if text.value("topk_method") == "noaux_tc" or text.flag("use_routing_bias") or text.flag("use_moe_router_bias"):
        return True
    return text.model_type in ("glm4_moe", "glm_moe_dsa", "nemotron_h", "kimi_linear", "step3p5", "step3p7")
