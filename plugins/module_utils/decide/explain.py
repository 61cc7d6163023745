# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say why nothing works, and what would. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import accepted, kv_cache, memory
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.choice import FEWER_SEQUENCES, Option
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instances import Instance
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.memory import Engine, Fit
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.pools import Pool
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.reasons import named
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.refusal import Refused
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.settings import Settings, gpu_of
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes

# A context shorter than this is no remedy.
LEAST_CONTEXT = 1024
# What a quantized copy weighs beside its bits: scales and zero points at a group size of 128.
QUANTIZED_OVERHEAD = 1.04
# Kinds of tensors that quantized checkpoints leave in 16 bits.
NOT_QUANTIZED = frozenset(
    ("embedding", "position_embedding", "lm_head", "norm", "router", "vision", "projector", "mtp")
)
# Refusals that say themselves what to write.
OWN_REMEDIES = ("memory_held", "utilization_too_high", "state_blocks", "kv_cache_memory_too_large")
# GPUs on one host, and hosts, that a remedy looks at.
MOST_GPUS = 16
# A step of so many tokens keeps a GPU busy (vLLM's own value on most of them, engine/arg_utils.py:2740-2790).
BATCHED_TOKENS = 2048
MOST_HOSTS = 4
CACHE_SIZES = ("kv_cache_memory_gib", "kv_cache_memory_bytes")


def quantized(model: Mapping[str, Any], bits: int) -> dict[str, Any]:
    """Describe the same model with ``bits`` bits for each weight of its linear layers."""
    weights = model.get("weights") or {}
    tensors = [
        tensor
        if tensor["kind"] in NOT_QUANTIZED
        else {**tensor, "bytes": round(tensor["parameters"] * bits / 8 * QUANTIZED_OVERHEAD)}
        for tensor in weights.get("tensors") or ()
    ]
    return {**model, "weights": {**weights, "tensors": tensors}}


def _fit(model: Mapping[str, Any], sizes: Sizes, instance: Instance, engine: Engine, pool: Pool) -> Fit | None:
    gpu = gpu_of(pool, True)
    if all(rank.kv_cache_gib <= 0 for rank in memory.accounts(model, sizes, engine, gpu)):
        return None
    try:
        found = memory.fit(model, sizes, engine, gpu, instance.max_model_len, instance.min_concurrency)
    except kv_cache.Unknown:
        return None
    # a cache of a written size is there whether it fits the GPU or not
    if instance.kv_cache_bytes and memory.start_problem(model, sizes, engine, gpu, found.account):
        return None
    least = instance.max_model_len or LEAST_CONTEXT
    return found if found.account.kv_cache_gib > 0 and found.cache.longest >= least else None


def _refused(model: Mapping[str, Any], sizes: Sizes, instance: Instance, settings: Settings, pool: Pool) -> bool:
    broken = accepted.broken(model, sizes, settings.engine, pool, instance)
    return any(one.severity == "refuse" for one in broken)


def _more_gpus(instance: Instance, model: Mapping[str, Any], settings: Settings, pool: Pool) -> Sizes | None:
    """Return the smallest sizes that would hold the model on more GPUs of this kind, over several hosts if need be."""
    sizes = [Sizes(tensor, hosts) for hosts in range(1, MOST_HOSTS + 1) for tensor in range(1, MOST_GPUS + 1)]
    for tried in sorted(sizes, key=lambda one: (one.gpus, one.pipeline_parallel_size)):
        if tried.pipeline_parallel_size > 1 and tried.tensor_parallel_size < len(pool.devices):
            continue
        if _fit(model, tried, instance, settings.engine, pool) is None:
            continue
        if not _refused(model, tried, instance, settings, pool):
            return tried
    return None


def _memory_remedies(
    instance: Instance, model: Mapping[str, Any], options: Sequence[Option], pool: Pool, settings: Settings
) -> Iterator[str]:
    """Give what would make the model fit: a spread KV cache, a shorter context, then quantization, then more GPUs."""
    yield from _spread_cache(instance, model, [option.sizes for option in options if option.fit], pool, settings)
    longest = max((option.fit.cache.longest for option in options if option.fit), default=0)
    if instance.max_model_len and LEAST_CONTEXT <= longest < instance.max_model_len:
        yield f"write max_model_len: {longest // 256 * 256 if longest > 4096 else longest} or less"
    if instance.min_concurrency > 1:
        most = max((option.fit.cache.concurrency for option in options if option.fit), default=0.0)
        if 1 <= most < instance.min_concurrency:
            yield f"write min_concurrency: {int(most)} or less"
    sized = [option.sizes for option in options if option.fit]
    yield from _open_cache(instance, model, sized, pool, settings)
    if settings.engine.max_num_batched_tokens > BATCHED_TOKENS:
        fewer_tokens = replace(settings.engine, max_num_batched_tokens=BATCHED_TOKENS)
        if instance.max_num_batched_tokens or any(_fit(model, one, instance, fewer_tokens, pool) for one in sized):
            yield f"write max_num_batched_tokens: {BATCHED_TOKENS} or less"
    yield from _fewer_sequences(instance, model, sized, pool, settings)
    bits = int((model.get("quantization_config") or {}).get("bits") or settings.engine.model_bytes * 8)
    for fewer in (8, 4):
        smaller = quantized(model, fewer)
        if fewer >= bits or not (model.get("weights") or {}).get("tensors"):
            continue
        found = next((sizes for sizes in sized if _fit(smaller, sizes, instance, settings.engine, pool)), None)
        if found:
            kind = "an FP8 or 8-bit" if fewer == 8 else "a 4-bit (AWQ, GPTQ)"
            yield f"use {kind} version of the model, which fits {found.gpus} of these"
            break
    wider = _more_gpus(instance, model, settings, pool)
    if wider and wider.pipeline_parallel_size == 1 and wider.gpus > len(pool.devices):
        yield f"use a host with {wider.gpus} GPUs of this kind (tensor_parallel_size {wider.tensor_parallel_size})"
    elif wider and wider.pipeline_parallel_size > 1:
        yield (
            f"spread it over {wider.pipeline_parallel_size} hosts with {wider.tensor_parallel_size} GPUs of this kind "
            "each ('nodes')"
        )
    else:
        yield "use GPUs with more memory"


def _open_cache(
    instance: Instance, model: Mapping[str, Any], sized: Sequence[Sizes], pool: Pool, settings: Settings
) -> Iterator[str]:
    """Give up a written size of the KV cache where what the GPU has left is enough."""
    written = next((name for name in CACHE_SIZES if getattr(instance, name) is not None), None)
    if written is None:
        return
    engine = replace(settings.engine, kv_cache_memory_bytes=None)
    opened = replace(instance, kv_cache_memory_gib=None, kv_cache_memory_bytes=None)
    if any(_fit(model, one, opened, engine, pool) for one in sized):
        yield f"leave {written} out"


def _spread_cache(
    instance: Instance, model: Mapping[str, Any], sized: Sequence[Sizes], pool: Pool, settings: Settings
) -> Iterator[str]:
    """Give the decode context parallel size that a written tensor parallel size leaves to the user."""
    if instance.decode_context_parallel_size or not instance.tensor_parallel_size:
        return
    for sizes in sized:
        for spread in range(2, sizes.tensor_parallel_size + 1):
            tried = replace(sizes, decode_context_parallel_size=spread)
            if sizes.tensor_parallel_size % spread or _refused(model, tried, instance, settings, pool):
                continue
            if _fit(model, tried, instance, settings.engine, pool):
                yield f"write decode_context_parallel_size: {spread}"
                return


def _fewer_sequences(
    instance: Instance, model: Mapping[str, Any], sized: Sequence[Sizes], pool: Pool, settings: Settings
) -> Iterator[str]:
    for fewer in FEWER_SEQUENCES:
        engine = replace(settings.engine, max_num_seqs=fewer)
        if fewer >= settings.engine.max_num_seqs:
            continue
        if any(_fit(model, sizes, instance, engine, pool) for sizes in sized):
            yield (
                f"write max_num_seqs: {fewer} in place of {settings.engine.max_num_seqs}, which frees memory of the "
                "sampler and of CUDA graphs"
            )
            return


def refusal(
    instance: Instance, model: Mapping[str, Any], options: Sequence[Option], pool: Pool, settings: Settings
) -> Refused:
    """Say why none of the ``options`` works, from the one that came closest, and what would."""
    with_fit = [option for option in options if option.fit]
    if not with_fit:
        widest = options[-1]
        faults = tuple(Refused(one.reason, one.rule_id, one.remedies) for one in widest.faults)
        return Refused(str(widest.refusal), widest.rule or "refused", widest.remedies, faults)
    closest = max(with_fit, key=_closeness)
    if closest.rule in OWN_REMEDIES:
        return Refused(str(closest.refusal), closest.rule, closest.remedies)
    return Refused(
        f"on {closest.sizes.gpus} x {pool.name or 'GPU'} ({named(closest.sizes)}) {closest.refusal}",
        closest.rule,
        lambda: _memory_remedies(instance, model, options, pool, settings),
    )


def _closeness(option: Option) -> tuple[Any, ...]:
    assert option.fit is not None
    sizes = option.sizes
    return option.fit.cache.longest, sizes.gpus, -sizes.pipeline_parallel_size, option.fit.account.kv_cache_gib
