# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say why a layout is what it is, what else was possible, and what would make an impossible one possible. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import accepted, kv_cache, memory, speed
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.choice import FEWER_SEQUENCES, LOAD_TOKENS, Option
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instances import Instance
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.memory import Engine, Fit
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.pools import Pool
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
MOST_ALTERNATIVES = 6
# GPUs on one host, and hosts, that a remedy looks at.
MOST_GPUS = 16
MOST_HOSTS = 4
# Predictions of the KV cache are off by this much at most in nine of ten cases (make accuracy).
CLOSE = 0.08


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
    try:
        found = memory.fit(model, sizes, engine, gpu_of(pool, True), instance.max_model_len, instance.min_concurrency)
    except kv_cache.Unknown:
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
    """Give what would make the model fit: a shorter context, then quantization, then more GPUs."""
    longest = max((option.fit.cache.longest for option in options if option.fit), default=0)
    if instance.max_model_len and LEAST_CONTEXT <= longest < instance.max_model_len:
        yield f"write max_model_len: {longest // 256 * 256 if longest > 4096 else longest} or less"
    sized = [option.sizes for option in options if option.fit]
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
        return Refused(str(widest.refusal), widest.rule or "refused", widest.remedies)
    closest = max(with_fit, key=_closeness)
    if closest.rule in ("memory_held", "utilization_too_high"):
        return Refused(str(closest.refusal), closest.rule, closest.remedies)
    return Refused(
        f"on {closest.sizes.gpus} x {pool.name or 'GPU'} ({_sizes(closest.sizes)}) {closest.refusal}",
        closest.rule,
        tuple(_memory_remedies(instance, model, options, pool, settings)),
    )


def _closeness(option: Option) -> tuple[Any, ...]:
    assert option.fit is not None
    sizes = option.sizes
    return option.fit.cache.longest, sizes.gpus, -sizes.pipeline_parallel_size, option.fit.account.kv_cache_gib


def _sizes(sizes: Sizes) -> str:
    parts = [f"tensor_parallel_size {sizes.tensor_parallel_size}"]
    if sizes.pipeline_parallel_size > 1:
        parts.append(f"pipeline_parallel_size {sizes.pipeline_parallel_size}")
    if sizes.data_parallel_size > 1:
        parts.append(f"data_parallel_size {sizes.data_parallel_size}")
    if sizes.enable_expert_parallel:
        parts.append("enable_expert_parallel")
    return ", ".join(parts)


def reasons(instance: Instance, option: Option, replicas: int, settings: Settings, pool: Pool) -> list[str]:
    """Say why an option was taken, and what its memory account is."""
    sizes, fit, engine = option.sizes, option.fit, option.engine
    assert engine is not None and option.place is not None
    found = [_size_reason(instance, option)]
    if sizes.tensor_parallel_size > 1 and option.place.link:
        found.append(f"The ranks of a tensor parallel group talk over {_link(option.place.link)}.")
    if fit is None:
        return found
    if replicas > 1:
        found.append(
            f"{replicas} replicas (data_parallel_size {replicas}) on {replicas * sizes.gpus} GPUs behind one port: for "
            "throughput, replicas do more than a wider engine."
        )
    found.append(_memory_reason(engine, fit.account))
    if math.isfinite(fit.cache.concurrency):
        found.append(
            f"The KV cache holds {fit.cache.tokens} tokens: {fit.cache.concurrency:.2f} requests of "
            f"{fit.max_model_len} tokens at once."
        )
    if engine.max_num_seqs < settings.engine.max_num_seqs:
        found.append(
            f"max_num_seqs {engine.max_num_seqs} instead of {settings.engine.max_num_seqs}: what sampling and CUDA "
            "graphs take grows with it, and here the KV cache needs it."
        )
    if option.estimate:
        found.append(
            f"Estimate: {option.estimate.decode_tokens_per_second:.0f} tokens per second for one request alone, "
            f"{option.estimate.throughput_tokens_per_second:.0f} for {'each replica' if replicas > 1 else 'all'} at "
            f"full load with requests of {min(LOAD_TOKENS, fit.max_model_len)} tokens."
        )
    if pool.left_out:
        found.append(f"Not used: {'; '.join(pool.left_out)}.")
    return found


def _memory_reason(engine: Engine, account: memory.Account) -> str:
    graphs = account.cuda_graphs_gib if engine.subtracts_cuda_graphs else 0.0
    return (
        f"Of the {account.budget_gib:.1f} GiB that vLLM may use of each GPU, weights take {account.weights_gib:.1f}, "
        f"activation {account.activation_gib:.1f}, CUDA graphs {graphs:.1f}, memory outside of PyTorch "
        f"{account.non_torch_gib:.1f}; {account.kv_cache_gib:.1f} are left for the KV cache (predicted)."
    )


def _size_reason(instance: Instance, option: Option) -> str:
    sizes = option.sizes
    if instance.gpus != "auto":
        return f"{_sizes(sizes)}: all of the GPUs written in 'gpus'."
    if instance.tensor_parallel_size and instance.pipeline_parallel_size:
        return f"{_sizes(sizes)}: as written."
    if instance.objective == "latency":
        return f"{_sizes(sizes)}: the widest group that still shortens a token, by the estimate."
    length = instance.max_model_len
    asked = f"a request of {length} tokens" if length else "a useful context"
    return f"{_sizes(sizes)}: the fewest GPUs that hold the weights and {asked}."


def _link(name: str) -> str:
    return {
        "nvlink": "NVLink",
        "xgmi": "Infinity Fabric",
        "pcie_switch": "PCIe, through a switch",
        "pcie_host": "PCIe, through the processor",
        "pcie_cross_numa": "PCIe, and the link between the processors",
        "pcie": "PCIe (assumed)",
        "network": "the network between the hosts",
    }.get(name, name)


def warnings(instance: Instance, option: Option) -> list[str]:
    """Say what may go wrong with an option that was taken."""
    found = [Refused(one.rstrip("."), "").sentence() for one in option.warnings]
    fit = option.fit
    asked = instance.max_model_len
    if fit and asked and math.isfinite(fit.cache.concurrency) and fit.cache.longest < asked * (1 + CLOSE):
        found.append(
            f"The KV cache holds max_model_len {asked} with less to spare than predictions are off by; it may turn out "
            "too small when vLLM starts."
        )
    return found


def capacity(cache: kv_cache.Cache) -> tuple[int | None, float | None]:
    """Give tokens and concurrency as vLLM logs them; None each for a model without a KV cache."""
    if math.isinf(cache.concurrency):
        return None, None
    return cache.tokens, round(cache.concurrency, 2)


def account_of(fit: Fit) -> dict[str, float]:
    """Give the memory account of the poorest rank in GiB, rounded to 1/1000."""
    return {key: round(value, 3) for key, value in asdict(fit.account).items()}


def alternatives(options: Sequence[Option], taken: Option, objective: str) -> list[dict[str, Any]]:
    """List what else was tried, the nearest first, and why it was not taken."""
    others = [option for option in options if option.sizes != taken.sizes]
    near = sorted(
        others,
        key=lambda option: (
            not option.works,
            option.fit is None,
            abs(option.sizes.gpus - taken.sizes.gpus),
            _order(option),
        ),
    )
    return [_alternative(option, taken, objective) for option in near[:MOST_ALTERNATIVES]]


def _order(option: Option) -> tuple[Any, ...]:
    sizes = option.sizes
    return (
        sizes.pipeline_parallel_size,
        sizes.data_parallel_size,
        sizes.enable_expert_parallel,
        sizes.tensor_parallel_size,
    )


def _alternative(option: Option, taken: Option, objective: str) -> dict[str, Any]:
    fit, sizes = option.fit, option.sizes
    tokens, concurrency = capacity(fit.cache) if fit else (None, None)
    return {
        "tensor_parallel_size": sizes.tensor_parallel_size,
        "pipeline_parallel_size": sizes.pipeline_parallel_size,
        "data_parallel_size": sizes.data_parallel_size,
        "enable_expert_parallel": sizes.enable_expert_parallel,
        "devices_count": sizes.gpus,
        "max_model_len": fit.max_model_len if fit else None,
        "kv_cache_tokens": tokens,
        "max_concurrency": concurrency,
        "memory": account_of(fit) if fit else None,
        "estimate": estimate_of(option),
        "why_not": option.refusal or _slower(option, taken, objective),
    }


def _slower(option: Option, taken: Option, objective: str) -> str:
    if objective == "throughput" and option.sizes.gpus > taken.sizes.gpus:
        return f"takes {option.sizes.gpus} GPUs where {taken.sizes.gpus} do"
    if not option.estimate or not taken.estimate:
        return "gives no more for its GPUs"
    if objective == "latency":
        return (
            f"a token takes {option.estimate.decode_ms:.1f} ms, and {taken.estimate.decode_ms:.1f} ms in the layout "
            "taken (estimate)"
        )
    return (
        f"{option.estimate.throughput_tokens_per_second:.0f} tokens per second and "
        f"{taken.estimate.throughput_tokens_per_second:.0f} in the layout taken (estimate)"
    )


def estimate_of(option: Option) -> dict[str, Any] | None:
    """Give the estimate of speed as the report says it; None where the GPU is not known."""
    estimate = option.estimate
    if estimate is None:
        return None
    return {
        "decode_ms": round(estimate.decode_ms, 2),
        "decode_tokens_per_second": round(estimate.decode_tokens_per_second, 1),
        "throughput_tokens_per_second": round(estimate.throughput_tokens_per_second, 1),
        "prefill_ms_per_1k": round(estimate.prefill_ms_per_1k, 2),
        "parts": {key: round(value, 3) for key, value in estimate.parts.items()},
        "label": "estimate",
        **speed.reported(estimate),
    }
