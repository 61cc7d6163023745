# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Mistral's own configuration (params.json) in the words of a config.json, as vLLM 0.33.0 puts it.

transformers_utils/configs/mistral.py of vLLM, which reads the file when a model has no config.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_config import mapping, whole

FILE = "params.json"
_GENERAL: Mapping[str, str] = {
    "dim": "hidden_size",
    "norm_eps": "rms_norm_eps",
    "n_kv_heads": "num_key_value_heads",
    "n_layers": "num_hidden_layers",
    "n_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
    "tied_embeddings": "tie_word_embeddings",
}
_EXPERTS: Mapping[str, str] = {
    "route_every_n": "moe_layer_freq",
    "first_k_dense_replace": "first_k_dense_replace",
    "num_experts_per_tok": "num_experts_per_tok",
    "num_experts": "n_routed_experts",
    "expert_hidden_dim": "moe_intermediate_size",
    "num_shared_experts": "n_shared_experts",
}
_VISION: Mapping[str, str] = {
    "num_hidden_layers": "num_hidden_layers",
    "num_attention_heads": "num_attention_heads",
    "hidden_size": "hidden_size",
    "intermediate_size": "intermediate_size",
    "patch_size": "patch_size",
    "image_size": "image_size",
}
# What vLLM takes when the file says nothing (configs/mistral.py:_remap_general_mistral_args)
_LENGTH = 128_000


def is_params(config: Mapping[str, Any]) -> bool:
    """Tell whether a JSON object is a params.json of Mistral."""
    return "dim" in config and "n_layers" in config and "num_hidden_layers" not in config


def adapted(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a params.json as the config.json that it stands for."""
    made = {_GENERAL.get(key, key): value for key, value in config.items()}
    made.setdefault("max_position_embeddings", _LENGTH)
    experts = mapping(made.pop("moe", None))
    shared = bool(experts.get("num_shared_experts"))
    made["model_type"], made["architectures"] = _family(bool(experts), shared or bool(made.get("qk_nope_head_dim")))
    if shared:
        made.update({name: experts[key] for key, name in _EXPERTS.items() if key in experts})
    elif experts:
        made["num_local_experts"] = experts.get("num_experts")
        made["num_experts_per_tok"] = experts.get("num_experts_per_tok")
    _sliding_window(made)
    made.update(_quantization(mapping(made.pop("quantization", None))))
    if mapping(made.get("yarn")):
        made["rope_parameters"] = {"rope_type": "yarn", "factor": mapping(made.pop("yarn")).get("factor")}
    vision = mapping(mapping(made.pop("multimodal", None)).get("vision_encoder_args")) or mapping(
        made.pop("vision_encoder", None)
    )
    return _with_vision(made, vision) if vision else made


def _family(experts: bool, latent: bool) -> tuple[str, list[str]]:
    if experts and not latent:
        return "mixtral", ["MixtralForCausalLM"]
    return ("deepseek_v3", ["MistralLarge3ForCausalLM"]) if latent else ("mistral", ["MistralForCausalLM"])


def _sliding_window(made: dict[str, Any]) -> None:
    """A list has the window of each layer of a pattern, None for full attention."""
    window = made.get("sliding_window")
    if isinstance(window, list) and window:
        repeats = (whole(made.get("num_hidden_layers")) or 0) // len(window)
        made["layer_types"] = ["full_attention" if one is None else "sliding_attention" for one in window] * repeats
        made["sliding_window"] = next((one for one in window if one), None)


def _quantization(written: Mapping[str, Any]) -> dict[str, Any]:
    if written.get("qformat_weight") == "fp8_e4m3":
        dynamic = written.get("qscheme_act") == "NO_SCALES"
        return {"quantization_config": {"quant_method": "fp8", "activation_scheme": "dynamic" if dynamic else "static"}}
    if str(written.get("quant_method", "")).lower().replace("_", "-") == "compressed-tensors":
        return {"quantization_config": {**written, "quant_method": "compressed-tensors"}}
    return {}


def _with_vision(text: dict[str, Any], vision: Mapping[str, Any]) -> dict[str, Any]:
    quantization = {key: text.pop(key) for key in ("quantization_config",) if key in text}
    return {
        "model_type": "mistral3",
        "architectures": ["PixtralForConditionalGeneration"],
        "text_config": text,
        "vision_config": {name: vision[key] for key, name in _VISION.items() if key in vision},
        **quantization,
    }
