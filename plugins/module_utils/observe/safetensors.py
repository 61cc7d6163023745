# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The headers of safetensors files: exact types and shapes of all weights, without the weights.

A file begins with eight bytes, little endian, the length of a JSON object that maps names to dtype, shape and offsets
(https://huggingface.co/docs/safetensors, "Format").
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_config import TextConfig, mapping, whole
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_layers import Stack
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_quantization import Quantization
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_schemes import ELEMENT_BYTES
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_tensors import (
    is_scale,
    kind_of,
    layer_index,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_weights import (
    LOADED_ELEMENT_BYTES,
    Entry,
    layer_of,
)

# Longer headers are refused by the format itself.
LONGEST_HEADER = 100_000_000
INDEX = "model.safetensors.index.json"

# Name of a tensor -> {"dtype": "BF16", "shape": [rows, columns]}
Headers = Mapping[str, Mapping[str, Any]]


def read_header(file: Path) -> dict[str, dict[str, Any]]:
    """Read the header of one file. Raises :class:`InputError` when it is none; OSError when it cannot be read."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        text = stream.read(length) if 2 <= length <= LONGEST_HEADER else b""
    try:
        header = json.loads(text)
    except ValueError:
        header = None
    if not isinstance(header, dict):
        raise InputError(f"{file} does not begin with a safetensors header; fetch the model again.")
    return {name: value for name, value in header.items() if name != "__metadata__" and isinstance(value, dict)}


def total_size(index: Mapping[str, Any]) -> int | None:
    """Return the bytes of all tensors that a model.safetensors.index.json states, None when it states none."""
    return whole(mapping(index.get("metadata")).get("total_size"))


def entries(
    headers: Headers, text: TextConfig, stack: Stack, quantization: Quantization | None
) -> tuple[list[Entry], list[str]]:
    """Add up the tensors of a checkpoint by kind and layer; returns the entries and sentences of what was found."""
    found: dict[tuple[str, str | None], Entry] = {}
    warnings: list[str] = []
    narrow = (text.dtype or "float32").lower() in ("float32", "float", "float64")
    for name, header in headers.items():
        _add(found, name, header, text, stack, quantization, narrow)
    head = found.pop(("lm_head", None), None) if text.tied else None
    if head is not None:
        warnings.append(
            f"The files hold an output head of {head.file_bytes / 1024**3:.2f} GiB although the input table is the "
            "head; vLLM does not load it."
        )
    unknown = found.get(("other", None))
    whole_size = sum(entry.loaded for entry in found.values())
    if unknown is not None and unknown.loaded > whole_size * 0.05:
        warnings.append(
            f"{unknown.loaded / whole_size:.0%} of the weights have names of no known kind; they are taken to be on "
            "every rank in full."
        )
    return list(found.values()), warnings


def _add(
    found: dict[tuple[str, str | None], Entry],
    name: str,
    header: Mapping[str, Any],
    text: TextConfig,
    stack: Stack,
    quantization: Quantization | None,
    narrow: bool,
) -> None:
    elements = 1
    shape = header.get("shape")
    for side in shape if isinstance(shape, (list, tuple)) else ():
        elements *= side if isinstance(side, int) else 0
    dtype = str(header.get("dtype")).lower()
    size = int(ELEMENT_BYTES.get(dtype, 2) * elements)
    loaded = elements * LOADED_ELEMENT_BYTES if narrow and dtype in ("f32", "f64") else size
    index = layer_index(name)
    layer = stack.layers[index] if index is not None and index < len(stack.layers) else None
    described = stack.attention.get(layer.attention or "", {}) if layer else {}
    kind = kind_of(name, described.get("type"), len(stack.layers))
    for one, share in _shares(kind, described):
        key = layer_of(one, _key(one, layer))
        entry = found.setdefault((one, key), Entry(one, key))
        entry.file_bytes += round(size * share)
        entry.loaded += round(loaded * share)
        entry.elements += round(elements * share)
        if not is_scale(name):
            entry.parameters += round(elements * share * _packed(dtype, quantization))


def _key(kind: str, layer: Any) -> str | None:
    if layer is None:
        return None
    if kind.startswith(("expert", "shared_expert", "router")):
        return "moe"
    return "dense" if kind.startswith("ffn") else layer.attention


def _shares(kind: str, described: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Split a tensor of queries, keys and values by the sizes of its heads."""
    if kind != "qkv":
        return [(kind, 1.0)]
    query = (described.get("num_heads") or 0) * (described.get("head_dim") or 0)
    rest = (described.get("num_kv_heads") or 0) * (
        (described.get("head_dim") or 0) + (described.get("head_dim_v") or 0)
    )
    share = query / (query + rest) if query + rest else 1 / 3
    return [("qkv_q", share), ("qkv_kv", 1 - share)]


def _packed(dtype: str, quantization: Quantization | None) -> int:
    """How many weights one stored element holds."""
    bits = quantization.default.bits if quantization and quantization.default else 0
    if dtype in ("i32", "u32") and bits:
        return 32 // bits
    return 2 if dtype == "u8" and bits == 4 else 1
