# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How the layers of a family differ from Llama's: biases, norms, names. Read from vLLM 0.33.0's model files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_config import TextConfig


@dataclass(frozen=True)
class Traits:
    """What a family's layers are made of.

    ``norms`` is the number of norms per layer with attention and feed-forward part; ``norm_bias`` whether norms have a
    bias; ``qkv_bias``, ``output_bias``, ``mlp_bias`` and ``head_bias`` are False or True, or the name of the setting
    that says it; ``gated`` whether the feed-forward part has a gate; ``qk_norm`` "head" (one size for all heads),
    "all" or "each" (one per head) or None; ``attention``, ``mlp``, ``experts`` and ``shared_expert`` are the names of
    the modules, ``expert_names`` those of an expert's gate, up and down projection.
    """

    norms: int = 2
    norm_bias: bool = False
    qkv_bias: object = "attention_bias"
    output_bias: object = "attention_bias"
    mlp_bias: object = False
    head_bias: bool = False
    gated: bool = True
    qk_norm: str | None = None
    attention: str = "self_attn"
    mlp: str = "mlp"
    experts: str = "mlp.experts"
    shared_expert: str = "mlp.shared_experts"
    expert_names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")


_W = ("w1", "w3", "w2")
_QWEN2 = Traits(qkv_bias=True, output_bias=False)
_QWEN3 = Traits(qk_norm="head")
_QWEN_MOE = Traits(qk_norm="head", shared_expert="mlp.shared_expert")
_GEMMA = Traits(norms=2)
_GEMMA3 = Traits(norms=4, qk_norm="head")
_ENCODER = Traits(qkv_bias=True, output_bias=True, mlp_bias=True, norm_bias=True, gated=False, attention="attention")
_NEMOTRON = Traits(gated=False, mlp_bias="mlp_bias", attention="mixer", mlp="mixer", experts="mixer.experts",
                   shared_expert="mixer.shared_experts")  # fmt: skip

FAMILIES: Mapping[str, Traits] = {
    "llama": Traits(mlp_bias="mlp_bias"),
    "granite": Traits(mlp_bias="mlp_bias"),
    "qwen2": _QWEN2,
    "qwen2_vl": _QWEN2,
    "qwen2_vl_text": _QWEN2,
    "qwen2_5_vl": _QWEN2,
    "qwen2_5_vl_text": _QWEN2,
    "qwen2_moe": Traits(qkv_bias=True, output_bias=False, shared_expert="mlp.shared_expert"),
    "qwen3": _QWEN3,
    "qwen3_vl_text": _QWEN3,
    "qwen3_moe": _QWEN_MOE,
    "qwen3_vl_moe_text": _QWEN_MOE,
    "qwen3_next": _QWEN_MOE,
    "qwen3_5_text": _QWEN_MOE,
    "qwen3_5_moe_text": _QWEN_MOE,
    "gemma": _GEMMA,
    "gemma2": Traits(norms=4),
    "gemma3": _GEMMA3,
    "gemma3_text": _GEMMA3,
    "gemma3n_text": _GEMMA3,
    "gemma4_text": Traits(norms=4, qk_norm="head", experts="experts"),
    "phi": Traits(norms=1, norm_bias=True, qkv_bias=True, output_bias=True, mlp_bias=True, head_bias=True, gated=False),
    "falcon": Traits(
        norm_bias=True, qkv_bias="bias", output_bias="bias", mlp_bias="bias", gated=False, attention="self_attention"
    ),
    "starcoder2": Traits(norm_bias=True, qkv_bias="use_bias", output_bias="use_bias", mlp_bias="use_bias", gated=False),
    "olmo2": Traits(qk_norm="all"),
    "cohere": Traits(norms=1, qk_norm="each"),
    "cohere2": Traits(norms=1),
    "chatglm": Traits(qkv_bias="add_qkv_bias", output_bias="add_bias_linear", mlp_bias="add_bias_linear"),
    "glm4": Traits(norms=4, output_bias=False),
    "glm4_moe": Traits(output_bias=False),
    "mimo": Traits(output_bias=False),
    "mixtral": Traits(experts="block_sparse_moe.experts", expert_names=_W),
    "minimax_m2": Traits(qk_norm="all", experts="block_sparse_moe.experts", expert_names=_W),
    "minimax_m3": Traits(
        qk_norm="head",
        experts="block_sparse_moe.experts",
        shared_expert="block_sparse_moe.shared_experts",
        expert_names=_W,
    ),
    "minimax_m3_vl": Traits(
        qk_norm="head",
        experts="block_sparse_moe.experts",
        shared_expert="block_sparse_moe.shared_experts",
        expert_names=_W,
    ),
    "llama4_text": Traits(
        mlp="feed_forward", experts="feed_forward.experts", shared_expert="feed_forward.shared_expert"
    ),
    "kimi_linear": Traits(
        experts="block_sparse_moe.experts", shared_expert="block_sparse_moe.shared_experts", expert_names=_W
    ),
    "step3p5": Traits(qk_norm="head", experts="moe", shared_expert="share_expert"),
    "step3p7": Traits(qk_norm="head", experts="moe", shared_expert="share_expert"),
    "gpt2": _ENCODER,
    "opt": _ENCODER,
    "bert": _ENCODER,
    "roberta": _ENCODER,
    "xlm-roberta": _ENCODER,
    "nemotron_h": _NEMOTRON,
    "dbrx": Traits(experts="ffn.experts"),
    "exaone4": Traits(qk_norm="head"),
}

# Families whose layers are Llama's in all that counts here, or are made elsewhere.
_LIKE_LLAMA = frozenset(
    {
        "mistral", "phi3", "deepseek_v2", "deepseek_v3", "deepseek_v32", "deepseek_v4", "kimi_k2", "glm_moe_dsa",
        "glm4_moe_lite", "gpt_oss", "nemotron-nas", "mimo_v2_flash", "mamba", "mamba2", "falcon_mamba", "glm",
        "qwen3_vl_moe_text", "ministral", "mistral4", "exaone", "yi", "internlm3", "aquila",
    }
)  # fmt: skip

# Families with a switch for their norms of queries and keys, and where it stands when it is not written.
_QK_NORM_DEFAULT: Mapping[str, bool] = {"cohere": False, "minimax_m2": True, "minimax_m3": True, "minimax_m3_vl": True}


def known(text: TextConfig) -> bool:
    """Whether the layers of a model are computed from its own family's structure."""
    return text.model_type in FAMILIES or text.model_type in _LIKE_LLAMA or bool(text.compress_ratios)


def traits(text: TextConfig) -> Traits:
    """Return the traits of a model's family; Llama's for one that is not known."""
    found = FAMILIES.get(text.model_type, FAMILIES["llama"])
    if text.model_type == "glm4_moe":
        return replace(found, qk_norm="head" if text.flag("use_qk_norm") else None)
    if text.model_type in _QK_NORM_DEFAULT and not text.flag("use_qk_norm", _QK_NORM_DEFAULT[text.model_type]):
        return replace(found, qk_norm=None)
    return found


def setting(text: TextConfig, value: object) -> bool:
    """Resolve a trait that is a boolean or the name of a setting."""
    return text.flag(value) if isinstance(value, str) else bool(value)
