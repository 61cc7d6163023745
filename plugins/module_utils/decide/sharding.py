# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of a model's weights lies on which rank, as vLLM 0.33.0 spreads them. Pure; sizes are bytes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Callable

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.kept import kept
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules_heads import VOCABULARY_PADDING
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes

Share = Callable[[Mapping[str, Any], Sizes], float]


def _whole(model: Mapping[str, Any], sizes: Sizes) -> float:
    return 1.0


def _tensor(model: Mapping[str, Any], sizes: Sizes) -> float:
    return 1.0 / sizes.tensor_parallel_size


def _kv_heads(model: Mapping[str, Any], sizes: Sizes) -> float:
    # fewer KV heads than ranks are copied (model_executor/layers/linear.py:1063-1071)
    heads = int(model.get("num_kv_heads") or sizes.tensor_parallel_size)
    return 1.0 / min(sizes.tensor_parallel_size, max(1, heads))


def _vocabulary(model: Mapping[str, Any], sizes: Sizes) -> float:
    # model_executor/layers/vocab_parallel_embedding.py:36,95-97,286-306
    words = int(model.get("vocab_size") or 0)
    padded = math.ceil(words / VOCABULARY_PADDING) * VOCABULARY_PADDING
    return (padded / words if words else 1.0) / sizes.tensor_parallel_size


def _padding(model: Mapping[str, Any], each: float) -> float:
    """How much longer MXFP4 experts become: kernels want sizes of whole tiles (fused_moe/oracle/mxfp4.py:837-916).

    The sizes of Marlin and TRT-LLM; logs of gpt-oss at 1, 2 and 4 ranks are within 1 % of it.
    """
    hidden, inner = int(model.get("hidden_size") or 0), (model.get("moe_intermediate_size") or 0) / each
    if model.get("quantization") not in ("mxfp4", "gpt_oss_mxfp4") or not hidden or not inner:
        return 1.0
    return math.ceil(hidden / 256) * 256 / hidden * math.ceil(inner / 128) * 128 / inner


def _experts(model: Mapping[str, Any], sizes: Sizes) -> float:
    # Experts are spread over tensor and data parallel ranks alike (fused_moe/config.py:1116-1245); with expert
    # parallelism as whole experts, so the fullest rank has the rounded-up share (expert_map_manager.py:62-79).
    ranks = sizes.tensor_parallel_size * sizes.data_parallel_size
    count = int(model.get("num_experts") or 0)
    if sizes.enable_expert_parallel and count:
        return math.ceil(count / ranks) / count * _padding(model, 1)
    return 1.0 / ranks * _padding(model, ranks)


def _vision(model: Mapping[str, Any], sizes: Sizes) -> float:
    heads = (model.get("vision") or {}).get("num_attention_heads")
    return 1.0 if heads and heads % sizes.tensor_parallel_size else 1.0 / sizes.tensor_parallel_size


def _draft(model: Mapping[str, Any], sizes: Sizes) -> float:
    # a layer for multi-token prediction is mostly experts where the last layer of the model is
    runs = model.get("layers") or ()
    return _experts(model, sizes) if runs and runs[-1].get("feed_forward") == "moe" else _tensor(model, sizes)


FIRST, LAST, LAYERS = "first stage", "last stage", "the stages of its layers"

# kind of tensor -> (its share on a rank, where it lies)
PLACES: Mapping[str, tuple[Share, str]] = {
    "embedding": (_vocabulary, FIRST),
    "position_embedding": (_whole, FIRST),
    "lm_head": (_vocabulary, LAST),
    "qkv_q": (_tensor, LAYERS),
    "qkv_kv": (_kv_heads, LAYERS),
    "attention_output": (_tensor, LAYERS),
    "mla_down": (_whole, LAYERS),
    "mla_up": (_tensor, LAYERS),
    "indexer": (_whole, LAYERS),
    "ffn_gate_up": (_tensor, LAYERS),
    "ffn_down": (_tensor, LAYERS),
    "expert_gate_up": (_experts, LAYERS),
    "expert_down": (_experts, LAYERS),
    "shared_expert_gate_up": (_tensor, LAYERS),
    "shared_expert_down": (_tensor, LAYERS),
    "router": (_whole, LAYERS),
    "norm": (_whole, LAYERS),
    "linear_attention": (_tensor, LAYERS),
    "linear_attention_replicated": (_whole, LAYERS),
    "mamba": (_tensor, LAYERS),
    "vision": (_vision, FIRST),
    "projector": (_whole, FIRST),
    "other": (_whole, LAYERS),
    "mtp": (_draft, LAST),
    "draft": (_tensor, LAST),
    "lora_whole": (_whole, LAYERS),
    "lora_split": (_tensor, LAYERS),
}
# Loaded only for speculative decoding, which marks them so (as_run.py).
NOT_LOADED = frozenset(("mtp",))


def stages(layers: int, count: int) -> list[range]:
    """Cut ``layers`` into pipeline stages as vLLM does (distributed/utils.py:198-241): [range of layers].

    A rest goes to the stages before the last, from the last but one backwards.
    """
    each, rest = divmod(layers, count)
    lengths = [each] * count
    for back in range(2, rest + 2):
        lengths[-back] += 1
    found, start = [], 0
    for length in lengths:
        found.append(range(start, start + length))
        start += length
    return found


def _shares(model: Mapping[str, Any], part: str, cut: Sequence[range]) -> dict[str, list[float]]:
    """For each key of ``part`` ("attention" or "feed_forward"), what share of its layers is on each stage."""
    counts: dict[str, list[int]] = {}
    place = 0
    for run in model.get("layers") or ():
        span = range(place, place + run["count"])
        place = span.stop
        row = counts.setdefault(str(run.get(part)), [0] * len(cut))
        for number, stage in enumerate(cut):
            row[number] += max(0, min(span.stop, stage.stop) - max(span.start, stage.start))
    return {key: [one / (sum(row) or 1) for one in row] for key, row in counts.items()}


def in_layers(model: Mapping[str, Any], sizes: Sizes) -> list[float]:
    """Bytes of one rank of each stage that lie in its layers, which can be kept in the host's memory instead."""
    tensors = (model.get("weights") or {}).get("tensors")
    if not tensors:
        return weights(model, sizes)
    inside = [one for one in tensors if PLACES.get(one["kind"], (_whole, LAYERS))[1] == LAYERS]
    return weights({**model, "weights": {"tensors": inside}}, sizes)


@kept
def weights(model: Mapping[str, Any], sizes: Sizes, whole_vision: bool = False) -> list[float]:
    """Bytes of the weights on one rank of each pipeline stage.

    ``model`` is what model_info says. Without the kinds of its tensors, all of ``weight_bytes`` is divided evenly.
    ``whole_vision`` says that each rank has the whole vision tower (mm_encoder_tp_mode "data").
    """
    count = sizes.pipeline_parallel_size
    tensors = (model.get("weights") or {}).get("tensors")
    if not tensors:
        return [(model.get("weight_bytes") or 0) / count / sizes.tensor_parallel_size] * count
    cut = stages(int(model.get("num_layers") or 0), count)
    by_layer = {**_shares(model, "attention", cut), **_shares(model, "feed_forward", cut)}
    even = [len(stage) / (cut[-1].stop or 1) for stage in cut]
    found = [0.0] * count
    for tensor in tensors:
        if tensor["kind"] in NOT_LOADED and not tensor.get("loaded"):
            continue
        share, place = PLACES.get(tensor["kind"], (_whole, LAYERS))
        if whole_vision and tensor["kind"] == "vision":
            share = _whole
        size = tensor["bytes"] * share(model, sizes)
        if place == LAYERS:
            for number, part in enumerate(by_layer.get(str(tensor.get("layer")), even)):
                found[number] += size * part
        else:
            found[0 if place == FIRST else -1] += size
        # a tied head is the embedding once more on the last stage
        if tensor["kind"] == "embedding" and model.get("tie_word_embeddings") and count > 1:
            found[-1] += size
    return found
