# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The layers of DeepSeek-V4 (models/deepseek_v4 of vLLM 0.33.0: attention.py, compressor.py, nvidia/model.py)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model_modules as modules
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_config import TextConfig
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_layers import Layer, Stack
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_parts import Part, Parts


def _attention(text: TextConfig, described: Mapping[str, Any], prefix: str, key: Any) -> list[Part]:
    hidden, head_dim = text.hidden_size, text.head_dim or 0
    heads, rank = text.alias("num_attention_heads") or 0, text.alias("q_lora_rank") or 0
    groups, output_rank = text.number("o_groups") or 1, text.number("o_lora_rank") or 0
    parts = Parts(f"{prefix}attn.", key)
    parts.matrix("mla_down", "wq_a", rank, hidden)
    parts.vector("mla_down", "q_norm", rank)
    parts.matrix("mla_up", "wq_b", heads * head_dim, rank)
    parts.matrix("mla_down", "wkv", head_dim, hidden)
    parts.vector("mla_down", "kv_norm", head_dim)
    parts.vector("mla_up", "attn_sink", heads, dtype="float32")
    parts.matrix("attention_output", "wo_a", groups * output_rank, heads * head_dim // groups)
    parts.matrix("attention_output", "wo_b", hidden, groups * output_rank)
    ratio = described.get("compress_ratio") or 1
    if ratio > 1:
        _compressor(parts, "compressor.", ratio, head_dim, hidden, "mla_down")
    if described.get("index_head_dim"):
        index_dim, index_heads = described["index_head_dim"], described.get("index_n_heads") or 0
        parts.matrix("indexer", "indexer.wq_b", index_heads * index_dim, rank)
        parts.matrix("indexer", "indexer.weights_proj", index_heads, hidden, plain=True)
        _compressor(parts, "indexer.compressor.", ratio, index_dim, hidden, "indexer")
    return parts.items


def _compressor(parts: Parts, name: str, ratio: int, head_dim: int, hidden: int, kind: str) -> None:
    """compressor.py:200-280: a ratio of 4 overlaps, so it has twice the width."""
    width = head_dim * (2 if ratio == 4 else 1)
    parts.vector(kind, f"{name}ape", ratio * width, dtype="float32")
    parts.matrix(kind, f"{name}wkv", width, hidden, plain=True)
    parts.matrix(kind, f"{name}wgate", width, hidden, plain=True)
    parts.vector(kind, f"{name}norm", head_dim)


def _streams(parts: Parts, text: TextConfig) -> None:
    """The mixing of the residual streams (nvidia/model.py:615-665), for attention and feed-forward part."""
    streams, hidden = text.number("hc_mult") or 0, text.hidden_size
    mixes = (2 + streams) * streams
    for name in ("attn", "ffn"):
        parts.vector("other", f"hc_{name}", mixes * streams * hidden + mixes + 3, dtype="float32")


def layer(text: TextConfig, stack: Stack, found: Layer, index: int, prefix: str) -> list[Part]:
    """List the modules of one layer; ``index`` counts from 0."""
    parts = Parts(prefix)
    key = found.attention
    if key is not None:
        parts.add(_attention(text, stack.attention[key], prefix, key))
    parts.add(_experts(text, index, prefix))
    parts.vector("norm", "norms", 2 * text.hidden_size)
    _streams(parts, text)
    return parts.items


def _experts(text: TextConfig, index: int, prefix: str) -> list[Part]:
    hidden, size = text.hidden_size, modules.expert_size(text) or 0
    count, shared = text.alias("num_experts") or 0, modules.shared_expert_size(text) or 0
    parts = Parts(f"{prefix}ffn.", "moe")
    parts.matrix("router", "gate", count, hidden)
    if index < (text.number("num_hash_layers") or 0):
        # the first layers look their experts up by token (nvidia/model.py:288-300)
        table = (text.alias("vocab_size") or 0) * (text.alias("num_experts_per_tok") or 0)
        parts.vector("router", "gate.tid2eid", table, dtype="int64")
    else:
        parts.vector("router", "gate.bias", count, dtype="float32")
    for name in ("w1", "w3"):
        parts.matrix("expert_gate_up", f"experts.0.{name}", size, hidden, count=count)
        parts.matrix("shared_expert_gate_up", f"shared_experts.{name}", shared, hidden)
    parts.matrix("expert_down", "experts.0.w2", hidden, size, count=count)
    parts.matrix("shared_expert_down", "shared_experts.w2", hidden, shared)
    return parts.items


def head(text: TextConfig, kind: str = "other") -> list[Part]:
    """List the mixing of the streams before the output head."""
    streams = text.number("hc_mult") or 0
    parts = Parts()
    parts.vector(kind, "hc_head", streams * streams * text.hidden_size + streams + 1, dtype="float32")
    return parts.items


def mtp_layer(text: TextConfig, stack: Stack, prefix: str) -> list[Part]:
    """List the modules of a layer for multi-token prediction (nvidia/mtp.py): a layer with a window alone."""
    hidden = text.hidden_size
    parts = Parts(prefix)
    parts.add(_attention(text, {}, prefix, None))
    parts.add(_experts(text, len(stack.layers), prefix))
    parts.vector("norm", "norms", 5 * hidden)
    _streams(parts, text)
    parts.add(head(text))
    parts.matrix("mla_down", "e_proj", hidden, hidden)
    parts.matrix("mla_down", "h_proj", hidden, hidden)
    return parts.items
