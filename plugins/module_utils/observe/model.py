# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read a model's own files: its config.json, the headers and the sizes of its weights."""

from __future__ import annotations

import contextlib
import fnmatch
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import (
    model_mistral,
    model_quantization,
    model_runner,
    model_vision,
    model_weights,
    safetensors,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model_modules as modules
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_checkpoint import checkpoint, num_mtp_layers
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_config import ALIASES, TextConfig
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_layers import Stack, stack
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_parts import Part
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_traits import known

# A model of an unknown type is understood after all when what is computed is this close to its files.
KNOWN_BY_SIZE = 0.01
# What vLLM can load, best first; the first kind that is there is the one that it reads.
WEIGHTS = ("*.safetensors", "*.bin", "*.pt", "*.gguf")
# Levels of a configuration at most; real ones have fewer than 10.
DEEPEST = 50
SURROGATE = re.compile(r"[\ud800-\udfff]")
# Names of small files beside config.json that are read too.
FILES = (*model_quantization.FILES, *model_runner.FILES)


def facts(
    config: Mapping[str, Any],
    weight_bytes: int | None = None,
    headers: safetensors.Headers | None = None,
    quantization_files: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Describe a model by its configuration.

    ``config`` is the content of config.json; ``weight_bytes`` the size of the weight files or None when unknown;
    ``headers`` maps the names of all tensors to ``{"dtype", "shape"}`` (then the bytes of each kind are exact);
    ``quantization_files`` maps names of ``FILES`` to their content. What is not known is None, except
    that absent KV heads mean as many as attention heads, as vLLM reads it.
    """
    files = quantization_files or {}
    text = TextConfig(config)
    layers = stack(text)
    quantization = model_quantization.read(config, text, files)
    pooling = model_runner.runner(text, files) == "pooling"
    parts = checkpoint(text, layers, pooling)
    warnings = list(layers.warnings)
    return {
        **_numbers(text),
        "max_model_len": model_runner.longest(text, files),
        "layers": layers.runs(),
        "attention": layers.attention,
        "vision": model_vision.summary(text),
        **model_runner.facts(text, files),
        "quantization": quantization.method if quantization else None,
        "quantization_config": quantization.public(parts) if quantization else None,
        "weight_bytes": weight_bytes,
        "weights": _weights(text, layers, parts, quantization, weight_bytes, headers, pooling, warnings),
        "warnings": warnings,
    }


def _numbers(text: TextConfig) -> dict[str, Any]:
    result: dict[str, Any] = {key: text.alias(key) for key in ALIASES}
    mla = text.mla
    return {
        **result,
        "num_layers": text.num_layers,
        "num_kv_heads": text.num_kv_heads,
        # with MLA the size of a cached entry, as vLLM's get_head_size (model_arch_config_convertor.py:79-118)
        "head_dim": _latent(text) if mla else text.head_dim,
        "head_dim_v": text.alias("v_head_dim") or text.head_dim,
        "architectures": text.architectures,
        "model_type": text.root_type or None,
        "mla": mla,
        "default_max_model_len": text.default_length(),
        "rope_scaling": text.rope_scaling,
        "dtype": text.dtype,
        "moe_intermediate_size": modules.expert_size(text),
        "shared_expert_intermediate_size": modules.shared_expert_size(text) if text.alias("num_experts") else None,
        "tie_word_embeddings": text.tied,
        "index_head_dim": text.number("index_head_dim"),
        "index_n_heads": text.number("index_n_heads"),
        "num_mtp_layers": num_mtp_layers(text),
        "is_moe": bool(text.alias("num_experts")),
    }


def _latent(text: TextConfig) -> int | None:
    rank, rope = text.alias("kv_lora_rank"), text.alias("qk_rope_head_dim")
    return rank + rope if rank and rope else text.head_dim


def _weights(
    text: TextConfig,
    layers: Stack,
    parts: list[Part],
    quantization: model_quantization.Quantization | None,
    weight_bytes: int | None,
    headers: safetensors.Headers | None,
    pooling: bool,
    warnings: list[str],
) -> dict[str, Any] | None:
    """Return the fact ``weights``, None when neither headers nor sizes say anything; adds to ``warnings``."""
    if headers:
        entries, found = safetensors.entries(headers, text, layers, quantization, pooling)
        warnings += found
        return model_weights.fact("headers", True, entries)
    if not parts:
        return None
    if not model_vision.known(text):
        warnings.append(
            f"The vision tower of {text.root_type or 'this model'} is computed as a plain transformer of its size."
        )
    dtype = text.dtype
    if dtype is None:
        dtype = model_weights.likely_dtype(parts, quantization, weight_bytes)
        warnings.append(f"The configuration names no dtype; {dtype} is assumed for each unquantized weight.")
    entries = model_weights.computed(parts, quantization, dtype)
    whole = sum(entry.file_bytes for entry in entries)
    if not known(text) and (weight_bytes is None or abs(whole / weight_bytes - 1) > KNOWN_BY_SIZE):
        warnings.append(
            f"The model type {text.model_type or 'of this model'} is not one that is read exactly; its weights are "
            "computed as those of a Llama with the same sizes."
        )
    if weight_bytes is None:
        return model_weights.fact("computed", False, entries)
    table = next((entry.file_bytes for entry in entries if entry.kind == "embedding"), 0) if text.tied else 0
    entries, found = model_weights.fitted(entries, weight_bytes, table)
    warnings += found
    return model_weights.fact("stated", False, entries, computed_bytes=whole)


def weight_bytes(sizes: Mapping[str, int]) -> int | None:
    """Add up the weight files that vLLM reads; ``sizes`` maps the names of a model's files to bytes.

    None when there are no weights. Mistral's ``consolidated`` files hold the same weights as the shards beside them.
    """
    names = weight_files(sizes)
    return sum(sizes[name] for name in names) if names else None


def weight_files(names: Mapping[str, int]) -> list[str]:
    """List the weight files that vLLM reads, of the first kind of ``WEIGHTS`` that is there."""
    for pattern in WEIGHTS:
        found = fnmatch.filter(names, pattern)
        if found:
            return [name for name in found if not name.startswith("consolidated")] or found
    return []


def parse_config(text: str, place: str) -> Mapping[str, Any]:
    """Read the text of a config.json; ``place`` names the file in the sentence of the :class:`InputError`."""
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place} is not JSON ({error}); fetch the model again.") from error
    if not isinstance(config, Mapping):
        raise InputError(f"{place} holds no JSON object; fetch the model again.")
    odd = _odd(config)
    if odd:
        raise InputError(f"{place} holds {odd}; fetch the model again.")
    return config


def _odd(config: Any) -> str | None:
    """What a configuration holds that no model has, and that ends what reads or writes it later; None if nothing."""
    level = [config]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += [*value, *value.values()]
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, str) and SURROGATE.search(value):
                return "a character that is none (U+D800 to U+DFFF)"
        if not inner:
            return None
        level = inner
    return f"more than {DEEPEST} levels"


# Other JSON files of a model, and what to name in their place.
NOT_A_MODEL: Mapping[str, str] = {
    "peft_type": "that of a LoRA adapter; name its base model, and the adapter in extra_args.lora-modules",
    "weight_map": "the index of its weights; name config.json in 'model_config', and the index in 'weights_index'",
    "_from_model_config": "that of how text is generated; name the model's config.json",
    "do_sample": "that of how text is generated; name the model's config.json",
    "tokenizer_class": "that of a tokenizer; name the model's config.json",
    "image_processor_type": "that of an image processor; name the model's config.json",
}


def model_config(text: str, place: str) -> Mapping[str, Any]:
    """Read the text of a config.json, or of Mistral's params.json; ``place`` names it in the sentence of an error.

    Raises :class:`InputError` for JSON that describes no model.
    """
    config = parse_config(text, place)
    if model_mistral.is_params(config):
        return model_mistral.adapted(config)
    found = TextConfig(config)
    if found.num_layers or (found.hidden_size and found.alias("num_attention_heads")):
        return config
    for key, what in NOT_A_MODEL.items():
        if key in config and "architectures" not in config:
            raise InputError(f"{place} is no model configuration but {what}.")
    raise InputError(
        f"{place} is no model configuration: it says neither how many layers there are (num_hidden_layers) nor how "
        "wide they are (hidden_size); name the model's config.json."
    )


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
    if not config_file.is_file() and (path / model_mistral.FILE).is_file():
        config_file = path / model_mistral.FILE
    if not config_file.is_file():
        raise InputError(
            f"The model path {folder} has no config.json, so it is not a model that vLLM can load; "
            "name the folder that holds config.json, the tokenizer and the weights."
        )
    config = model_config(config_file.read_text(encoding="utf-8", errors="replace"), str(config_file))
    sizes = {file.name: file.stat().st_size for file in path.iterdir() if file.is_file()}
    names = weight_files(sizes)
    if not names:
        raise InputError(
            f"The model path {folder} has a config.json and no weights ({', '.join(WEIGHTS)}); fetch the model again."
        )
    # Mistral's own names of tensors are others
    headers, warnings = _headers(path, names) if config_file.name != model_mistral.FILE else (None, [])
    found = facts(config, weight_bytes(sizes), headers, beside(path))
    return {**found, "warnings": warnings + notes(names) + found["warnings"]}


def _headers(path: Path, names: list[str]) -> tuple[dict[str, dict[str, Any]] | None, list[str]]:
    """Read the headers of the weight files; None when they are of another kind or one cannot be read."""
    headers: dict[str, dict[str, Any]] = {}
    try:
        for name in names:
            if not name.endswith(".safetensors"):
                return None, []
            headers.update(safetensors.read_header(path / name))
    except InputError as error:
        return None, [f"{error} The bytes of each kind of weight are computed from config.json instead."]
    return headers, []


def beside(path: Path) -> dict[str, Any]:
    """Read the small files of a folder that say more about the model.

    Raises :class:`InputError` for a quantization file that is not JSON; other files that are not are left out.
    """
    found: dict[str, Any] = {}
    for name in FILES:
        file = path / name
        if file.is_file():
            found.update(small_file(name, file.read_text(encoding="utf-8", errors="replace"), str(file)))
    return found


def needed(name: str, config: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    """Whether one of ``FILES`` can change what is said of a model; ``known`` is what was read of them before."""
    text = TextConfig(config)
    if name in model_quantization.FILES:
        return not model_quantization.raw_config(config, text, known)
    if name == "modules.json":
        return True
    return model_runner.runner(text, known) == "pooling"


def small_file(name: str, text: str, place: str) -> dict[str, Any]:
    """Read the text of one of ``FILES``, as {name: content}; ``place`` names it in the sentence of an InputError."""
    if name in model_quantization.FILES:
        return {name: parse_config(text, place)}
    with contextlib.suppress(ValueError, RecursionError):
        return {name: json.loads(text)}
    return {}


def notes(names: list[str]) -> list[str]:
    """Say what stands against a kind of weight files."""
    if names and names[0].endswith((".bin", ".pt")):
        return [
            "The weights are pickles (*.bin, *.pt), which can run code when they are loaded; prefer a model with "
            "*.safetensors, or convert it."
        ]
    if names and names[0].endswith(".gguf"):
        return ["The weights are GGUF, which vLLM 0.33 reads only with the plugin vllm-gguf-plugin."]
    return []
