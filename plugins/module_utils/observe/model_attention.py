# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The geometry of each kind of attention: what its KV cache or its state is made of."""

from __future__ import annotations

from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_config import (
    TextConfig,
    listing,
    mapping,
    whole,
)

# What may be None in a description that is complete all the same.
OPTIONAL = frozenset({"q_lora_rank", "state_dtype"})
# Models whose layers look at a whole text at once and keep nothing of it (model_executor/models/bert.py,
# bert_with_rope.py, modernbert.py; layers/attention/encoder_only_attention.py:94-96)
ENCODERS = frozenset(
    {
        "bert", "roberta", "xlm-roberta", "modernbert", "nomic_bert", "new", "gte", "jina_bert", "bge_m3", "eurobert",
        "distilbert", "camembert", "electra", "deberta-v2", "xlm-roberta-xl", "ernie", "mpnet",
    }
)  # fmt: skip


def geometry(text: TextConfig, kind: str, index: int) -> dict[str, Any]:
    """Describe the attention of layer ``index``, of a kind that ``model_layers`` names; heads and sizes in elements.

    A description that lacks a number is of the type "other", with None for what the configuration does not say.
    """
    described = _described(text, kind, index)
    if any(value is None for key, value in described.items() if key not in OPTIONAL):
        return {**described, "type": "other", "name": text.model_type or "unknown"}
    return described


def _described(text: TextConfig, kind: str, index: int) -> dict[str, Any]:
    if kind in ("full", "sliding", "chunked"):
        return _attention(text, kind, index)
    if kind == "mla":
        return _mla(text, index)
    if kind == "gdn":
        return {
            "type": "gdn",
            "num_k_heads": text.number("linear_num_key_heads"),
            "num_v_heads": text.number("linear_num_value_heads"),
            "head_k_dim": text.number("linear_key_head_dim"),
            "head_v_dim": text.number("linear_value_head_dim"),
            "conv_kernel": text.number("linear_conv_kernel_dim"),
            "state_dtype": _state_dtype(text),
        }
    if kind == "kda":
        linear = mapping(text.own.get("linear_attn_config"))
        heads = whole(linear.get("num_heads"))
        return {
            "type": "kda",
            "num_heads": heads,
            "num_kv_heads": heads,
            "head_dim": whole(linear.get("head_dim")),
            "conv_kernel": whole(linear.get("short_conv_kernel_size")),
            # mamba_utils.py:132-142: the recurrent state is float32 unless asked for otherwise
            "state_dtype": "float32",
        }
    if kind in ("mamba1", "mamba2"):
        return _mamba(text, kind)
    if kind == "compressed":
        return _compressed(text, index)
    return {"type": "other", "name": text.model_type or "unknown", **_heads(text, index)}


def _heads(text: TextConfig, index: int, sliding: bool = False) -> dict[str, Any]:
    """Heads of one layer; families whose layers differ say so by keys of their own."""
    heads, kv_heads = text.alias("num_attention_heads"), text.num_kv_heads
    head_dim = text.head_dim
    value_dim = text.alias("v_head_dim") or head_dim
    if text.model_type == "gemma4_text" and not sliding:
        # gemma4: global layers have heads of another size, and fewer (models/gemma4.py)
        head_dim = value_dim = text.number("global_head_dim") or head_dim
        kv_heads = text.number("num_global_key_value_heads") or kv_heads
    if sliding and text.number("swa_head_dim"):
        heads = text.number("swa_num_attention_heads") or heads
        kv_heads = text.number("swa_num_key_value_heads") or kv_heads
        head_dim = text.number("swa_head_dim")
        value_dim = text.number("swa_v_head_dim") or head_dim
    if sliding and mapping(text.own.get("attention_other_setting")):
        # Step-3.5: sliding layers have their own numbers of heads (transformers' Step3p7Config)
        other = mapping(text.own["attention_other_setting"])
        heads = whole(other.get("num_attention_heads")) or heads
        kv_heads = whole(other.get("num_attention_groups")) or kv_heads
    blocks = listing(text.own.get("block_configs"))
    if index < len(blocks):
        group = whole(mapping(mapping(blocks[index]).get("attention")).get("n_heads_in_group"))
        kv_heads = heads // group if heads and group else kv_heads
    return {"num_heads": heads, "num_kv_heads": kv_heads, "head_dim": head_dim, "head_dim_v": value_dim}


def _attention(text: TextConfig, kind: str, index: int) -> dict[str, Any]:
    described: dict[str, Any] = {"type": kind, **_heads(text, index, sliding=kind == "sliding")}
    if encoder_only(text):
        return {**described, "type": "encoder"}
    if kind == "sliding":
        described["window"] = text.number("sliding_window", "sliding_window_size")
    if kind == "chunked":
        described["chunk"] = text.number("attention_chunk_size")
    sparse = mapping(text.own.get("sparse_attention_config"))
    chosen = listing(sparse.get("sparse_attention_freq"))
    if index < len(chosen) and chosen[index]:
        # MiniMax-M3 keeps one index key per token beside the KV cache (models/minimax_m3/common/indexer.py)
        described["index_head_dim"] = whole(sparse.get("sparse_index_dim"))
        described["index_n_heads"] = whole(sparse.get("sparse_num_index_heads"))
    return described


def encoder_only(text: TextConfig) -> bool:
    """Whether a model attends in both directions (llama.py:279-283, qwen2.py:256-260, qwen3.py:196-200, gemma3.py:165).

    vLLM gives Gemma 3 with ``use_bidirectional_attention`` ``is_causal`` false (models/config.py).
    """
    if text.model_type in ENCODERS or text.own.get("is_causal") is False:
        return True
    return text.own.get("use_bidirectional_attention") is True and text.model_type.startswith("gemma3")


def _mla(text: TextConfig, index: int) -> dict[str, Any]:
    described: dict[str, Any] = {
        "type": "mla",
        "num_heads": text.alias("num_attention_heads"),
        **{
            key: text.alias(key)
            for key in ("kv_lora_rank", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim", "q_lora_rank")
        },
    }
    if text.number("index_head_dim") and has_indexer(text, index):
        described["index_head_dim"] = text.number("index_head_dim")
        described["index_n_heads"] = text.number("index_n_heads")
    return described


def has_indexer(text: TextConfig, index: int) -> bool:
    """Whether a layer has an indexer of its own; GLM-5.2's "shared" layers use the one of an earlier layer."""
    kinds = listing(text.own.get("indexer_types"))
    return not (index < len(kinds) and kinds[index] == "shared")


def _state_dtype(text: TextConfig) -> str | None:
    """The dtype of the recurrent state; None means the model's (model_executor/models/config.py:817-832,956-966)."""
    written = text.value("mamba_ssm_dtype") or text.value("mamba_ssm_cache_dtype")
    if isinstance(written, str):
        return written
    return "float32" if text.model_type == "nemotron_h" else None


def _mamba(text: TextConfig, kind: str) -> dict[str, Any]:
    hidden = text.hidden_size
    expand = text.number("mamba_expand", "expand") or 2
    state = text.number("ssm_state_size", "mamba_d_state", "state_size")
    conv = text.number("conv_kernel", "mamba_d_conv")
    if kind == "mamba1":
        inner = text.number("mamba_intermediate_size") or expand * hidden
        return {"type": kind, "intermediate_size": inner or None, "state_size": state, "conv_kernel": conv,
                "state_dtype": _state_dtype(text)}  # fmt: skip
    heads = text.number("mamba_num_heads", "mamba_n_heads") or (
        text.number("num_heads") if text.model_type == "mamba2" else None
    )
    head_dim = text.number("mamba_head_dim", "mamba_d_head") or (
        text.number("head_dim") if text.model_type == "mamba2" else None
    )
    return {
        "type": kind,
        "num_heads": heads,
        "head_dim": head_dim,
        "n_groups": text.number("n_groups", "mamba_n_groups"),
        "state_size": state,
        "conv_kernel": conv,
        "intermediate_size": heads * head_dim if heads and head_dim else expand * hidden or None,
        "state_dtype": _state_dtype(text),
    }


def _compressed(text: TextConfig, index: int) -> dict[str, Any]:
    """DeepSeek-V4: a window at full resolution and one entry for every ``compress_ratio`` tokens behind it.

    models/deepseek_v4/attention.py: a ratio of 0 is a window alone, a ratio of 4 has an indexer too.
    """
    ratios = text.compress_ratios
    ratio = whole(ratios[index]) if index < len(ratios) else None
    described: dict[str, Any] = {
        "type": "compressed",
        "num_heads": text.alias("num_attention_heads"),
        "num_kv_heads": 1,
        "head_dim": text.head_dim,
        "qk_rope_head_dim": text.alias("qk_rope_head_dim"),
        "q_lora_rank": text.alias("q_lora_rank"),
        "window": text.number("sliding_window"),
        "compress_ratio": ratio or 1,
    }
    if ratio == 4:
        described["index_head_dim"] = text.number("index_head_dim")
        described["index_n_heads"] = text.number("index_n_heads")
    return described
