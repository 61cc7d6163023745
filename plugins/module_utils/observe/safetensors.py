# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The headers of safetensors files: exact types and shapes of all weights, without the weights.

A file begins with eight bytes, little endian, the length of a JSON object that maps names to dtype, shape and offsets
(https://huggingface.co/docs/safetensors, "Format").
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_config import TextConfig, mapping, whole
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_layers import Layer, Stack
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

# A larger share of tensors of unknown kinds is worth a warning.
UNKNOWN_SHARE = 0.05

# Name of a tensor -> {"dtype": "BF16", "shape": [rows, columns]}
Headers = Mapping[str, Mapping[str, Any]]


def read_header(file: Path) -> dict[str, dict[str, Any]]:
    """Read the header of one file. Raises :class:`InputError` when it is none; OSError when it cannot be read."""
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        text = stream.read(length) if 2 <= length <= LONGEST_HEADER else b""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise InputError(f"{file} does not begin with a safetensors header; fetch the model again.")
    return {name: value for name, value in header.items() if name != "__metadata__" and isinstance(value, dict)}


def total_size(index: Mapping[str, Any]) -> int | None:
    """Return the bytes of all tensors that a model.safetensors.index.json states, None when it states none."""
    return whole(mapping(index.get("metadata")).get("total_size"))


def entries(
    headers: Headers, text: TextConfig, stack: Stack, quantization: Quantization | None, pooling: bool = False
) -> tuple[list[Entry], list[str]]:
    """Add up the tensors of a checkpoint by kind and layer; returns the entries and sentences of what was found.

    A stored output head that vLLM does not load, because the input table is one or because the model pools
    (``pooling``), is left out.
    """
    found: dict[tuple[str, str | None], Entry] = {}
    reader = _Reader(found, text, stack, quantization, headers)
    for name, header in headers.items():
        reader.add(name, header)
    warnings: list[str] = []
    head = found.pop(("lm_head", None), None) if text.tied or pooling else None
    if head is not None:
        reason = "the model only pools" if pooling and not text.tied else "the input table is the head"
        warnings.append(
            f"The files hold an output head of {head.file_bytes / 1024**3:.2f} GiB although {reason}; vLLM does not "
            "load it."
        )
    unknown = found.get(("other", None))
    everything = sum(entry.loaded for entry in found.values())
    if unknown is not None and unknown.loaded > everything * UNKNOWN_SHARE:
        warnings.append(
            f"{unknown.loaded / everything:.0%} of the weights have names of no known kind; they are taken to be on "
            "every rank in full."
        )
    return list(found.values()), warnings


class _Reader:
    """Adds tensors to the entries of their kinds."""

    def __init__(
        self,
        found: dict[tuple[str, str | None], Entry],
        text: TextConfig,
        stack: Stack,
        quantization: Quantization | None,
        headers: Headers,
    ) -> None:
        self.found, self.stack, self.quantization = found, stack, quantization
        dtypes = {str(header.get("dtype")).lower() for header in headers.values()}
        # Without a dtype in config.json vLLM takes that of the tensors (model_arch_config_convertor.py:201-239).
        written = (text.dtype or ("bfloat16" if dtypes & {"bf16", "f16"} else "float32")).lower()
        self.narrow = written in ("float32", "float", "float64")

    def add(self, name: str, header: Mapping[str, Any]) -> None:
        """Add one tensor."""
        shape = header.get("shape")
        sides = [side for side in shape if isinstance(side, int)] if isinstance(shape, (list, tuple)) else []
        elements = math.prod(sides)
        index = layer_index(name)
        layer = self.stack.layers[index] if index is not None and index < len(self.stack.layers) else None
        described = self.stack.attention.get(layer.attention or "", {}) if layer else {}
        latent = described.get("name") == "deepseek_v4"
        kind = kind_of(name, "mla" if latent else described.get("type"), len(self.stack.layers))
        dtype = str(header.get("dtype")).lower()
        size = int(ELEMENT_BYTES.get(dtype, 2) * elements)
        loaded = elements * LOADED_ELEMENT_BYTES if self._narrowed(name, kind, dtype, sides) else size
        weights = 0 if is_scale(name) else elements * self._packed(kind, dtype)
        for one, share in _shares(kind, described):
            key = layer_of(one, _key(one, layer))
            entry = self.found.setdefault((one, key), Entry(one, key))
            entry.file_bytes += round(size * share)
            entry.loaded += round(loaded * share)
            entry.elements += round(elements * share)
            entry.parameters += round(weights * share)

    def _narrowed(self, name: str, kind: str, dtype: str, sides: list[int]) -> bool:
        """Whether a 32-bit tensor is loaded in 16 bits: all of a 32-bit model, and matrices of any other."""
        if dtype not in ("f32", "f64") or is_scale(name):
            return False
        return self.narrow or (len(sides) > 1 and kind not in ("router", "other"))

    def _packed(self, kind: str, dtype: str) -> int:
        """How many weights one stored element holds."""
        quantization = self.quantization
        scheme = quantization.default if quantization else None
        if quantization and quantization.experts and kind.startswith("expert"):
            scheme = quantization.experts
        if scheme is None:
            return 1
        if dtype in ("i32", "u32"):
            return max(1, 32 // scheme.bits)
        return 2 if dtype in ("u8", "i8") and scheme.bits == 4 else 1


def _key(kind: str, layer: Layer | None) -> str | None:
    if layer is None:
        return None
    if kind.startswith(("expert", "shared_expert", "router")):
        return "moe"
    if kind.startswith("ffn"):
        # a dense part beside experts (Gemma 4) belongs to the layers with experts
        return layer.feed_forward or "dense"
    return layer.attention


def _shares(kind: str, described: Mapping[str, Any]) -> list[tuple[str, float]]:
    """Split a tensor of queries, keys and values by the sizes of its heads."""
    if kind != "qkv":
        return [(kind, 1.0)]
    heads, kv_heads, head_dim, head_dim_v = (
        described.get(key) or 0 for key in ("num_heads", "num_kv_heads", "head_dim", "head_dim_v")
    )
    query, rest = heads * head_dim, kv_heads * (head_dim + head_dim_v)
    share = query / (query + rest) if query + rest else 1 / 3
    return [("qkv_q", share), ("qkv_kv", 1 - share)]
