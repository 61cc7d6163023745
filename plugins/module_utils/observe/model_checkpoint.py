# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All modules of a checkpoint, in order: tables, layers, heads, layers for speculative decoding, vision."""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model_deepseek_v4, model_gemma
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model_modules as modules
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_config import (
    MOST_LAYERS,
    TextConfig,
    listing,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_layers import Layer, Stack
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_parts import Part, Parts
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_traits import Traits, traits
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_vision import vision

# Layers for multi-token prediction that the configuration does not speak of (config/speculative.py:821-843 of vLLM;
# Qwen3-Next's checkpoints hold one).
UNWRITTEN_MTP = {"mimo_v2_flash": 3, "qwen3_next": 1}
ENCODERS = frozenset({"bert", "roberta", "xlm-roberta"})


def checkpoint(text: TextConfig, stack: Stack, pooling: bool = False) -> list[Part]:
    """List every module that the checkpoint holds; a tied output head is not one. Empty without sizes."""
    if not stack.layers or not text.hidden_size:
        return []
    parts = Parts()
    _tables(parts, text)
    for index, layer in enumerate(stack.layers):
        parts.add(layer_parts(text, stack, layer, index, f"layers.{index}."))
    _ends(parts, text, pooling)
    parts.add(mtp(text, stack), kind="mtp")
    parts.add(vision(text))
    return parts.items


def norm_size(text: TextConfig, family: Traits) -> int:
    """Number of weights of one norm of the hidden state."""
    return text.hidden_size * (2 if family.norm_bias else 1)


def _tables(parts: Parts, text: TextConfig) -> None:
    vocabulary = text.alias("vocab_size") or 0
    parts.vector("embedding", "embed_tokens", vocabulary * text.hidden_size)
    if text.model_type in ENCODERS or text.model_type in ("gpt2", "opt"):
        positions = text.number("max_position_embeddings", "n_positions") or 0
        offset = 2 if text.model_type == "opt" else 0
        parts.vector("position_embedding", "position_embeddings", (positions + offset) * text.hidden_size)
    if text.model_type in ENCODERS:
        parts.vector("other", "token_type_embeddings", (text.number("type_vocab_size") or 0) * text.hidden_size)
        parts.vector("norm", "embeddings.LayerNorm", 2 * text.hidden_size)
    if text.model_type in ("gemma3n_text", "gemma4_text"):
        parts.add(model_gemma.tables(text))


def _ends(parts: Parts, text: TextConfig, pooling: bool) -> None:
    family = traits(text)
    if text.compress_ratios:
        parts.add(model_deepseek_v4.head(text))
    if text.model_type not in ENCODERS:
        parts.vector("norm", "norm", norm_size(text, family))
    if text.number("attn_res_block_size"):
        # Kimi K3 (models/kimi_k3/nvidia/model.py:1004-1016)
        parts.vector("norm", "output_attn_res_norm", text.hidden_size)
        parts.vector("other", "output_attn_res_proj", text.hidden_size)
    if text.model_type in ENCODERS:
        parts.matrix("other", "pooler.dense", text.hidden_size, text.hidden_size, bias=True)
    elif not text.tied and not pooling:
        parts.matrix("lm_head", "lm_head", text.alias("vocab_size") or 0, text.hidden_size, family.head_bias)


def layer_parts(text: TextConfig, stack: Stack, layer: Layer, index: int, prefix: str) -> list[Part]:
    """List the modules of one decoder layer; ``prefix`` is its name with a dot."""
    if text.compress_ratios:
        return model_deepseek_v4.layer(text, stack, layer, index, prefix)
    parts = Parts(prefix)
    family = traits(text)
    size = norm_size(text, family)
    if layer.attention is not None:
        described = stack.attention[layer.attention]
        parts.add(modules.attention(text, described, prefix, layer.attention, layer.shares_kv))
    if layer.feed_forward == "dense":
        parts.add(modules.dense(text, modules.dense_size(text, index), prefix))
    if layer.feed_forward == "moe":
        parts.add(modules.experts(text, prefix))
    if text.model_type in ("gemma3n_text", "gemma4_text"):
        parts.add(model_gemma.extras(text, index, prefix))
    parts.vector("norm", "norms", size * _norms(text, layer, family))
    if text.number("attn_res_block_size"):
        parts.vector("norm", "res_norms", 2 * text.hidden_size)
        parts.vector("other", "res_projections", 2 * text.hidden_size)
    return parts.items


def _norms(text: TextConfig, layer: Layer, family: Traits) -> int:
    if text.model_type == "nemotron_h" or text.model_type in ("mamba", "mamba2", "falcon_mamba"):
        return 1
    if listing(text.own.get("block_configs")):
        return int(layer.attention is not None) + int(layer.feed_forward is not None)
    if text.model_type == "falcon" and not text.flag("new_decoder_architecture"):
        return 1 if text.flag("parallel_attn", default=True) else 2
    if text.model_type == "gemma4_text" and layer.feed_forward == "moe":
        return 7
    return family.norms


def num_mtp_layers(text: TextConfig) -> int:
    """Number of layers for multi-token prediction in the checkpoint; vLLM loads them only for speculative decoding.

    MiniMax-M2 announces modules that its checkpoints do not hold.
    """
    if text.model_type.startswith("minimax"):
        return 0
    written = text.number("num_nextn_predict_layers", "mtp_num_hidden_layers")
    return min(written, MOST_LAYERS) if written is not None else UNWRITTEN_MTP.get(text.model_type, 0)


def mtp(text: TextConfig, stack: Stack) -> list[Part]:
    """List the modules of the layers for multi-token prediction (models/*_mtp.py)."""
    hidden = text.hidden_size
    parts = Parts()
    count = num_mtp_layers(text)
    blocks = _mtp_blocks(text, stack)
    for index in range(count):
        prefix = f"mtp.layers.{index}." if _own_stack(text) else f"layers.{len(stack.layers) + index}."
        if text.compress_ratios:
            parts.add(model_deepseek_v4.mtp_layer(text, stack, f"mtp.{index}."))
            continue
        for layer in blocks:
            parts.add(layer_parts(text, stack, layer, len(stack.layers) - 1, prefix))
        parts.matrix("mtp", f"{prefix}eh_proj", hidden, 2 * hidden)
        parts.vector("mtp", f"{prefix}norms", 3 * hidden)
        if text.model_type in ("deepseek_v3", "deepseek_v32", "kimi_k2"):
            table = (text.alias("vocab_size") or 0) * hidden
            parts.vector("mtp", f"{prefix}embed_tokens", table)
            parts.vector("mtp", f"{prefix}shared_head.head", table)
    return parts.items


def _own_stack(text: TextConfig) -> bool:
    return text.model_type.startswith(("qwen3", "nemotron_h", "mimo"))


def _mtp_blocks(text: TextConfig, stack: Stack) -> list[Layer]:
    """The decoder layers of one step: like the last layer with attention, or as the family has it."""
    if text.model_type == "nemotron_h":
        return [Layer(_last(stack, "full"), None), Layer(None, "moe")]
    if text.model_type == "mimo_v2_flash":
        # models/mimo_v2_mtp.py: a window, and no experts
        return [Layer(_last(stack, "sliding"), "dense")]
    if text.model_type.startswith("step3p"):
        return [Layer(_last(stack, "full"), "dense")]
    return [Layer(_last(stack, "full", "mla"), stack.layers[-1].feed_forward)]


def _last(stack: Stack, *types: str) -> str | None:
    """The key of the last layer with one of the types of attention, one with an indexer before one without."""
    keys = [layer.attention for layer in stack.layers if layer.attention is not None]
    fitting = [key for key in keys if stack.attention[key]["type"] in types]
    indexed = [key for key in fitting if stack.attention[key].get("index_head_dim")]
    found = indexed or fitting or keys
    return found[-1] if found else None
