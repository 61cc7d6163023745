# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read what a person asked for: the entries of ``vllm_models``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instance_fields import (
    CHECKS,
    FIELDS,
    RESERVED_ARGUMENTS,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instance_problems import (
    DEFAULT_MASTER_PORT,
    DEFAULT_PORT,
    SECRET_NAME,
    absent,
    argument_name,
    problems,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.measured import Measured

__all__ = (
    "CHECKS",
    "FIELDS",
    "RESERVED_ARGUMENTS",
    "SECRET_NAME",
    "Instance",
    "absent",
    "argument_name",
    "arguments",
    "instances",
    "problems",
)
# Fields for which "auto" is a value of its own; elsewhere it is the absence of one
AUTO_IS_A_VALUE = frozenset({"gpus", "dtype", "kv_cache_dtype", "mamba_cache_dtype", "mamba_ssm_cache_dtype"})


@dataclass(frozen=True)
class Instance:
    """One checked entry of ``vllm_models``, with the defaults filled in.

    ``kv_cache_memory_gib`` is per rank; ``gpus`` is "auto", a count or a tuple of device indexes; ``nodes`` are
    inventory names, the head first, and empty for one host. None is what a person left to the plan or to vLLM.
    """

    name: str
    model: str
    state: str = "present"
    model_source: str | None = None
    revision: str = "main"
    gpus: str | int | tuple[int, ...] = "auto"
    objective: str = "throughput"
    min_concurrency: int = 1
    shared_gpus: bool = False
    share: float = 1.0
    targets: Mapping[str, Any] | None = None
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    nodes: tuple[str, ...] = ()
    network_interface: str | None = None
    master_port: int = DEFAULT_MASTER_PORT
    tensor_parallel_size: int | None = None
    pipeline_parallel_size: int | None = None
    data_parallel_size: int | None = None
    enable_expert_parallel: bool | None = None
    decode_context_parallel_size: int | None = None
    distributed_executor_backend: str | None = None
    dtype: str = "auto"
    quantization: str | None = None
    max_model_len: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    gpu_memory_utilization: float | None = None
    kv_cache_memory_gib: float | None = None
    kv_cache_memory_bytes: int | None = None
    kv_cache_dtype: str = "auto"
    block_size: int | None = None
    mamba_cache_dtype: str = "auto"
    mamba_ssm_cache_dtype: str = "auto"
    enable_prefix_caching: bool | None = None
    disable_hybrid_kv_cache_manager: bool | None = None
    enforce_eager: bool | None = None
    max_cudagraph_capture_size: int | None = None
    cpu_offload_gb: float | None = None
    language_model_only: bool | None = None
    limit_mm_per_prompt: Mapping[str, Any] | None = None
    mm_encoder_tp_mode: str | None = None
    speculative_config: Mapping[str, Any] | None = None
    speculative_model_config: str | None = None
    model_config: str | None = None
    weights_bytes: int | None = None
    weights_index: str | None = None
    engine_version: str | None = None
    extra_args: Mapping[str, Any] | None = None
    environment: Mapping[str, str] | None = None
    # not a field of an entry: what the fleet's receipts say (vllm_calibration)
    corrections: tuple[Measured, ...] = ()

    @property
    def origin(self) -> str:
        """Where the weights come from: "copy" (from the controller), "path" (on the host) or "hub"."""
        if self.model_source:
            return "copy"
        return "path" if self.model.startswith("/") else "hub"

    @property
    def meeting_port(self) -> int:
        """Port of the head on which the hosts of an engine over several keep watch of one another."""
        return self.master_port + 1

    @property
    def data_parallel_port(self) -> int:
        """Port of the head on which replicas on several hosts are coordinated (29550 for every engine otherwise)."""
        return self.master_port + 2

    @property
    def kv_cache_bytes(self) -> int | None:
        """The bytes of KV cache of each rank, where a person wrote them in either unit."""
        if self.kv_cache_memory_gib is not None:
            return int(self.kv_cache_memory_gib * 1024**3)
        return self.kv_cache_memory_bytes


def instances(models: Sequence[Mapping[str, Any]], model_root: str) -> list[Instance]:
    """Turn a checked ``vllm_models`` list into instances.

    ``model_root`` is the folder on the host below which a copied model goes when the entry names no path.
    An entry with ``state: absent`` gives none. Call :func:`problems` first; an entry that it objects to gives an
    undefined result here.
    """
    result = []
    for entry in models:
        if absent(entry):
            continue
        values: dict[str, Any] = {
            key: None if value == "auto" and key not in AUTO_IS_A_VALUE else value for key, value in entry.items()
        }
        for key in ("gpus", "nodes"):
            if isinstance(values.get(key), list):
                values[key] = tuple(values[key])
        values.setdefault("model", f"{model_root}/{entry['name']}")
        result.append(Instance(**values))
    return result


def wanted(
    models: Sequence[Mapping[str, Any]],
    model_root: str,
    engine_version: str | None,
    corrections: tuple[Measured, ...],
) -> list[Instance]:
    """Turn a checked ``vllm_models`` list into instances that know their release and the corrections that hold here.

    ``engine_version`` is the release of those that name none.
    """
    return [
        replace(one, engine_version=one.engine_version or engine_version, corrections=corrections)
        for one in instances(models, model_root)
    ]


def arguments(instance: Instance) -> dict[str, Any]:
    """Give the options of vllm serve that a person's fields say by themselves, dashed, without those left to vLLM.

    The port between nodes is left out on one host, and "auto" and the sizes of 1 are vLLM's own defaults. What is
    decided (sizes, devices, lengths) overrides this; ``extra_args`` come last, and no field is among them.
    """
    said: dict[str, Any] = {}
    for name, field in FIELDS.items():
        value = getattr(instance, name)
        if field.argument is None or value is None or value == "auto" or (name == "master_port" and not instance.nodes):
            continue
        if name.endswith("_parallel_size") and value == 1:
            continue
        said[field.argument] = value
    if instance.kv_cache_bytes is not None:
        said["kv-cache-memory-bytes"] = instance.kv_cache_bytes
    said.update({argument_name(key): value for key, value in (instance.extra_args or {}).items()})
    return said
