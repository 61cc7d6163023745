# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decide how each instance of a host is run: sizes, devices, options and environment of vllm serve."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import constraints
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instances import Instance, argument_name

MIB_PER_GIB = 1024
# config/cache.py:215 of vLLM 0.33.0
GPU_MEMORY_UTILIZATION = 0.92
# Of the budget, what is kept for activations, CUDA graphs and a KV cache. A rule of thumb, not a measurement.
BUDGET_FOR_THE_REST = 0.15
# On a CPU host, what of the memory all instances together may take for KV cache, and what one rank gets at most.
CPU_MEMORY_SHARE = 0.5
CPU_KV_CACHE_MOST_GIB = 4.0
CPU_KV_CACHE_LEAST_GIB = 0.25
# bfloat16 needs compute capability 8.0 (platforms/cuda.py:638-656 of vLLM 0.33.0)
BFLOAT16_CAPABILITY = 8.0
# The types of RoPE scaling that make no context longer than max_position_embeddings (config/model.py:2545-2684)
ROPE_WITHOUT_LENGTH = (None, "default", "mrope", "llama3", "longrope", "su")


@dataclass(frozen=True)
class Rejection:
    """Why there is no layout, and what would make one possible, best first."""

    reason: str
    remedies: tuple[str, ...] = ()

    def sentence(self, name: str) -> str:
        """Say it as one line that names the instance."""
        remedy = "; or ".join(self.remedies)
        return f"{name}: {self.reason}." + (f" {remedy[0].upper()}{remedy[1:]}." if remedy else "")


class Refused(Exception):
    """Carries a :class:`Rejection` out of a decision."""

    def __init__(self, reason: str, *remedies: str) -> None:
        super().__init__(reason)
        self.rejection = Rejection(reason, remedies)


@dataclass
class Layout:
    """How one instance runs. Sizes are counts of ranks; ``devices`` are GPU indexes, empty on a CPU host."""

    name: str
    unit: str
    model: str
    model_source: str | None
    origin: str
    revision: str
    host: str
    port: int
    accelerator: str
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    devices: list[int] = field(default_factory=list)
    serve_args: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    rejected: str | None = None


def _gib(mebibytes: float) -> float:
    return round(mebibytes / MIB_PER_GIB, 1)


def _weights_mib(model: Mapping[str, Any]) -> float | None:
    size = model.get("weight_bytes")
    return None if size is None else size / 1024**2


def _check_tensor_parallel(model: Mapping[str, Any], size: int, most: int) -> None:
    rules = constraints.broken(model, size)
    if not rules:
        return
    legal = [other for other in constraints.legal_sizes(model, most) if other != size]
    sizes = ", ".join(str(other) for other in legal)
    raise Refused(
        f"tensor_parallel_size {size} does not divide the model, which has {constraints.say(model, rules)}",
        f"write one of the sizes that work here: {sizes}" if legal else "use another model",
    )


def _unknown_rules(model: Mapping[str, Any]) -> list[str]:
    if model.get("num_attention_heads") is None:
        return ["The model's config.json names no attention heads; whether it can be divided was not checked."]
    return []


def _cpu_cores(gpu_facts: Mapping[str, Any]) -> list[int]:
    return sorted(core for node in gpu_facts.get("numa_nodes") or [] for core in node.get("cpus") or [])


def _groups_of(cores: Sequence[int], count: int) -> list[list[int]]:
    """Cut the cores into ``count`` runs of equal length; a rest stays with the system."""
    each = len(cores) // count
    return [list(cores[rank * each : (rank + 1) * each]) for rank in range(count)]


def _cpu(layout: Layout, instance: Instance, model: Mapping[str, Any], facts: Mapping[str, Any], peers: int) -> None:
    ranks = layout.tensor_parallel_size * layout.pipeline_parallel_size
    cores = _cpu_cores(facts)
    if ranks > len(cores):
        raise Refused(
            f"{ranks} ranks need {ranks} CPU cores and this host has {len(cores)}",
            f"write tensor_parallel_size and pipeline_parallel_size with a product of at most {len(cores)}",
        )
    if instance.gpus != "auto":
        raise Refused("'gpus' is written and this host has no GPU", "leave 'gpus' out")
    groups = _groups_of(cores, ranks)
    # vLLM binds ranks to NUMA nodes and refuses more ranks than nodes; explicit cores lift that
    # (utils/ompmultiprocessing.py:25-299).
    layout.environment["VLLM_CPU_OMP_THREADS_BIND"] = "|".join(",".join(map(str, group)) for group in groups)
    layout.reasons.append(f"{ranks} rank(s) on {len(cores)} CPU cores, {len(groups[0])} each.")
    kv_cache_gib = instance.kv_cache_memory_gib
    if kv_cache_gib is None:
        memory = facts.get("memory_total_mib")
        if not memory:
            raise Refused(
                "the host's memory is unknown, so its KV cache cannot be sized",
                "write kv_cache_memory_gib (per rank)",
            )
        share = memory * CPU_MEMORY_SHARE / peers - (_weights_mib(model) or 0)
        kv_cache_gib = math.floor(min(CPU_KV_CACHE_MOST_GIB, share / ranks / MIB_PER_GIB) * 100) / 100
        if kv_cache_gib < CPU_KV_CACHE_LEAST_GIB:
            raise Refused(
                f"half of the host's {_gib(memory)} GiB of memory, shared by {peers} instance(s), leaves no room "
                f"for a KV cache beside {_gib(_weights_mib(model) or 0)} GiB of weights",
                "use a host with more memory",
                "write kv_cache_memory_gib (per rank)",
            )
        layout.reasons.append(
            f"KV cache of {kv_cache_gib} GiB per rank; left alone, every rank would take 92 % of its NUMA node."
        )
    layout.serve_args["kv-cache-memory-bytes"] = int(kv_cache_gib * 1024**3)
    if layout.pipeline_parallel_size > 1:
        layout.warnings.append(
            "Pipeline parallelism over CPU ranks turned healthy and died on its first request in vLLM 0.32; "
            "the warm-up will tell."
        )


def _identical(devices: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """Sort devices into groups of one name, memory and compute capability, the largest group first."""
    kinds: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for device in devices:
        kind = (device.get("name"), device.get("memory_total_mib"), device.get("compute_capability"))
        kinds.setdefault(kind, []).append(device)
    return sorted(kinds.values(), key=lambda group: (-len(group), group[0]["index"]))


def _chosen_devices(instance: Instance, free: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the devices that an instance may use; more than it needs when ``gpus`` is auto."""
    if isinstance(instance.gpus, tuple):
        by_index = {device["index"]: device for device in free}
        missing = [index for index in instance.gpus if index not in by_index]
        if missing:
            raise Refused(
                f"GPU {', '.join(map(str, missing))} is not there or belongs to an earlier instance",
                f"choose 'gpus' from {sorted(by_index)}",
            )
        chosen = [by_index[index] for index in instance.gpus]
        if len(_identical(chosen)) > 1:
            raise Refused("the GPUs written in 'gpus' are not all of one kind", "choose GPUs of one model and memory")
        return chosen
    groups = _identical(free)
    most = groups[0] if groups else []
    if isinstance(instance.gpus, int):
        if instance.gpus > len(most):
            raise Refused(
                f"{instance.gpus} GPUs of one kind are asked for and {len(most)} are free",
                f"write 'gpus: {len(most)}' or less" if most else "remove an instance from this host",
            )
        return most[: instance.gpus]
    return most


def _fits(model: Mapping[str, Any], device: Mapping[str, Any], ranks: int, utilization: float) -> bool | None:
    """Tell whether a rank's share of the weights leaves room; None when a number is unknown."""
    weights, memory = _weights_mib(model), device.get("memory_total_mib")
    if weights is None or not memory:
        return None
    return weights / ranks <= memory * utilization * (1 - BUDGET_FOR_THE_REST)


def _tensor_parallel_size(
    instance: Instance, model: Mapping[str, Any], devices: Sequence[Mapping[str, Any]], layout: Layout
) -> int:
    most = len(devices) // instance.pipeline_parallel_size
    legal = constraints.legal_sizes(model, most)
    if isinstance(instance.gpus, (int, tuple)):
        if len(devices) % instance.pipeline_parallel_size:
            raise Refused(
                f"{len(devices)} GPUs cannot be cut into {instance.pipeline_parallel_size} pipeline stages",
                "make pipeline_parallel_size a divisor of the number of GPUs",
            )
        _check_tensor_parallel(model, most, most)
        layout.reasons.append(f"tensor_parallel_size {most}: all of the GPUs written in 'gpus'.")
        return most
    utilization = instance.gpu_memory_utilization or GPU_MEMORY_UTILIZATION
    for size in legal:
        fits = _fits(model, devices[0], size * instance.pipeline_parallel_size, utilization)
        if fits is None:
            raise Refused(
                "the size of the weights or the memory of the GPUs is unknown, so the number of GPUs cannot be chosen",
                "write tensor_parallel_size",
            )
        if fits:
            layout.reasons.append(
                f"tensor_parallel_size {size}: the fewest GPUs whose memory holds {_gib(_weights_mib(model) or 0)} GiB "
                f"of weights with {BUDGET_FOR_THE_REST:.0%} of the budget to spare (an estimate)."
            )
            return size
    raise Refused(
        f"{_gib(_weights_mib(model) or 0)} GiB of weights do not fit {len(devices)} free GPU(s) of "
        f"{_gib(devices[0].get('memory_total_mib') or 0)} GiB at any size the model divides by ({legal})",
        "use a quantized model",
        "use a host with more GPU memory",
    )


def _cuda(layout: Layout, instance: Instance, model: Mapping[str, Any], free: list[Mapping[str, Any]]) -> None:
    devices = _chosen_devices(instance, free)
    if not devices:
        raise Refused("no GPU is free for it", "remove an instance from this host")
    stages = instance.pipeline_parallel_size
    if stages > len(devices):
        raise Refused(
            f"pipeline_parallel_size {stages} needs {stages} GPUs of one kind and {len(devices)} are free",
            "write a smaller pipeline_parallel_size",
        )
    if instance.tensor_parallel_size is None:
        layout.tensor_parallel_size = _tensor_parallel_size(instance, model, devices, layout)
    ranks = layout.tensor_parallel_size * stages
    if ranks > len(devices):
        raise Refused(
            f"tensor_parallel_size {layout.tensor_parallel_size} x pipeline_parallel_size {stages} needs {ranks} "
            f"GPUs of one kind and {len(devices)} are free",
            f"write sizes with a product of at most {len(devices)}",
        )
    if instance.gpus != "auto" and ranks < len(devices):
        raise Refused(
            f"'gpus' gives it {len(devices)} GPUs and tensor_parallel_size {layout.tensor_parallel_size} x "
            f"pipeline_parallel_size {stages} uses {ranks}",
            "make the product as many as the GPUs",
            "leave one of them out",
        )
    if _fits(model, devices[0], ranks, instance.gpu_memory_utilization or GPU_MEMORY_UTILIZATION) is False:
        layout.warnings.append("By the estimate the weights leave too little memory for a KV cache on these GPUs.")
    _cuda_dtype(layout, instance, model, devices[0])
    taken = devices[:ranks]
    layout.devices = [device["index"] for device in taken]
    for device in taken:
        free.remove(device)
    layout.serve_args["device-ids"] = ",".join(map(str, layout.devices))
    # nvidia-smi's order; CUDA's own default is fastest first.
    layout.environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    if instance.kv_cache_memory_gib:
        layout.serve_args["kv-cache-memory-bytes"] = int(instance.kv_cache_memory_gib * 1024**3)


def _cuda_dtype(layout: Layout, instance: Instance, model: Mapping[str, Any], device: Mapping[str, Any]) -> None:
    capability = device.get("compute_capability")
    if capability is None or float(capability) >= BFLOAT16_CAPABILITY:
        return
    if instance.dtype == "bfloat16":
        raise Refused(
            f"dtype bfloat16 needs compute capability {BFLOAT16_CAPABILITY} and {device.get('name')} has {capability}",
            "write dtype: float16, or leave it out",
        )
    if instance.dtype == "auto" and model.get("dtype") in ("bfloat16", None):
        layout.serve_args["dtype"] = "float16"
        layout.reasons.append(f"float16, because compute capability {capability} has no bfloat16.")


def _plain_arguments(instance: Instance, revision: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "model": instance.model,
        "served-model-name": [instance.name],
        "host": instance.host,
        "port": instance.port,
        "max-model-len": instance.max_model_len,
        "max-num-seqs": instance.max_num_seqs,
        "max-num-batched-tokens": instance.max_num_batched_tokens,
        "gpu-memory-utilization": instance.gpu_memory_utilization,
        "dtype": None if instance.dtype == "auto" else instance.dtype,
        "revision": revision if instance.origin == "hub" else None,
    }
    arguments.update({argument_name(key): value for key, value in (instance.extra_args or {}).items()})
    return {key: value for key, value in arguments.items() if value is not None}


def _check_length(instance: Instance, model: Mapping[str, Any]) -> None:
    longest = model.get("max_model_len")
    lengthened = model.get("rope_scaling") not in ROPE_WITHOUT_LENGTH
    if instance.max_model_len and longest and instance.max_model_len > longest and not lengthened:
        raise Refused(
            f"max_model_len {instance.max_model_len} is longer than the {longest} tokens the model was made for",
            f"write max_model_len: {longest} or less, or auto",
        )


def _layout(
    instance: Instance,
    model: Mapping[str, Any],
    facts: Mapping[str, Any],
    free: list[Mapping[str, Any]],
    peers: int,
) -> Layout:
    accelerator = str(facts.get("accelerator"))
    revision = str(model.get("revision") or instance.revision)
    layout = Layout(
        name=instance.name,
        unit=f"vllm@{instance.name}.service",
        model=instance.model,
        model_source=instance.model_source,
        origin=instance.origin,
        revision=revision,
        host=instance.host,
        port=instance.port,
        accelerator=accelerator,
        tensor_parallel_size=instance.tensor_parallel_size or 1,
        pipeline_parallel_size=instance.pipeline_parallel_size,
        serve_args=_plain_arguments(instance, revision),
        warnings=_unknown_rules(model),
    )
    try:
        if model.get("problem"):
            raise Refused(str(model["problem"]).rstrip("."))
        if facts.get("state") != "ready":
            raise Refused(f"the GPUs of this host cannot be used: {str(facts.get('message')).rstrip('.')}")
        if instance.tensor_parallel_size:
            most = len(free) if accelerator == "cuda" else len(_cpu_cores(facts))
            _check_tensor_parallel(model, instance.tensor_parallel_size, most)
        _check_length(instance, model)
        if accelerator == "cpu":
            _cpu(layout, instance, model, facts, peers)
        elif accelerator == "cuda":
            _cuda(layout, instance, model, free)
        else:
            raise Refused(f"there are no layouts yet for hosts of the kind '{accelerator}'")
    except Refused as refused:
        layout.rejected = refused.rejection.sentence(instance.name)
        return layout
    layout.serve_args["tensor-parallel-size"] = layout.tensor_parallel_size
    layout.serve_args["pipeline-parallel-size"] = layout.pipeline_parallel_size
    layout.environment.update({key: _text(value) for key, value in (instance.environment or {}).items()})
    return layout


def _text(value: object) -> str:
    # YAML's true is what vLLM's environment reads as 1
    return str(int(value)) if isinstance(value, bool) else str(value)


def layouts(
    wanted: Sequence[Instance], facts: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Decide a layout for every instance of one host, in order; earlier instances choose their GPUs first.

    ``facts`` is ``gpu_facts`` of the host, ``models`` maps an instance's name to its ``model_facts`` (or to
    ``{"problem": sentence}``). An instance that cannot run has ``rejected`` set to a sentence. MIG devices are left
    out.
    """
    free = [device for device in facts.get("devices") or [] if not device.get("mig_devices")]
    return [asdict(_layout(one, models.get(one.name, {}), facts, free, len(wanted))) for one in wanted]
