# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which layer of a model is what: its attention, its state, its feed-forward part.

The structure is that of vLLM 0.33.0's own model files (model_executor/models/*.py, models/*/).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_attention import geometry
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_config import TextConfig, listing, mapping

# hybrid_override_pattern of Nemotron-H (transformers' NemotronHConfig, vLLM models/nemotron_h.py)
NEMOTRON_PATTERN: Mapping[str, tuple[str | None, str | None]] = {
    "M": ("mamba2", None),
    "*": ("full", None),
    "-": (None, "dense"),
    "E": (None, "moe"),
}
NEMOTRON_BLOCKS: Mapping[str, tuple[str | None, str | None]] = {
    "mamba": ("mamba2", None),
    "attention": ("full", None),
    "mlp": (None, "dense"),
    "moe": (None, "moe"),
}
# layer_types of transformers, as the kinds of this module.
LAYER_TYPES: Mapping[str, str] = {
    "full_attention": "full",
    "attention": "full",
    "sliding_attention": "sliding",
    "chunked_attention": "chunked",
    "linear_attention": "linear",
    "mamba": "mamba2",
    "deepseek_sparse_attention": "mla",
    "conv": "conv",
}
# Every n-th layer of these attends to everything, the others to a window; the first layer is a sliding one.
SLIDING_PATTERN: Mapping[str, int] = {"gemma2": 2, "gemma3": 6, "gemma3_text": 6, "gemma3n_text": 5, "gemma4_text": 6,
                                      "gpt_oss": 2, "cohere2": 4}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One layer. ``attention`` is a key of the stack's attention, ``feed_forward`` "dense", "moe" or None."""

    attention: str | None
    feed_forward: str | None
    shares_kv: bool = False


@dataclass
class Stack:
    """All layers of a model; ``attention`` describes each kind of attention under its key."""

    layers: list[Layer] = field(default_factory=list)
    attention: dict[str, dict[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def runs(self) -> list[dict[str, Any]]:
        """Return the layers with equal neighbours counted together."""
        found: list[dict[str, Any]] = []
        for layer in self.layers:
            entry: dict[str, Any] = {"attention": layer.attention, "feed_forward": layer.feed_forward}
            if layer.shares_kv:
                entry["shares_kv"] = True
            if found and {key: value for key, value in found[-1].items() if key != "count"} == entry:
                found[-1]["count"] += 1
            else:
                found.append({"count": 1, **entry})
        return found


def stack(text: TextConfig) -> Stack:
    """Describe every layer of the language part; without a number of layers the stack is empty."""
    result = Stack()
    count = text.num_layers or 0
    sharing = max(0, count - (text.number("num_kv_shared_layers") or 0))
    keys: dict[str, str] = {}
    for index in range(count):
        kind, feed_forward = _kinds(text, index)
        key = None
        if kind is not None:
            described = geometry(text, kind, index)
            key = _key(keys, result.attention, described)
        result.layers.append(Layer(key, feed_forward, shares_kv=index >= sharing))
    others = sorted({str(entry.get("name")) for entry in result.attention.values() if entry["type"] == "other"})
    if others:
        result.warnings.append(
            f"Layers of the kind {', '.join(others)} are not known exactly, so their KV cache or state is an estimate."
        )
    return result


def _key(keys: dict[str, str], attention: dict[str, dict[str, Any]], described: dict[str, Any]) -> str:
    """Name a kind of attention: its type, with a number from the second of a type on."""
    identity = repr(sorted(described.items(), key=lambda item: item[0]))
    if identity not in keys:
        base = described["type"]
        same = sum(1 for entry in attention.values() if entry["type"] == base)
        keys[identity] = base if not same else f"{base}_{same + 1}"
        attention[keys[identity]] = described
    return keys[identity]


def _kinds(text: TextConfig, index: int) -> tuple[str | None, str | None]:
    pattern = text.own.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        return NEMOTRON_PATTERN.get(pattern[index] if index < len(pattern) else "", ("other", "dense"))
    if text.model_type == "nemotron_h":
        return NEMOTRON_BLOCKS.get(str(_entry(text, "layers_block_type", index)), ("other", "dense"))
    block = mapping(_entry(text, "block_configs", index))
    if block:
        return _nas_kinds(block)
    if text.model_type in ("mamba", "falcon_mamba"):
        return "mamba1", None
    if text.model_type == "mamba2":
        return "mamba2", None
    return attention_kind(text, index), _feed_forward(text, index)


def _nas_kinds(block: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Nemotron-NAS: layers may lack their attention or their feed-forward part (models/nemotron_nas.py)."""
    attention, ffn = mapping(block.get("attention")), mapping(block.get("ffn"))
    without = attention.get("no_op") or attention.get("replace_with_linear")
    return (None if without else "full"), (None if ffn.get("no_op") else "dense")


def _entry(text: TextConfig, name: str, index: int) -> Any:
    values = listing(text.own.get(name))
    return values[index] if index < len(values) else None


def attention_kind(text: TextConfig, index: int) -> str:
    """Say which kind of attention a layer has: full, sliding, chunked, mla, gdn, kda, mamba1, mamba2 or other."""
    if text.compress_ratios:
        return "compressed"
    kda = listing(mapping(text.own.get("linear_attn_config")).get("kda_layers"))
    if kda:
        # numbered from 1 (transformers_utils/configs/kimi_linear.py, is_kda_layer)
        return "kda" if index + 1 in kda else "mla"
    if text.mla:
        return "mla"
    hybrid = listing(text.own.get("hybrid_layer_pattern"))
    if hybrid:
        return "sliding" if index < len(hybrid) and hybrid[index] else "full"
    written = _entry(text, "layer_types", index) or _entry(text, "layers_block_type", index)
    if isinstance(written, str):
        return _written_kind(text, written)
    return _derived_kind(text, index)


def _written_kind(text: TextConfig, written: str) -> str:
    kind = LAYER_TYPES.get(written, "other")
    if kind == "linear":
        return "gdn" if text.number("linear_num_value_heads") else "other"
    return "full" if kind == "sliding" and _window(text) is None else kind


def _window(text: TextConfig) -> int | None:
    """The sliding window in tokens, None when it is switched off."""
    if text.value("use_sliding_window") is False:
        return None
    return text.number("sliding_window", "sliding_window_size")


def _derived_kind(text: TextConfig, index: int) -> str:
    if text.number("linear_num_value_heads"):
        return "full" if (index + 1) % (text.number("full_attention_interval") or 4) == 0 else "gdn"
    if text.model_type == "jamba":
        period, offset = text.number("attn_layer_period") or 8, text.value("attn_layer_offset", 4)
        return "full" if index % period == offset else "mamba1"
    if text.model_type in ("bamba", "granitemoehybrid"):
        return "full" if index in listing(text.own.get("attn_layer_indices")) else "mamba2"
    if text.model_type in ("falcon_h1", "zamba2", "lfm2", "lfm2_moe", "plamo2", "minimax_text_01"):
        return "other"
    if text.model_type == "llama4_text" and text.number("attention_chunk_size"):
        no_rope = listing(text.own.get("no_rope_layers"))
        uses_rope = bool(no_rope[index]) if index < len(no_rope) else (index + 1) % 4 != 0
        return "chunked" if uses_rope else "full"
    if _window(text) is None:
        return "full"
    pattern = text.number("sliding_window_pattern") or SLIDING_PATTERN.get(text.model_type)
    if pattern and text.model_type in SLIDING_PATTERN:
        last_is_full = text.model_type == "gemma4_text" and index + 1 == text.num_layers
        return "full" if (index + 1) % pattern == 0 or last_is_full else "sliding"
    if text.model_type in ("qwen2", "qwen3", "qwen2_moe", "qwen3_moe", "qwen2_5_vl", "qwen2_vl"):
        if not text.flag("use_sliding_window"):
            return "full"
        return "sliding" if index >= (text.number("max_window_layers") or 0) else "full"
    # Without a word on layers vLLM gives every layer the window (attention/layer.py: cache_config.sliding_window).
    return "sliding"


def _feed_forward(text: TextConfig, index: int) -> str:
    """Say whether a layer has experts, by the keys that the families use."""
    if not text.alias("num_experts") or text.value("enable_moe_block") is False:
        return "dense"
    written = _entry(text, "mlp_layer_types", index)
    if isinstance(written, str):
        return "moe" if written == "sparse" else "dense"
    if index in listing(text.own.get("mlp_only_layers")):
        return "dense"
    frequency = text.value("moe_layer_freq")
    if isinstance(frequency, list):
        return "moe" if index < len(frequency) and frequency[index] else "dense"
    chosen = text.own.get("moe_layers_enum")
    if isinstance(chosen, str) or listing(text.own.get("moe_layers")):
        listed = chosen.split(",") if isinstance(chosen, str) else listing(text.own.get("moe_layers"))
        return "moe" if str(index) in {str(one).strip() for one in listed} else "dense"
    if index < (text.number("first_k_dense_replace") or 0):
        return "dense"
    if text.model_type == "jamba":
        period, offset = text.number("expert_layer_period") or 2, text.value("expert_layer_offset", 1)
        return "moe" if index % period == offset else "dense"
    step = text.number("decoder_sparse_step", "interleave_moe_layer_step") or 1
    every = frequency if isinstance(frequency, int) and frequency > 0 else 1
    return "moe" if (index + 1) % step == 0 and index % every == 0 else "dense"
