# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The kind of each tensor of a checkpoint, by its name."""

from __future__ import annotations

import re
from collections.abc import Sequence

# Asked in order; the first that is found in the name decides. Names are those of the checkpoints that vLLM 0.33.0
# reads (the load_weights and packed_modules_mapping of its models).
_OUTSIDE: Sequence[tuple[str, str]] = (
    (r"^(mtp|mtp_layers|model\.mtp\w*)\.", "mtp"),
    (
        r"multi_modal_projector|mm_projector|mm_input_projection|\bmerger|deepstack_merger|embed_vision|embed_audio|"
        r"patch_merge_mlp|vit_large_projector|^(\w+\.)*(mlp1|projector|connector)\.",
        "projector",
    ),
    (r"\b(visual|vision_\w+|vit|image_newline|audio_\w+|img_\w+|vpm|resampler)\b", "vision"),
)
_ANYWHERE: Sequence[tuple[str, str]] = (
    (r"(wpe|position_embeddings|embed_positions)\.weight$", "position_embedding"),
    (
        r"token_type_embeddings|pooler\.|classifier\.|\bscore\.|altup|laurel|per_layer_(model|input|proj)|"
        r"layer_scalar|\bhc_|_latent_proj|routed_expert_(down|up)_proj|_res_proj",
        "other",
    ),
    (
        r"(embed_tokens_per_layer|embed_tokens|word_embeddings|wte|tok_embeddings|embed_in|\bembed|embedding|"
        r"embeddings)\.weight$",
        "embedding",
    ),
    (r"^(?:\w+\.)*(lm_head|embed_out|output_layer)\.|^(output|head)\.", "lm_head"),
    (r"\.(shared_experts?|share_expert|shared_mlp)\.(\w+\.)*(down_proj|w2|fc2|output_linear)\b", "shared_expert_down"),
    (r"\.(shared_experts?|share_expert|shared_mlp)\.", "shared_expert_gate_up"),
    (r"shared_expert_gate", "router"),
    (r"\.experts\..*(down_proj|w2|fc2|linear_2)|\.moe\.down_proj|\.output_linear\b", "expert_down"),
    (r"\.experts\.|\.moe\.(gate|up)_proj|\.input_linear\b", "expert_gate_up"),
    (r"\.(gate|router|router_bias)(\.|$)|tid2eid|e_score_correction_bias", "router"),
    (r"\.indexer\.|\.index_[qk]_", "indexer"),
)
_MLA: Sequence[tuple[str, str]] = (
    (r"\.(q_a_proj|kv_a_proj_with_mqa|kv_a_proj|fused_qkv_a_proj|q_a_layernorm|kv_a_layernorm|wq_a|wkv|kv_norm|"
     r"compressor)\b", "mla_down"),
    (r"\.attn\.q_norm\b", "mla_down"),
    (r"\.(q_b_proj|kv_b_proj|q_proj|wq_b|attn_sink|g_proj)\b", "mla_up"),
    (r"\.(o_proj|wo_a|wo_b)\b", "attention_output"),
)  # fmt: skip
_LINEAR: Sequence[tuple[str, str]] = (
    (r"\.(f_a_proj|g_a_proj|o_norm)\b", "linear_attention_replicated"),
    (r"linear_attn\.norm", "linear_attention_replicated"),
    (r"linear_attn\.|self_attn\.", "linear_attention"),
)
_MAMBA: Sequence[tuple[str, str]] = ((r"\.(mixer|mamba)\.", "mamba"),)
_USUAL: Sequence[tuple[str, str]] = (
    (r"\.(qkv_proj|query_key_value|Wqkv|W_pack|c_attn|wqkv|qkv)\b", "qkv"),
    (r"(norm\w*|\bln_\w+|LayerNorm)(\.(weight|bias))?$", "norm"),
    (r"(attn|attention|mixer)\.(\w+\.)*(q_proj|query|wq|sinks|g_proj)\b", "qkv_q"),
    (r"(attn|attention|mixer)\.(\w+\.)*(k_proj|v_proj|key|value|wk|wv)\b", "qkv_kv"),
    (r"(attn|attention|mixer)\.(\w+\.)*(o_proj|out_proj|dense|wo|c_proj)\b", "attention_output"),
    (r"\.(gate_proj|up_proj|gate_up_proj|w1|w3|fc1|fc_in|c_fc|dense_h_to_4h|intermediate\.dense)\b", "ffn_gate_up"),
    (r"\.(down_proj|w2|fc2|fc_out|c_proj|dense_4h_to_h|output\.dense)\b", "ffn_down"),
)
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|layer)\.(\d+)\.")
# Names that end so hold no weights of their own: scales, zero points, orders, shapes.
_SCALE = re.compile(
    r"(scale|scale_inv|scale_2|scales|zeros|qzeros|zero_point|g_idx|weight_shape|absmax|quant_map|quant_state\S*|"
    r"global_scale|amax)$"
)


def layer_index(name: str) -> int | None:
    """Return the number of the layer that a tensor is in, None outside of the layers."""
    found = _LAYER.search(name)
    return int(found[1]) if found else None


def is_scale(name: str) -> bool:
    """Whether a tensor belongs to the quantization of another one."""
    return bool(_SCALE.search(name.replace("_scales", "_scale")))


def kind_of(name: str, attention_type: str | None, num_layers: int) -> str:
    """Return the kind of a tensor, "qkv" for one that holds queries, keys and values, "other" for an unknown name.

    ``attention_type`` is the type of the attention of its layer ("mla" for DeepSeek-V4 too); layers from
    ``num_layers`` on are for multi-token prediction.
    """
    index = layer_index(name)
    for expression, kind in _OUTSIDE:
        if re.search(expression, name):
            return kind
    if index is not None and index >= num_layers > 0:
        return "mtp"
    tables = [_ANYWHERE]
    if attention_type == "mla":
        tables.append(_MLA)
    if attention_type in ("gdn", "kda"):
        tables.append(_LINEAR)
    if attention_type in ("mamba1", "mamba2"):
        tables.append(_MAMBA)
    for expression, kind in (rule for table in [*tables, _USUAL] for rule in table):
        if re.search(expression, name):
            return kind
    return "other"
