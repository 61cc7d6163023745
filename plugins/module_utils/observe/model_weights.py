# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The bytes of each kind of weight, computed from the configuration and fitted to a known size of the files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_parts import (
    ATTENTION_KINDS,
    FEED_FORWARD_KINDS,
    KINDS,
    QUANTIZABLE,
    Part,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_quantization import Quantization
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.model_schemes import (
    ELEMENT_BYTES,
    stored,
    tensor_bytes,
)

# vLLM's dtype "auto" loads float32 checkpoints in 16 bits, so nothing but named float32 tensors stays wider
# (config/model.py:2423-2464).
LOADED_ELEMENT_BYTES = 2
# A size of the files further from the computed one than this says that the configuration was not understood.
CREDIBLE = (0.5, 2.0)
# Safetensors files are a little longer than their tensors: one header each.
SAME = 0.001
_MISSING: Mapping[str, str] = {
    "mtp": "By their size the files hold no layers for multi-token prediction, although the configuration names some.",
    "lm_head": "By their size the files hold no output head: the model makes embeddings and cannot generate.",
}


@dataclass
class Entry:
    """The sum of all weights of one kind in layers of one kind; ``file_bytes`` as stored, ``loaded`` as vLLM holds it.

    ``elements`` counts stored elements, scales included.
    """

    kind: str
    layer: str | None
    parameters: int = 0
    file_bytes: int = 0
    loaded: int = 0
    elements: int = 0

    def public(self) -> dict[str, Any]:
        """Return the entry as a fact."""
        return {"kind": self.kind, "layer": self.layer, "bytes": self.loaded, "parameters": self.parameters}


def layer_of(kind: str, layer: str | None) -> str | None:
    """Return the layer key that an entry of a kind carries; tables, norms, vision and the like carry none."""
    return layer if kind in ATTENTION_KINDS or kind in FEED_FORWARD_KINDS else None


def computed(parts: Iterable[Part], quantization: Quantization | None, dtype: str | None) -> list[Entry]:
    """Add up the bytes of parts by kind and layer, in the order of their first appearance.

    ``dtype`` is that of the checkpoint's unquantized tensors; None counts as two bytes.
    """
    width = ELEMENT_BYTES.get((dtype or "bfloat16").lower(), 2)
    entries: dict[tuple[str, str | None], Entry] = {}
    for part in parts:
        layer = layer_of(part.kind, part.layer)
        entry = entries.setdefault((part.kind, layer), Entry(part.kind, layer))
        _count(entry, part, quantization, width)
    return [entry for entry in entries.values() if entry.parameters]


def likely_dtype(parts: Sequence[Part], quantization: Quantization | None, total: int | None) -> str:
    """Guess the dtype of a checkpoint that names none: the one that makes files of ``total`` bytes, else bfloat16."""

    def distance(dtype: str) -> int:
        return abs(sum(entry.file_bytes for entry in computed(parts, quantization, dtype)) - (total or 0))

    return min(("bfloat16", "float32"), key=distance) if total else "bfloat16"


def _count(entry: Entry, part: Part, quantization: Quantization | None, width: float) -> None:
    entry.parameters += part.parameters
    scheme = quantization.scheme(part) if quantization else None
    if scheme is not None:
        tensors = stored(scheme, part.rows, part.columns)
        size = tensor_bytes(tensors)
        entry.file_bytes += part.count * int(size + part.bias * width)
        entry.loaded += part.count * (size + part.bias * LOADED_ELEMENT_BYTES)
        entry.elements += part.count * (sum(number for _, number in tensors) + part.bias)
        return
    entry.elements += part.parameters
    if part.dtype:
        size = int(part.parameters * ELEMENT_BYTES[part.dtype])
        entry.file_bytes += size
        entry.loaded += size
        return
    entry.file_bytes += int(part.parameters * width)
    entry.loaded += part.parameters * LOADED_ELEMENT_BYTES


def fitted(entries: Sequence[Entry], total: int, tied_head: int) -> tuple[list[Entry], list[str]]:
    """Stretch the kinds that are quantized until the sum is ``total``, the bytes of the weight files.

    ``tied_head`` is the bytes that a stored output head would have although the input table serves as one. Files that
    hold such a head, or no layers for multi-token prediction, or no output head, are recognized by their size.
    Returns the entries, and sentences about what was found.
    """
    entries, total, warnings = _recognized(list(entries), total, tied_head)
    whole = sum(entry.file_bytes for entry in entries)
    stretched = [entry for entry in entries if entry.kind in QUANTIZABLE] or list(entries)
    part = sum(entry.file_bytes for entry in stretched)
    factor = (total - (whole - part)) / part if part else 1.0
    if factor <= 0 or not CREDIBLE[0] <= total / max(whole, 1) <= CREDIBLE[1]:
        warnings.append(
            f"The weight files are {total / 1024**3:.2f} GiB and the configuration makes {whole / 1024**3:.2f} GiB: "
            "its structure or its quantization was not understood, so the shares of the kinds of weights are guesses."
        )
        stretched, factor = list(entries), total / max(whole, 1)
    return [_stretched(entry, factor) if entry in stretched else entry for entry in entries], warnings


def _recognized(entries: list[Entry], total: int, tied_head: int) -> tuple[list[Entry], int, list[str]]:
    """Find what the files hold more or less than the configuration says, where that explains their size."""
    whole = sum(entry.file_bytes for entry in entries)
    if abs(whole - total) <= whole * SAME:
        return entries, total, []
    if tied_head and abs(whole + tied_head - total) <= whole * SAME:
        said = (
            f"The files hold an output head of {tied_head / 1024**3:.2f} GiB although the input table is the head; "
            "vLLM does not load it."
        )
        return entries, total - tied_head, [said]
    for kind, said in _MISSING.items():
        size = sum(entry.file_bytes for entry in entries if entry.kind == kind)
        if size and abs(whole - size - total) <= whole * SAME:
            return [entry for entry in entries if entry.kind != kind], total, [said]
    return entries, total, []


def _stretched(entry: Entry, factor: float) -> Entry:
    return Entry(
        entry.kind, entry.layer, entry.parameters, round(entry.file_bytes * factor), round(entry.loaded * factor)
    )


def fact(source: str, exact: bool, entries: Iterable[Entry], computed_bytes: int | None = None) -> dict[str, Any]:
    """Return the fact ``weights``, in the order of ``KINDS``; ``computed_bytes`` where it was fitted to another sum."""
    ordered = sorted(entries, key=lambda entry: (KINDS.index(entry.kind), entry.layer or ""))
    result: dict[str, Any] = {"source": source, "exact": exact, "tensors": [entry.public() for entry in ordered]}
    if computed_bytes is not None:
        result["computed_bytes"] = computed_bytes
    return result


def loaded_bytes(weights: Mapping[str, Any]) -> int:
    """Add up what vLLM loads: all entries of a fact ``weights`` but those for multi-token prediction."""
    return sum(entry["bytes"] for entry in weights["tensors"] if entry["kind"] != "mtp")
