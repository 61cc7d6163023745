# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Resolve what a person left open of an engine's settings, as vLLM of the asked release would. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import engine_versions, kv_cache, measured
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instances import Instance, argument_name
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.memory import Engine, Gpu
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.pools import Pool
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules import DTYPES
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules_precision import NO_FLOAT16

MIB_PER_GIB = 1024
# platforms/cuda.py:638-656 of vLLM 0.33.0
BFLOAT16_CAPABILITY = 8.0


@dataclass(frozen=True)
class Settings:
    """An engine's settings and the type it computes in. ``chosen_seqs`` says that a person wrote max_num_seqs."""

    engine: Engine
    dtype: str
    chosen_seqs: bool


def capability_of(pool: Pool) -> float:
    """Compute capability as a number; 0 where it is not known."""
    try:
        return float(pool.compute_capability or 0)
    except ValueError:
        return 0.0


def gpu_of(pool: Pool, fast_links: bool) -> Gpu:
    """Say what the poorest GPU of a pool offers. Raises :class:`kv_cache.Unknown` without a memory size."""
    if not pool.memory_total_mib:
        unified = measured.unified_mib(pool.name)
        if not unified:
            raise kv_cache.Unknown("the memory of the GPUs", "see what gpu_info says of this host")
        return Gpu(unified / MIB_PER_GIB, unified / MIB_PER_GIB, capability_of(pool), fast_links)
    visible = measured.visible_mib(pool.name, pool.memory_total_mib, pool.memory_reserved_mib)
    free = min(visible, pool.memory_free_mib or visible)
    return Gpu(
        memory_gib=visible / MIB_PER_GIB,
        free_gib=free / MIB_PER_GIB,
        # AMD's cards have kernels of their own; the measured numbers of old NVIDIA cards do not apply
        capability=capability_of(pool) or 9.0,
        fast_links=fast_links,
    )


def computed_dtype(asked: str, model: Mapping[str, Any], capability: float) -> str:
    """Name the type that weights and activations have (config/model.py:2423-2464, platforms/cuda.py:257-266)."""
    if asked != "auto":
        return DTYPES.get(asked, asked)
    stored = model.get("dtype")
    if model.get("model_type") in NO_FLOAT16:
        return "float32" if 0 < capability < BFLOAT16_CAPABILITY else "bfloat16"
    modern = "bfloat16" if capability >= BFLOAT16_CAPABILITY or not capability else "float16"
    if stored in (None, "float32", "bfloat16"):
        return modern
    return str(stored)


def option(instance: Instance, name: str, default: Any = None) -> Any:
    """Return a vllm serve option of an entry, written as a field or under ``extra_args``."""
    value = getattr(instance, name, None)
    if value is not None:
        return value
    for key, found in (instance.extra_args or {}).items():
        if argument_name(key) == argument_name(name):
            return found
    return default


def _kv_bytes(instance: Instance, model: Mapping[str, Any], model_bytes: float) -> float:
    asked = option(instance, "kv_cache_dtype", "auto")
    if asked == "auto":
        # a checkpoint with a KV scheme of its own (utils/torch_utils.py:498-516)
        asked = (model.get("quantization_config") or {}).get("kv_cache_dtype")
    return kv_cache.dtype_bytes(str(asked)) if asked else model_bytes


def _model_runner(
    version: engine_versions.EngineVersion, instance: Instance, model: Mapping[str, Any], accelerator: str
) -> int:
    written = (instance.environment or {}).get("VLLM_USE_V2_MODEL_RUNNER")
    if written is not None:
        return 2 if str(written) in ("1", "True", "true") else 1
    kinds = {entry.get("type") for entry in (model.get("attention") or {}).values()}
    return version.model_runner(
        model.get("architectures") or (),
        moe=bool(model.get("is_moe")),
        quantized=bool(model.get("quantization")),
        hybrid=bool(kinds & kv_cache.RECURRENT) and bool(kinds - kv_cache.RECURRENT),
        pooling=model.get("runner") == "pooling",
        accelerator=accelerator,
    )


def resolve(instance: Instance, model: Mapping[str, Any], pool: Pool, accelerator: str, ranks: int = 1) -> Settings:
    """Resolve an entry's settings for a kind of GPU; ``ranks`` of one engine, which defaults may depend on."""
    version = engine_versions.of(instance.engine_version)
    tokens, sequences = engine_versions.default_batch(
        version.version, pool.name, pool.memory_total_mib or measured.unified_mib(pool.name), accelerator, ranks
    )
    dtype = computed_dtype(instance.dtype, model, capability_of(pool))
    model_bytes = kv_cache.dtype_bytes(dtype)
    tokens = option(instance, "max_num_batched_tokens") or tokens
    engine = Engine(
        version=version,
        gpu_memory_utilization=float(option(instance, "gpu_memory_utilization") or version.gpu_memory_utilization),
        max_num_batched_tokens=int(tokens),
        max_num_seqs=min(int(option(instance, "max_num_seqs") or sequences), int(tokens)),
        model_bytes=model_bytes,
        kv_bytes=_kv_bytes(instance, model, model_bytes),
        block_size=int(option(instance, "block_size") or kv_cache.BLOCK_SIZE),
        enforce_eager=bool(option(instance, "enforce_eager", False)),
        prefix_caching=bool(option(instance, "enable_prefix_caching", version.hybrid_prefix_caching)),
        model_runner=_model_runner(version, instance, model, accelerator),
        hybrid_manager=not option(instance, "disable_hybrid_kv_cache_manager", False),
        kv_cache_memory_bytes=instance.kv_cache_bytes,
        corrections=instance.corrections,
    )
    return Settings(engine, dtype, option(instance, "max_num_seqs") is not None)
