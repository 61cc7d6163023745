# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What vLLM reserves for LoRA adapters: room for each of ``max_loras`` at the largest rank, in every module. Pure.

lora/layers/base_linear.py, column_parallel_linear.py, row_parallel_linear.py, fused_moe.py, vocab_parallel_embedding.py
and logits_processor.py of vLLM 0.33.0: a factor of the input and one of the output for each module. Of modules that are
split by output the second is split too, of those split by input the first; the other one lies whole on each rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

# config/lora.py of vLLM 0.33.0
DEFAULT_RANK = 16
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
BYTES = 2
GIB = 1024**3
# Modules by the names that lora-target-modules uses
QUERY, KEYS, OUT = ("q_proj", "qkv_proj"), ("k_proj", "v_proj", "qkv_proj"), ("o_proj",)
GATE_UP, DOWN = ("gate_proj", "up_proj", "gate_up_proj"), ("down_proj",)


def slots(
    model: Mapping[str, Any], count: int, rank: int, targets: Sequence[str] | None, fully_sharded: bool
) -> tuple[list[dict[str, Any]], str]:
    """Return the weights that are reserved, by how they are spread, and a sentence on them."""
    whole = split = 0
    for names, inputs, outputs, by_input, copies in _modules(model):
        if targets and not set(names) & {str(one).split(".")[-1] for one in targets}:
            continue
        first, second = copies * inputs, copies * outputs
        whole += 0 if fully_sharded else (second if by_input else first)
        split += (first + second) if fully_sharded else (first if by_input else second)
    each = count * rank * BYTES
    total = (whole + split) * each / GIB
    tensors = [
        {"kind": kind, "layer": None, "bytes": numbers * each, "parameters": numbers * count * rank}
        for kind, numbers in (("lora_whole", whole), ("lora_split", split))
        if numbers
    ]
    adapters = f"{count} adapter{'s' if count != 1 else ''}"
    return tensors, (
        f"LoRA: {total:.1f} GiB are reserved for {adapters} of rank {rank} (max_loras, max_lora_rank), whether they "
        "are loaded or not."
    )


Module = tuple[Sequence[str], int, int, bool, int]


def _modules(model: Mapping[str, Any]) -> Iterator[Module]:
    """Give names, inputs, outputs, whether it is split by input, and how many there are, of every module."""
    hidden = int(model.get("hidden_size") or 0)
    for run in model.get("layers") or ():
        times = int(run["count"])
        entry = (model.get("attention") or {}).get(run.get("attention")) or {}
        for names, inputs, outputs, by_input in _attention(model, entry, hidden):
            yield names, inputs, outputs, by_input, times
        if run.get("feed_forward") == "dense":
            inner = int(model.get("intermediate_size") or 0)
            yield GATE_UP, 2 * hidden, 2 * inner, False, times
            yield DOWN, inner, hidden, True, times
        if run.get("feed_forward") == "moe":
            inner, experts = int(model.get("moe_intermediate_size") or 0), int(model.get("num_experts") or 0)
            shared = int(model.get("shared_expert_intermediate_size") or 0)
            yield GATE_UP, 2 * hidden, 2 * inner, False, times * experts
            yield DOWN, inner, hidden, True, times * experts
            if shared:
                yield GATE_UP, 2 * hidden, 2 * shared, False, times
                yield DOWN, shared, hidden, True, times


def _attention(
    model: Mapping[str, Any], entry: Mapping[str, Any], hidden: int
) -> Iterator[tuple[Sequence[str], int, int, bool]]:
    heads = int(entry.get("num_heads") or model.get("num_attention_heads") or 0)
    kind = entry.get("type")
    if kind in ("full", "sliding", "chunked", "encoder"):
        size = int(entry.get("head_dim") or 0)
        value = int(entry.get("head_dim_v") or size)
        yield QUERY, hidden, heads * size, False
        yield KEYS, 2 * hidden, int(entry.get("num_kv_heads") or 0) * (size + value), False
        yield OUT, heads * value, hidden, True
    elif kind == "mla":
        rank, latent = int(entry.get("q_lora_rank") or 0), int(entry.get("kv_lora_rank") or 0)
        rope, nope = int(entry.get("qk_rope_head_dim") or 0), int(entry.get("qk_nope_head_dim") or 0)
        value = int(entry.get("v_head_dim") or 0)
        if rank:
            yield ("q_a_proj",), hidden, rank, False
        yield ("q_b_proj", "q_proj"), rank or hidden, heads * (nope + rope), False
        yield ("kv_a_proj_with_mqa",), hidden, latent + rope, False
        yield ("kv_b_proj",), latent, heads * (nope + value), False
        yield OUT, heads * value, hidden, True
    elif kind == "gdn":
        keys = int(entry.get("num_k_heads") or 0) * int(entry.get("head_k_dim") or 0)
        values = int(entry.get("num_v_heads") or 0) * int(entry.get("head_v_dim") or 0)
        yield ("in_proj_qkv", "in_proj_qkvz", "in_proj_z"), 2 * hidden, 2 * keys + 2 * values, False
        yield ("out_proj",), values, hidden, True
