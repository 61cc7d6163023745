# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What Gemma 3n and Gemma 4 have beside a usual decoder (models/gemma3n.py, models/gemma4.py of vLLM 0.33.0)."""

from __future__ import annotations

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_config import TextConfig
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_parts import Part, Parts


def _per_layer(text: TextConfig) -> int:
    return text.number("hidden_size_per_layer_input") or 0


def tables(text: TextConfig) -> list[Part]:
    """List the tables and projections outside of the layers."""
    hidden, width = text.hidden_size, _per_layer(text)
    layers = text.num_layers or 0
    parts = Parts()
    if width:
        rows = text.number("vocab_size_per_layer_input") or 0
        parts.vector("embedding", "embed_tokens_per_layer", rows * layers * width)
        parts.matrix("other", "per_layer_model_projection", layers * width, hidden)
        parts.vector("norm", "per_layer_projection_norm", width)
    if text.model_type == "gemma3n_text":
        others = (text.number("altup_num_inputs") or 1) - 1
        parts.matrix("other", "altup_projections", 2 * others * hidden, hidden)
    return parts.items


def extras(text: TextConfig, index: int, prefix: str) -> list[Part]:
    """List what a layer has beside attention, feed-forward part and the usual norms."""
    hidden, width = text.hidden_size, _per_layer(text)
    parts = Parts(prefix)
    if width:
        parts.matrix("other", "per_layer_input_gate", width, hidden)
        parts.matrix("other", "per_layer_projection", hidden, width)
        parts.vector("norm", "post_per_layer_input_norm", hidden)
    if text.model_type == "gemma3n_text":
        inputs, rank = text.number("altup_num_inputs") or 0, text.number("laurel_rank") or 0
        parts.matrix("other", "laurel", 2 * rank, hidden)
        parts.vector("norm", "laurel.post_laurel_norm", hidden)
        parts.vector("other", "altup", hidden + inputs * inputs + inputs**3 + inputs * hidden)
        parts.vector("norm", "altup.router_norm", hidden)
    else:
        parts.vector("other", "layer_scalar", 1)
        if text.alias("num_experts") and text.flag("enable_moe_block"):
            # a dense feed-forward part stands beside the experts
            size = text.alias("intermediate_size") or 0
            parts.layer = "moe"
            parts.matrix("ffn_gate_up", "mlp.gate_proj", size, hidden)
            parts.matrix("ffn_gate_up", "mlp.up_proj", size, hidden)
            parts.matrix("ffn_down", "mlp.down_proj", hidden, size)
            parts.vector("router", "router.scale", hidden)
            parts.vector("router", "router.per_expert_scale", text.alias("num_experts") or 0)
    return parts.items
