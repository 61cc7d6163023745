# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a quantized matrix is stored as: the tensors of each scheme, with their types and numbers of elements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Bytes of one element of a dtype, by the names of safetensors and of torch, in lower case.
ELEMENT_BYTES: Mapping[str, float] = {
    "float64": 8, "f64": 8, "int64": 8, "i64": 8, "u64": 8, "float32": 4, "f32": 4, "float": 4, "int32": 4, "i32": 4,
    "u32": 4, "float16": 2, "f16": 2, "half": 2, "bfloat16": 2, "bf16": 2, "int16": 2, "i16": 2, "u16": 2, "int8": 1,
    "i8": 1, "uint8": 1, "u8": 1, "bool": 1, "float8_e4m3fn": 1, "f8_e4m3": 1, "f8_e5m2": 1, "f8_e8m0": 1, "f8": 1,
    "f4": 0.5, "f6_e2m3": 0.75, "f6_e3m2": 0.75,
}  # fmt: skip

# A tensor: dtype (a key of ELEMENT_BYTES) and number of elements.
Tensor = tuple[str, int]


@dataclass(frozen=True)
class Scheme:
    """How matrices are quantized.

    ``name`` is one of fp8_block, fp8_tensor, fp8_channel, int8_channel, packed (compressed-tensors), awq, gptq,
    nvfp4, mxfp4, mxfp8 and plain_bits; ``bits`` those of the weights; ``group`` the columns that share a scale (-1:
    all); ``block`` [rows, columns] of a scale; ``static`` whether a scale of the activations is stored;
    ``zero_point`` whether zero points are; ``scale`` the dtype of the scales.
    """

    name: str
    bits: int
    group: int | None = None
    block: tuple[int, int] | None = None
    static: bool = False
    zero_point: bool = False
    desc_act: bool = False
    scale: str = "bf16"
    activation_bits: int | None = None


def _up(value: int, by: int) -> int:
    return -(-value // by)


def stored(scheme: Scheme, rows: int, columns: int) -> list[Tensor]:
    """List the tensors that a matrix of ``rows`` outputs and ``columns`` inputs is stored as.

    Sources: quantization/fp8.py, auto_gptq.py, auto_awq.py, modelopt.py, mxfp4.py and compressed_tensors/schemes of
    vLLM 0.33.0 (their create_weights).
    """
    elements = rows * columns
    group = scheme.group if scheme.group and scheme.group > 0 else columns
    groups = _up(columns, group) if group else 0
    extra: list[Tensor] = [("f32", 1)] if scheme.static else []
    if scheme.name == "fp8_block":
        row, column = scheme.block or (128, 128)
        return [("f8", elements), (scheme.scale, _up(rows, row) * _up(columns, column)), *extra]
    if scheme.name == "fp8_tensor":
        return [("f8", elements), ("f32", 1), *extra]
    if scheme.name in ("fp8_channel", "int8_channel"):
        return [("i8" if scheme.name == "int8_channel" else "f8", elements), (scheme.scale, rows), *extra]
    if scheme.name == "mxfp8":
        return [("f8", elements), ("u8", rows * _up(columns, 32))]
    if scheme.name == "mxfp4":
        return [("u8", rows * _up(columns, 2)), ("u8", rows * _up(columns, 32))]
    if scheme.name == "nvfp4":
        return [("u8", rows * _up(columns, 2)), ("f8", rows * _up(columns, 16)), ("f32", 1), *extra]
    per_word = max(1, 32 // scheme.bits)
    if scheme.name == "packed":
        zeros: list[Tensor] = [("i32", _up(rows, per_word) * groups)] if scheme.zero_point else []
        order: list[Tensor] = [("i32", columns)] if scheme.desc_act else []
        return [("i32", rows * _up(columns, per_word)), (scheme.scale, rows * groups), ("i64", 2), *zeros, *order]
    if scheme.name in ("awq", "gptq"):
        found: list[Tensor] = [("i32", _up(elements, per_word)), ("f16", rows * groups)]
        if scheme.zero_point or scheme.name == "gptq":
            found.append(("i32", groups * _up(rows, per_word)))
        if scheme.name == "gptq":
            found.append(("i32", columns))
        return found
    return [("u8", _up(elements * scheme.bits, 8)), ("f16", rows * groups if scheme.group else rows)]


def tensor_bytes(tensors: list[Tensor]) -> int:
    """Add up the bytes of tensors."""
    return int(sum(ELEMENT_BYTES[dtype] * elements for dtype, elements in tensors))
