# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Resolve what a person left open of an engine's settings, as vLLM of the asked release would. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import (
    drafting,
    engine_versions,
    kv_cache,
    measured,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instances import Instance
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.memory import Engine, Gpu
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.option_values import option
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.pools import Pool
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules import DTYPES
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules_precision import NO_FLOAT16

__all__ = ("Settings", "capability_of", "computed_dtype", "gpu_of", "option", "resolve")

MIB_PER_GIB = 1024
# platforms/cuda.py:638-656 of vLLM 0.33.0
BFLOAT16_CAPABILITY = 8.0


@dataclass(frozen=True)
class Settings:
    """An engine's settings and the type it computes in.

    ``chosen_seqs`` says that a person wrote max_num_seqs. ``arguments`` are options that the plan writes for what was
    left open, ``reasons`` say why, ``warnings`` what the account leaves out.
    """

    engine: Engine
    dtype: str
    chosen_seqs: bool
    arguments: Mapping[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


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
        return Gpu(unified / MIB_PER_GIB, unified / MIB_PER_GIB, capability_of(pool), fast_links, unified=True)
    visible = measured.visible_mib(pool.name, pool.memory_total_mib, pool.memory_reserved_mib)
    free = min(visible, pool.memory_free_mib or visible)
    return Gpu(
        memory_gib=visible / MIB_PER_GIB,
        free_gib=free / MIB_PER_GIB,
        # AMD's cards have kernels of their own; the measured numbers of old NVIDIA cards do not apply
        capability=capability_of(pool) or 9.0,
        fast_links=fast_links,
        unified=measured.is_unified(pool.name),
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


# The first release whose default of max_num_batched_tokens depends on the length so
BATCH_BY_LENGTH = "0.10.1"
# KV formats of sparse MLA by compute capability (model_executor/layers/attention/mla_attention.py:359-378,
# models/config.py:89-140, platforms/cuda.py:95-150 of vLLM 0.33.0): FlashInfer's kernels on 10.x keep a number a byte,
# those of 12.x always take FlashMLA's format of 656 bytes.
FP8 = ("fp8", "fp8_e4m3", "fp8_e5m2")
FP8_BY_DEFAULT = frozenset(("GlmMoeDsaForCausalLM", "Glm5NextForCausalLM", "Glm5NextForConditionalGeneration"))
NVFP4_SPARSE_BYTES = 352


def _kv_dtype(instance: Instance, model: Mapping[str, Any], capability: float) -> str:
    """Name the type of the KV cache, "auto" for the model's own."""
    asked = str(option(instance, "kv_cache_dtype", "auto"))
    if asked == "auto":
        # a checkpoint with a KV scheme of its own (utils/torch_utils.py:498-516)
        asked = str((model.get("quantization_config") or {}).get("kv_cache_dtype") or "auto")
    sparse = any(entry.get("index_head_dim") for entry in (model.get("attention") or {}).values())
    if asked == "auto" and sparse and int(capability) == 10 and FP8_BY_DEFAULT & set(model.get("architectures") or ()):
        return "fp8_e4m3"
    return asked


def _sparse_bytes(model: Mapping[str, Any], kv_dtype: str, capability: float, model_bytes: float) -> float | None:
    """Bytes of a token in a layer of sparse MLA where that depends on the GPU; None elsewhere."""
    entry = next((one for one in (model.get("attention") or {}).values() if one.get("index_head_dim")), None)
    if entry is None or entry.get("type") != "mla":
        return None
    width = int(entry.get("kv_lora_rank") or 0) + int(entry.get("qk_rope_head_dim") or 0)
    if kv_dtype == "nvfp4_ds_mla":
        return NVFP4_SPARSE_BYTES
    if int(capability) == 12 and kv_dtype in ("auto", *FP8):
        return kv_cache.SPARSE_FP8_BYTES
    if int(capability) == 10 and kv_dtype in FP8:
        return width
    return kv_cache.SPARSE_FP8_BYTES if kv_dtype in (*FP8, "fp8_ds_mla") else width * model_bytes


def _checkpoints(version: engine_versions.EngineVersion, accelerator: str, capability: float) -> tuple[str, ...]:
    """Kinds of recurrent layers whose kernels keep states from within a prompt on this GPU.

    Those of gdn are FlashInfer's, on Hopper and (for heads of 128) on Blackwell (gdn/qwen_gdn_linear_attn.py:158-164).
    """
    fitting = accelerator == "cuda" and capability >= 9.0
    return tuple(kind for kind in version.state_checkpoints if kind != "gdn" or fitting)


def _kv_bytes(kv_dtype: str, model_bytes: float) -> float:
    if kv_dtype == "auto" or kv_cache.has_own_size(kv_dtype):
        return model_bytes
    return 1.0 if kv_dtype.endswith("_ds_mla") else kv_cache.dtype_bytes(kv_dtype)


def _state_bytes(instance: Instance, name: str) -> float | None:
    """Bytes of one number of a recurrent state, None for what the model says (config/cache.py, MambaDType)."""
    asked = str(option(instance, name, "auto"))
    return None if asked == "auto" else kv_cache.dtype_bytes(asked)


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


def _unified(instance: Instance, pool: Pool, utilization: float) -> tuple[float, str | None]:
    """Settle the utilization of a GPU that shares the memory of its host, and say what may be wrong with it.

    vLLM takes what the kernel calls available for free memory there, and does not start with less than it asks for
    (utils/mem_utils.py:140-151, v1/worker/utils.py:757-766).
    """
    if not measured.is_unified(pool.name):
        return utilization, None
    if option(instance, "gpu_memory_utilization") is None:
        return min(utilization, measured.UNIFIED_UTILIZATION), None
    if utilization <= measured.UNIFIED_FREE:
        return utilization, None
    memory = (pool.memory_total_mib or measured.unified_mib(pool.name) or 0) / MIB_PER_GIB
    return utilization, (
        f"gpu_memory_utilization {utilization:g} asks for {memory * utilization:.1f} GiB of the memory that GPU and "
        f"host share, and about {memory * measured.UNIFIED_FREE:.1f} GiB of it are free after the host has started: "
        "vLLM does not start with less than it asks for. Write gpu_memory_utilization: "
        f"{measured.UNIFIED_UTILIZATION:g} or less."
    )


def _full_graphs(instance: Instance) -> bool:
    """Whether CUDA graphs of whole steps are captured (config/compilation.py, CUDAGraphMode)."""
    written = option(instance, "compilation_config")
    mode = written.get("cudagraph_mode") if isinstance(written, Mapping) else None
    captured = mode is None or str(mode).upper() not in ("NONE", "PIECEWISE")
    return captured and _largest_graph(instance) != 0


def _largest_graph(instance: Instance) -> int | None:
    """The largest batch that CUDA graphs are captured for, where a person wrote it (config/vllm.py:2398-2470)."""
    listed = option(instance, "cudagraph_capture_sizes")
    if isinstance(listed, (list, tuple)) and listed:
        return max(int(size) for size in listed)
    most = option(instance, "max_cudagraph_capture_size")
    return None if most is None else int(most)


def _batch(
    instance: Instance, model: Mapping[str, Any], version: engine_versions.EngineVersion, tokens: int, sequences: int
) -> int:
    """What vLLM makes of its default of max_num_batched_tokens (engine/arg_utils.py:2740-2790).

    Without chunked prefill a step holds the longest prompt; no step holds more than all sequences at their longest.
    """
    length = instance.max_model_len or int(model.get("max_model_len") or 0)
    if not length or not version.at_least(BATCH_BY_LENGTH):
        return tokens
    whole = option(instance, "enable_chunked_prefill") is False or option(instance, "no_enable_chunked_prefill")
    return min(max(tokens, length) if whole else tokens, sequences * length)


def resolve(instance: Instance, model: Mapping[str, Any], pool: Pool, accelerator: str, ranks: int = 1) -> Settings:
    """Resolve an entry's settings for a kind of GPU; ``ranks`` of one engine, which defaults may depend on."""
    version = engine_versions.of(instance.engine_version)
    tokens, sequences = engine_versions.default_batch(
        version.version, pool.name, pool.memory_total_mib or measured.unified_mib(pool.name), accelerator, ranks
    )
    capability = capability_of(pool)
    dtype = computed_dtype(instance.dtype, model, capability)
    kv_dtype = _kv_dtype(instance, model, capability)
    model_bytes = kv_cache.dtype_bytes(dtype)
    written = option(instance, "max_num_seqs")
    tokens = option(instance, "max_num_batched_tokens") or _batch(
        instance, model, version, tokens, int(written or sequences)
    )
    utilization = float(option(instance, "gpu_memory_utilization") or version.gpu_memory_utilization)
    used, shared = _unified(instance, pool, utilization)
    engine = Engine(
        version=version,
        gpu_memory_utilization=used,
        max_num_batched_tokens=int(tokens),
        # what was written is not changed, but judged (config/scheduler.py:331-336)
        max_num_seqs=int(written or min(sequences, int(tokens))),
        model_bytes=model_bytes,
        kv_bytes=_kv_bytes(kv_dtype, model_bytes),
        kv_format=kv_dtype if kv_cache.has_own_size(kv_dtype) else None,
        sparse_bytes=_sparse_bytes(model, kv_dtype, capability, model_bytes),
        conv_bytes=_state_bytes(instance, "mamba_cache_dtype"),
        state_bytes=_state_bytes(instance, "mamba_ssm_cache_dtype"),
        speculative_tokens=drafting.tokens(option(instance, "speculative_config")),
        checkpoints=_checkpoints(version, accelerator, capability),
        offload_gib=float(option(instance, "cpu_offload_gb", 0.0)),
        largest_graph=_largest_graph(instance),
        whole_vision=option(instance, "mm_encoder_tp_mode") == "data",
        full_graphs=_full_graphs(instance),
        reserved_gib=float(option(instance, "mm_ipc_gpu_memory_gb", 0.0)),
        block_size=int(option(instance, "block_size") or kv_cache.BLOCK_SIZE),
        enforce_eager=bool(option(instance, "enforce_eager", False)),
        prefix_caching=bool(option(instance, "enable_prefix_caching", version.hybrid_prefix_caching)),
        model_runner=_model_runner(version, instance, model, accelerator),
        hybrid_manager=not option(instance, "disable_hybrid_kv_cache_manager", False),
        kv_cache_memory_bytes=instance.kv_cache_bytes,
        corrections=instance.corrections,
    )
    lowered = (
        f"gpu_memory_utilization {used:g} instead of {utilization:g}: GPU and host share their memory, and the host "
        "needs its part."
    )
    return Settings(
        engine,
        dtype,
        written is not None,
        arguments={"gpu-memory-utilization": used} if used != utilization else {},
        reasons=(lowered,) if used != utilization else (),
        warnings=(shared,) if shared else (),
    )
