# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read a model's own files: its config.json and the sizes of its weights."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError

# The names that vLLM accepts for one and the same number, in its order
# (vllm/transformers_utils/config.py:56-81 and model_arch_config_convertor.py:79-118, 0.33.0).
ALIASES: Mapping[str, tuple[str, ...]] = {
    "num_layers": ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    "num_attention_heads": ("num_attention_heads", "n_head", "num_heads"),
    "num_kv_heads": (
        "n_head_kv",
        "num_kv_heads",
        "num_key_value_heads",
        "multi_query_group_num",
        "num_attention_groups",
    ),
    "hidden_size": ("hidden_size", "n_embd", "d_model"),
    "intermediate_size": ("intermediate_size", "n_inner", "ffn_hidden_size"),
    "moe_intermediate_size": ("moe_intermediate_size",),
    "num_experts": ("num_experts", "moe_num_experts", "n_routed_experts", "num_local_experts"),
    "vocab_size": ("vocab_size",),
    "head_dim": ("head_dim", "hidden_size_per_head"),
    "kv_lora_rank": ("kv_lora_rank",),
    "max_model_len": (
        "max_position_embeddings",
        "n_positions",
        "max_seq_len",
        "seq_length",
        "model_max_length",
    ),
}
# Where multimodal models keep the configuration of their language part.
NESTED = ("text_config", "thinker_config", "language_config", "llm_config")
# What vLLM can load, best first; the first kind that is there is the one that it reads.
WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")


def text_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the part of a config.json that describes the language model."""
    for key in NESTED:
        inner = config.get(key)
        if isinstance(inner, Mapping):
            return text_config(inner)
    return config


def _first_number(config: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _rope_scaling(text: Mapping[str, Any]) -> str | None:
    """Name the type of RoPE scaling; transformers 5 calls the setting rope_parameters."""
    rope = text.get("rope_scaling") or text.get("rope_parameters")
    kind = (rope.get("rope_type") or rope.get("type")) if isinstance(rope, Mapping) else None
    return kind if isinstance(kind, str) else None


def facts(config: Mapping[str, Any], weight_bytes: int | None) -> dict[str, Any]:
    """Describe a model by its configuration.

    ``config`` is the content of config.json, ``weight_bytes`` the size of the weight files or None when unknown.
    What the configuration does not say is None, except that absent KV heads mean as many as attention heads,
    as vLLM reads it.
    """
    text = text_config(config)
    result: dict[str, Any] = {key: _first_number(text, names) for key, names in ALIASES.items()}
    if result["num_kv_heads"] is None:
        result["num_kv_heads"] = result["num_attention_heads"]
    if result["head_dim"] is None and result["hidden_size"] and result["num_attention_heads"]:
        result["head_dim"] = result["hidden_size"] // result["num_attention_heads"]
    architectures = config.get("architectures")
    quantization = config.get("quantization_config") or text.get("quantization_config") or {}
    dtype = text.get("dtype") or text.get("torch_dtype") or config.get("dtype") or config.get("torch_dtype")
    return {
        **result,
        "architectures": architectures if isinstance(architectures, list) else [],
        "model_type": config.get("model_type"),
        "mla": bool(result["kv_lora_rank"]),
        "rope_scaling": _rope_scaling(text),
        "dtype": dtype if isinstance(dtype, str) else None,
        "quantization": quantization.get("quant_method") if isinstance(quantization, Mapping) else None,
        "weight_bytes": weight_bytes,
    }


def weight_bytes(sizes: Mapping[str, int]) -> int | None:
    """Add up the weight files that vLLM reads; ``sizes`` maps the names of a model's files to bytes.

    None when there are no weights. Mistral's ``consolidated`` files hold the same weights as the shards beside them.
    """
    for pattern in WEIGHTS:
        names = fnmatch.filter(sizes, pattern)
        shards = [name for name in names if not name.startswith("consolidated")]
        if names:
            return sum(sizes[name] for name in shards or names)
    return None


def parse_config(text: str, place: str) -> Mapping[str, Any]:
    """Read the text of a config.json; ``place`` names the file in the sentence of the :class:`InputError`."""
    try:
        config = json.loads(text)
    except ValueError as error:
        raise InputError(f"{place} is not JSON ({error}); fetch the model again.") from error
    if not isinstance(config, Mapping):
        raise InputError(f"{place} holds no JSON object; fetch the model again.")
    return config


def read_folder(folder: str) -> dict[str, Any]:
    """Describe the model in a folder of this machine.

    Raises :class:`InputError` with a sentence when the folder, its config.json or its weights are not there or cannot
    be read.
    """
    try:
        return _read_folder(Path(folder))
    except OSError as error:
        raise InputError(
            f"The model path {folder} cannot be read ({error.strerror}); correct 'model', or its permissions."
        ) from error


def _read_folder(path: Path) -> dict[str, Any]:
    folder = str(path)
    if not path.exists():
        raise InputError(f"The model path {folder} does not exist; correct 'model', or put the model there.")
    if not path.is_dir():
        raise InputError(f"The model path {folder} is not a folder; 'model' names the folder that holds config.json.")
    config_file = path / "config.json"
    if not config_file.is_file():
        raise InputError(
            f"The model path {folder} has no config.json, so it is not a model that vLLM can load; "
            "name the folder that holds config.json, the tokenizer and the weights."
        )
    config = parse_config(config_file.read_text(encoding="utf-8", errors="replace"), str(config_file))
    size = weight_bytes({file.name: file.stat().st_size for file in path.iterdir() if file.is_file()})
    if size is not None:
        return facts(config, size)
    raise InputError(
        f"The model path {folder} has a config.json and no weights ({', '.join(WEIGHTS)}); fetch the model again."
    )
