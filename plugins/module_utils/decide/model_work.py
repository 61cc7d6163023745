# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What one step of a model reads and computes on one rank, from what model_info says of it. Pure.

All pipeline stages are added up: a token goes through every one of them. Bytes are bytes, counts are numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import kv_cache, sharding
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes

Model = Mapping[str, Any]

EXPERTS = frozenset(("expert_gate_up", "expert_down"))
# Looked up by row, or used only when an image comes: not read for every token.
NOT_READ = frozenset(
    ("embedding", "position_embedding", "vision", "projector", "mtp", "draft", "lora_whole", "lora_split")
)
# Makes logits, only for the last token of what a sequence has in a step; a tied embedding serves for it.
HEAD = frozenset(("lm_head", "embedding"))
# Tokens that a sparse-attention indexer picks (index_topk of DeepSeek-V3.2's config.json)
SPARSE_TOKENS = 2048


@dataclass(frozen=True)
class Work:
    """Weights of one rank, over all stages: bytes read for every token, and the routed experts held.

    ``parameters`` and ``expert_parameters`` are those that take part in matrix multiplications, ``head_parameters`` of
    them only for tokens that are followed by a new one. ``complete`` says that the kinds of all weights were known.
    """

    read_bytes: float
    expert_bytes: float
    parameters: float
    expert_parameters: float
    complete: bool = True
    head_parameters: float = 0.0

    @property
    def bits(self) -> float:
        """Bits of a weight but for the experts', scales included; 16 where nothing is known."""
        return 8 * self.read_bytes / self.parameters if self.parameters else 16.0

    @property
    def expert_bits(self) -> float:
        """Bits of a weight of the experts, scales included."""
        return 8 * self.expert_bytes / self.expert_parameters if self.expert_parameters else 16.0


def work(model: Model, sizes: Sizes, weight_bytes_per_gpu: float | None = None) -> Work | None:
    """The weights of one rank; None where neither the kinds of weights nor any size is known.

    ``weight_bytes_per_gpu`` serves where the model says nothing of its weights.
    """
    tensors = (model.get("weights") or {}).get("tensors")
    if not tensors:
        stages, whole = sizes.pipeline_parallel_size, model.get("weight_bytes")
        held = whole / sizes.tensor_parallel_size if whole else (weight_bytes_per_gpu or 0) * stages
        return Work(held, 0.0, held / 2, 0.0, complete=False) if held else None
    read = experts = parameters = expert_parameters = head = 0.0
    tied = bool(model.get("tie_word_embeddings"))
    for tensor in tensors:
        kind = tensor["kind"]
        share = sharding.PLACES.get(kind, (_whole, ""))[0](model, sizes)
        count = (tensor.get("parameters") or tensor["bytes"] / 2) * share
        if kind in EXPERTS:
            experts += tensor["bytes"] * share
            expert_parameters += count
        elif kind not in NOT_READ or (kind == "embedding" and tied):
            read += tensor["bytes"] * share
            parameters += count
            head += count if kind in HEAD else 0.0
    return Work(read, experts, parameters, expert_parameters, head_parameters=head)


def _whole(model: Model, sizes: Sizes) -> float:
    return 1.0


def touched(model: Model, sizes: Sizes, tokens: float) -> float:
    """What share of its experts the busiest rank reads for a step of ``tokens`` tokens of all data parallel ranks.

    Each token picks some of the experts; the expected share is that of draws without favourites. With whole experts
    on every rank (expert parallelism) the busiest one has more than the mean: by the spread of a binomial count times
    what the largest of so many normal variates exceeds their mean by.
    """
    experts, picked = int(model.get("num_experts") or 0), int(model.get("num_experts_per_tok") or 0)
    if not experts or not picked:
        return 1.0
    share = 1 - (1 - min(1.0, picked / experts)) ** max(1.0, tokens)
    ranks = sizes.tensor_parallel_size * sizes.data_parallel_size
    if not sizes.enable_expert_parallel or ranks == 1:
        return share
    held = math.ceil(experts / ranks)
    mean = share * held
    return min(1.0, (mean + math.sqrt(2 * mean * (1 - share) * math.log(ranks))) / held)


def expert_width(model: Model, sizes: Sizes) -> float | None:
    """Columns of an expert on one rank: all of them where experts are whole; None where the model does not say it."""
    width = model.get("moe_intermediate_size")
    if not width:
        return None
    return float(
        width if sizes.enable_expert_parallel else width / (sizes.tensor_parallel_size * sizes.data_parallel_size)
    )


def expert_share(model: Model) -> float:
    """What share of the experts one token goes through."""
    experts, picked = model.get("num_experts"), model.get("num_experts_per_tok")
    return min(1.0, picked / experts) if experts and picked else 1.0


def kv_read_bytes(model: Model, sizes: Sizes, kv_bytes: float, context_tokens: int) -> float:
    """Bytes of KV cache and recurrent state that one sequence of ``context_tokens`` has read for its next token.

    A sliding window or a chunk bounds what a layer reads; a sparse-attention indexer reads its own keys of all
    tokens and then the latents of some. Layers whose sizes are not known are left out.
    """
    options = kv_cache.CacheOptions(
        tensor_parallel_size=sizes.tensor_parallel_size,
        decode_context_parallel_size=sizes.decode_context_parallel_size,
        kv_bytes=kv_bytes,
    )
    total = 0.0
    for count, entry in _attention(model):
        try:
            total += count * _layer_bytes(entry, options, context_tokens)
        except kv_cache.Unknown:
            continue
    return total


def _layer_bytes(entry: Model, options: kv_cache.CacheOptions, tokens: int) -> float:
    kind = entry.get("type")
    if kind in kv_cache.RECURRENT:
        # read and written back
        return 2.0 * kv_cache.state_bytes(entry, options)
    context = tokens / options.decode_context_parallel_size
    if kind == "mla":
        width = (entry.get("kv_lora_rank") or 0) + (entry.get("qk_rope_head_dim") or 0)
        index = entry.get("index_head_dim") or 0
        return float(context * index + (min(context, SPARSE_TOKENS) if index else context) * width * options.kv_bytes)
    heads, size = entry.get("num_kv_heads") or 0, entry.get("head_dim") or 0
    held = max(1, heads // options.tensor_parallel_size) if heads else 0
    limit = entry.get("window") or entry.get("chunk")
    seen = min(context, limit) if limit else context
    return float(seen * held * (size + (entry.get("head_dim_v") or size)) * options.kv_bytes)


def _attention(model: Model) -> Iterator[tuple[int, Model]]:
    """How many layers there are of each kind of attention. Without a list of layers all are plain attention."""
    kinds = model.get("attention") or {}
    if not model.get("layers"):
        plain = {key: model.get(key) for key in ("num_kv_heads", "head_dim", "kv_lora_rank", "qk_rope_head_dim")}
        yield int(model.get("num_layers") or 0), {"type": "mla" if model.get("mla") else "full", **plain}
        return
    for run in model["layers"]:
        if run.get("attention"):
            yield int(run["count"]), kinds.get(run["attention"]) or {}


def attention_operations(model: Model, sizes: Sizes, context_tokens: float) -> float:
    """Operations of one rank for the attention of one token that looks at ``context_tokens`` others."""
    total = 0.0
    for count, entry in _attention(model):
        heads = int(entry.get("num_heads") or model.get("num_attention_heads") or 0)
        size = int(entry.get("head_dim") or (entry.get("qk_nope_head_dim") or 0) + (entry.get("qk_rope_head_dim") or 0))
        limit = entry.get("window") or entry.get("chunk")
        if entry.get("type") == "mla":
            # a prompt's keys and values are made from the latents
            size = (
                (entry.get("qk_nope_head_dim") or model.get("qk_nope_head_dim") or 0)
                + (entry.get("qk_rope_head_dim") or 0)
                + (model.get("v_head_dim") or 0)
            ) // 2 or size
            limit = SPARSE_TOKENS if entry.get("index_head_dim") else None
        seen = min(context_tokens, limit) if limit else context_tokens
        if entry.get("type") not in kv_cache.RECURRENT:
            # two products, two operations for each multiplication
            total += count * 4 * heads * size * seen
    return total / sizes.tensor_parallel_size


def layer_counts(model: Model) -> tuple[int, int, int]:
    """(layers, layers with routed experts, blocks that end with an all-reduce under tensor parallelism)."""
    layers = int(model.get("num_layers") or 0)
    runs = model.get("layers")
    if not runs:
        return layers, layers if model.get("num_experts") else 0, 2 * layers
    moe = sum(int(run["count"]) for run in runs if run.get("feed_forward") == "moe")
    blocks = sum(int(run["count"]) * (bool(run.get("attention")) + bool(run.get("feed_forward"))) for run in runs)
    return layers, moe, blocks
