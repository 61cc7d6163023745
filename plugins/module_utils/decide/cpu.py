# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decide how an instance runs on the cores of a host without a GPU. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import kv_cache
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instances import Instance
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.refusal import Refused

MIB_PER_GIB = 1024
# Of the host's memory, what all instances together may take for KV cache, and what one rank gets at most.
MEMORY_SHARE = 0.5
KV_CACHE_MOST_GIB = 4.0
KV_CACHE_LEAST_GIB = 0.25
# v1/attention/backends/cpu_attn.py of vLLM 0.33.0; latent caches keep 16
BLOCK_SIZE = 128


@dataclass(frozen=True)
class CpuPlan:
    """Cores by rank, KV cache in GiB by rank, and what it holds (None where the model does not say)."""

    cores: tuple[tuple[int, ...], ...]
    kv_cache_gib: float
    cache: kv_cache.Cache | None
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def threads_bind(self) -> str:
        """Value of VLLM_CPU_OMP_THREADS_BIND: vLLM binds ranks to NUMA nodes and refuses more ranks than nodes;
        explicit cores lift that (utils/ompmultiprocessing.py:25-299 of vLLM 0.33.0).
        """
        return "|".join(",".join(map(str, group)) for group in self.cores)


def cpu_cores(gpu_facts: Mapping[str, Any]) -> list[int]:
    """List the cores of a host."""
    return sorted(core for node in gpu_facts.get("numa_nodes") or [] for core in node.get("cpus") or [])


def _groups_of(cores: Sequence[int], count: int) -> tuple[tuple[int, ...], ...]:
    """Cut the cores into ``count`` runs of equal length; a rest stays with the system."""
    each = len(cores) // count
    return tuple(tuple(cores[rank * each : (rank + 1) * each]) for rank in range(count))


def _kv_cache_gib(
    instance: Instance, model: Mapping[str, Any], facts: Mapping[str, Any], peers: int, hosts: int
) -> float:
    memory = facts.get("memory_total_mib")
    if not memory:
        raise Refused(
            "the host's memory is unknown, so its KV cache cannot be sized",
            "memory_unknown",
            ("write kv_cache_memory_gib (per rank)",),
        )
    ranks = _ranks(instance, hosts)
    weights_mib = (model.get("weight_bytes") or 0) / hosts / 1024**2
    share = memory * MEMORY_SHARE / peers - weights_mib
    size = math.floor(min(KV_CACHE_MOST_GIB, share / ranks / MIB_PER_GIB) * 100) / 100
    if size < KV_CACHE_LEAST_GIB:
        raise Refused(
            f"half of the host's {memory / MIB_PER_GIB:.1f} GiB of memory, shared by {peers} instance(s), leaves no "
            f"room for a KV cache beside {weights_mib / MIB_PER_GIB:.1f} GiB of weights",
            "out_of_memory",
            ("use a host with more memory", "write kv_cache_memory_gib (per rank)"),
        )
    return size


def _ranks(instance: Instance, hosts: int) -> int:
    """Ranks on each of the hosts."""
    return (instance.tensor_parallel_size or 1) * (instance.pipeline_parallel_size or 1) // hosts


def _sized(instance: Instance, model: Mapping[str, Any], kv_gib: float, ranks: int) -> kv_cache.Cache | None:
    """Size the cache of an engine; None where the model's configuration says too little."""
    length = instance.max_model_len or model.get("max_model_len")
    if not length or instance.pipeline_parallel_size not in (None, 1):
        return None
    options = kv_cache.CacheOptions(
        tensor_parallel_size=ranks, block_size=kv_cache.BLOCK_SIZE if model.get("mla") else BLOCK_SIZE
    )
    try:
        groups = kv_cache.groups_of(model, options)
    except kv_cache.Unknown:
        return None
    layers = [range(int(model.get("num_layers") or 0))]
    return kv_cache.sized(groups, layers, [kv_gib * 1024**3], int(length), int(length), options)


def plan(instance: Instance, model: Mapping[str, Any], facts: Mapping[str, Any], peers: int, hosts: int = 1) -> CpuPlan:
    """Decide cores and KV cache of an instance on one of ``hosts``, beside ``peers`` - 1 others.

    Raises :class:`Refused`.
    """
    ranks = _ranks(instance, hosts)
    cores = cpu_cores(facts)
    if ranks > len(cores):
        raise Refused(
            f"{ranks} ranks need {ranks} CPU cores and this host has {len(cores)}",
            "too_few_cores",
            (f"write tensor_parallel_size and pipeline_parallel_size with a product of at most {len(cores)}",),
        )
    if instance.gpus != "auto":
        raise Refused("'gpus' is written and this host has no GPU", "no_gpu", ("leave 'gpus' out",))
    groups = _groups_of(cores, ranks)
    reasons = [f"{ranks} rank(s) on {len(cores)} CPU cores, {len(groups[0])} each."]
    size = instance.kv_cache_memory_gib
    if size is None:
        size = _kv_cache_gib(instance, model, facts, peers, hosts)
        reasons.append(f"KV cache of {size} GiB per rank; left alone, every rank would take 92 % of its NUMA node.")
    warnings = []
    if (instance.pipeline_parallel_size or 1) > 1:
        warnings.append(
            "Pipeline parallelism over CPU ranks turned healthy and died on its first request in vLLM 0.32; "
            "the warm-up will tell."
        )
    return CpuPlan(groups, size, _sized(instance, model, size, ranks * hosts), tuple(reasons), tuple(warnings))
