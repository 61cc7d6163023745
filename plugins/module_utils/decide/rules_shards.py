# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Rules about quantized weights: blocks, groups and kernel tiles that a shard has to hold whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules import WARN, Case, Finding, Rule
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules_parallel import USE_EXPERT_PARALLEL

AWQ = frozenset({"awq", "awq_marlin", "auto_awq"})
GPTQ = frozenset({"gptq", "gptq_marlin", "auto_gptq", "gptq_marlin_24"})
# Methods whose weights have groups along the input
GROUPED = AWQ | GPTQ | {"compressed-tensors", "modelopt_fp4", "modelopt", "quark", "inc", "auto-round"}
# model_executor/layers/quantization/utils/marlin_utils.py:37-41
MARLIN_GROUPS = (-1, 32, 64, 128)
MARLIN_TILE = 128
# the least block that scales are refined to, fused_moe/oracle/fp8.py:311-320
LEAST_REFINED = 32


def _attention_inputs(case: Case) -> Iterator[tuple[str, int]]:
    """Name the inputs of the layers behind the attention, which tensor parallelism cuts."""
    if case.quantization.get("attention") is False:
        return
    for entry in case.attention("full", "sliding", "chunked"):
        size = entry.get("head_dim_v") or entry.get("head_dim")
        if entry.get("num_heads") and size:
            yield "attention output", entry["num_heads"] * size
    for entry in case.attention("mla"):
        if entry.get("num_heads") and entry.get("v_head_dim"):
            yield "attention output", entry["num_heads"] * entry["v_head_dim"]
    for entry in case.attention("gdn"):
        if entry.get("num_v_heads") and entry.get("head_v_dim"):
            yield "linear attention output", entry["num_v_heads"] * entry["head_v_dim"]
    heads, size = case.number("num_attention_heads"), case.number("head_dim")
    if not case.model.get("attention") and not case.model.get("mla") and heads and size:
        yield "attention output", heads * size


def _row_inputs(case: Case) -> Iterator[tuple[str, int]]:
    """Name the inputs (full sizes) of all dense layers whose input tensor parallelism cuts."""
    yield from _attention_inputs(case)
    if case.dense_size:
        yield "down projection", case.dense_size
    shared = case.shared_expert_size
    if shared and case.quantization.get("shared_experts") is not False:
        yield "shared expert's down projection", shared


def _column_outputs(case: Case) -> Iterator[tuple[str, int]]:
    """Name the outputs of quantized layers that are cut alone, not merged with others: MLA's up-projections."""
    if case.quantization.get("attention") is False:
        return
    for entry in case.attention("mla"):
        heads = entry.get("num_heads") or 0
        nope, rope, value = (entry.get(key) or 0 for key in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
        yield "query projection", heads * (nope + rope)
        yield "key and value projection", heads * (nope + value)


def _blocks(case: Case) -> tuple[int, int] | None:
    block = case.quantization.get("block")
    return (int(block[0]), int(block[1])) if block else None


def block_of_dense_layers(case: Case) -> Finding | None:
    """FP8 blocks: a shard of an input or an output has to hold whole blocks."""
    block = _blocks(case)
    if block is None or case.tp == 1:
        return None
    merged = [] if case.engine.at_least("0.14.0") else [("gate and up projection", case.dense_size or 0)]
    for wide, sizes in ((block[1], _row_inputs(case)), (block[0], [*_column_outputs(case), *merged])):
        for name, size in sizes:
            if size % case.tp == 0 and size // case.tp % wide:
                return Finding(
                    f"tensor_parallel_size {case.tp} leaves {size // case.tp} of {size} columns of the {name} to a "
                    f"rank, which is no multiple of the {wide} of a quantization block",
                    (),
                    f"quantization blocks of {wide}",
                )
    return None


def _expert_shard(case: Case) -> int | None:
    """Return the part of an expert's intermediate size that a rank holds, None when it does not divide."""
    size = case.expert_size
    return None if size is None or size % case.moe_tp else size // case.moe_tp


def _refined(case: Case) -> tuple[int, int] | None:
    """Return (shard, the block it is refined to) where an expert's shard is no whole number of blocks."""
    block, shard = _blocks(case), _expert_shard(case)
    if block is None or shard is None or (shard % block[0] == 0 and (case.tp == 1 or shard % block[1] == 0)):
        return None
    return shard, math.gcd(*block, shard, case.number("hidden_size") or 0)


def _of_experts(case: Case, shard: int, unit: str) -> Finding:
    what = f"an expert intermediate size of {case.expert_size}"
    return Finding(
        f"tensor_parallel_size {case.tp} leaves {shard} of {what} to a rank, which is no multiple of {unit}",
        () if case.moe_tp == 1 else (USE_EXPERT_PARALLEL,),
        what,
    )


def block_of_experts(case: Case) -> Finding | None:
    """FP8 blocks of experts, where their scales cannot be refined."""
    refined = _refined(case)
    if refined is None:
        return None
    refines = case.method == "fp8" and case.engine.at_least("0.29.0")
    if refines and refined[1] >= LEAST_REFINED:
        return None
    least = f", nor of {LEAST_REFINED}" if refines else ""
    return _of_experts(case, refined[0], f"the {(_blocks(case) or (0,))[0]} of a quantization block{least}")


def block_of_experts_refined(case: Case) -> Finding | None:
    """FP8 blocks of experts that only Triton kernels compute with."""
    refined = _refined(case)
    if refined is None or case.method != "fp8" or refined[1] < LEAST_REFINED:
        return None
    return Finding(
        f"tensor_parallel_size {case.tp} leaves {refined[0]} of each expert to a rank: vLLM refines the quantization "
        f"blocks to {refined[1]} and uses slower kernels",
        () if case.moe_tp == 1 else (USE_EXPERT_PARALLEL,),
    )


def _group(case: Case) -> int | None:
    group = case.quantization.get("group_size")
    if case.method not in GROUPED or not group or int(group) <= 0 or _blocks(case):
        return None
    return int(group)


def group_of_dense_layers(case: Case) -> Finding | None:
    """Groups of 4-bit and 8-bit weights: a shard of an input has to hold whole groups."""
    group = _group(case)
    if group is None or case.tp == 1:
        return None
    for name, size in _row_inputs(case):
        if group < size and size % case.tp == 0 and size // case.tp % group:
            return Finding(
                f"tensor_parallel_size {case.tp} leaves {size // case.tp} of {size} inputs of the {name} to a rank, "
                f"which is no multiple of the quantization group of {group}",
                (),
                f"quantization groups of {group}",
            )
    return None


def tile_of_dense_layers(case: Case) -> Finding | None:
    """Marlin's tiles, which older releases did not fill up with zeros; their other kernel takes float16 alone."""
    packed = case.method == "compressed-tensors" and case.quantization.get("format") == "pack-quantized"
    if not (packed or case.method in GPTQ) or case.dtype == "float16":
        return None
    for name, size in _row_inputs(case):
        if size % case.tp == 0 and size // case.tp % MARLIN_TILE:
            return Finding(
                f"tensor_parallel_size {case.tp} leaves {size // case.tp} of {size} inputs of the {name} to a rank, "
                f"which is no multiple of {MARLIN_TILE}, the tile of the Marlin kernel",
                ("use vLLM 0.24.0 or newer, which fills tiles up", "write dtype: float16"),
                f"kernel tiles of {MARLIN_TILE}",
            )
    return None


def awq_tile(case: Case) -> Finding | None:
    """AWQ falls back to a slow kernel."""
    if case.method not in AWQ:
        return None
    for name, size in _row_inputs(case):
        if size % case.tp == 0 and size // case.tp % MARLIN_TILE:
            return Finding(
                f"{size // case.tp} inputs of the {name} are no multiple of {MARLIN_TILE}, the tile of the Marlin "
                "kernel; vLLM uses a slower one for it"
            )
    return None


def _expert_group(case: Case) -> tuple[int, int] | None:
    group, shard = _group(case), _expert_shard(case)
    return (shard, group) if group and shard and shard % group else None


def group_of_experts(case: Case) -> Finding | None:
    """Groups of experts in methods without another kernel.

    compressed-tensors refuses a shard of a fraction of groups; modelopt rounds down what it loads of the scales
    (fused_moe/routed_experts.py, _load_w2), so that they belong to other weights and the answers are wrong.
    """
    found = _expert_group(case)
    if found is None or case.method in AWQ | GPTQ:
        return None
    return _of_experts(case, found[0], f"the quantization group of {found[1]}")


def group_of_experts_dies(case: Case) -> Finding | None:
    """The other kernel for AWQ and GPTQ experts, which failed on the first request."""
    found = _expert_group(case)
    if found is None or case.method not in AWQ | GPTQ or found[0] % MARLIN_TILE == 0:
        return None
    return _of_experts(case, found[0], f"{MARLIN_TILE}: the server starts, and its first request fails")


def group_of_experts_is_slow(case: Case) -> Finding | None:
    """The other kernel for AWQ and GPTQ experts, as it is now: it halves the groups down to 32."""
    found = _expert_group(case)
    if found is None or case.method not in AWQ | GPTQ:
        return None
    return Finding(
        f"tensor_parallel_size {case.tp} leaves {found[0]} of each expert to a rank, which is no multiple of the "
        f"quantization group of {found[1]}; vLLM uses a slower kernel",
        () if case.moe_tp == 1 else (USE_EXPERT_PARALLEL,),
    )


def group_of_experts_too_small(case: Case) -> Finding | None:
    """The same, where halving does not help."""
    found = _expert_group(case)
    if found is None or case.method not in AWQ | GPTQ or found[0] % LEAST_REFINED == 0:
        return None
    return _of_experts(case, found[0], f"{LEAST_REFINED}, the least quantization group that vLLM halves to")


# model_executor/layers/quantization/modelopt.py:1322-1327
MXFP8_BLOCK = 32


def block_of_mxfp8_experts(case: Case) -> Finding | None:
    """MXFP8: blocks of 32."""
    shard = _expert_shard(case)
    if case.method != "modelopt_mxfp8" or shard is None or shard % MXFP8_BLOCK == 0:
        return None
    return _of_experts(case, shard, f"{MXFP8_BLOCK}, the block of MXFP8")


_QUANTIZATION = "model_executor/layers/quantization"

RULES: Sequence[Rule] = (
    Rule(
        "block_quantization_not_divisible",
        block_of_dense_layers,
        f"{_QUANTIZATION}/utils/fp8_utils.py:1296-1344",
        divides=True,
    ),
    Rule(
        "expert_blocks_not_divisible",
        block_of_experts,
        f"{_QUANTIZATION}/utils/fp8_utils.py:1347-1373",
        divides=True,
    ),
    Rule(
        "expert_blocks_refined",
        block_of_experts_refined,
        "model_executor/layers/fused_moe/oracle/fp8.py:292-321",
        severity=WARN,
        since="0.29.0",
    ),
    Rule("quantization_group_not_divisible", group_of_dense_layers, "distributed/utils.py:137-152", divides=True),
    Rule(
        "marlin_tile_not_divisible",
        tile_of_dense_layers,
        f"{_QUANTIZATION}/utils/marlin_utils.py:222-244",
        until="0.24.0",
        divides=True,
    ),
    Rule(
        "awq_without_marlin",
        awq_tile,
        f"{_QUANTIZATION}/utils/marlin_utils.py:286-318",
        severity=WARN,
        until="0.24.0",
    ),
    Rule(
        "expert_group_not_divisible",
        group_of_experts,
        f"{_QUANTIZATION}/compressed_tensors/compressed_tensors_moe/compressed_tensors_moe_wna16.py:238-256",
        divides=True,
    ),
    # fused_moe.py, _ensure_block_size_k_divisible: not in 0.11.x, there in 0.13.0
    Rule(
        "expert_group_fails_on_request",
        group_of_experts_dies,
        f"{_QUANTIZATION}/auto_gptq.py:241-250",
        until="0.13.0",
        divides=True,
    ),
    Rule(
        "expert_group_falls_back",
        group_of_experts_is_slow,
        f"{_QUANTIZATION}/utils/marlin_utils.py:356-387",
        severity=WARN,
        since="0.13.0",
    ),
    Rule("expert_group_too_small", group_of_experts_too_small, f"{_QUANTIZATION}/moe_wna16.py:280-286", divides=True),
    Rule("expert_mxfp8_not_divisible", block_of_mxfp8_experts, f"{_QUANTIZATION}/modelopt.py:1322-1327", divides=True),
)
