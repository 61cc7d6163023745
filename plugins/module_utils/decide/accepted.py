# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask the table of constraints about an engine whose settings are resolved. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import constraints
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instances import Instance
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.kept import kept
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.memory import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.option_values import environment_flag, option
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.pools import Pool
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules import Broken
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules import Sizes as RuleSizes
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes


def broken(
    model: Mapping[str, Any],
    sizes: Sizes,
    engine: Engine,
    pool: Pool,
    instance: Instance,
    accelerator: str = "cuda",
    fully_connected: bool | None = None,
) -> list[Broken]:
    """List the rules that an engine breaks: vLLM refuses those of severity "refuse", the others only cost something."""
    asked = _asked(
        instance,
        tensor_parallel_size=sizes.tensor_parallel_size,
        pipeline_parallel_size=sizes.pipeline_parallel_size,
        data_parallel_size=sizes.data_parallel_size,
        enable_expert_parallel=sizes.enable_expert_parallel,
        decode_context_parallel_size=sizes.decode_context_parallel_size,
        max_num_seqs=engine.max_num_seqs,
        max_num_batched_tokens=engine.max_num_batched_tokens,
    )
    gpu = {
        "name": pool.name,
        "compute_capability": pool.compute_capability,
        "accelerator": accelerator,
        "fully_connected": fully_connected,
    }
    return list(_checked(model, asked, tuple(gpu.items()), engine.version.version))


@kept
def _checked(model: Mapping[str, Any], asked: RuleSizes, gpu: tuple[Any, ...], version: str) -> list[Broken]:
    return constraints.check(model, asked, dict(gpu), version)


def on_cpu(model: Mapping[str, Any], instance: Instance) -> list[Broken]:
    """List the rules that an instance breaks on the cores of a host."""
    asked = _asked(
        instance,
        tensor_parallel_size=instance.tensor_parallel_size or 1,
        pipeline_parallel_size=instance.pipeline_parallel_size or 1,
        max_num_seqs=instance.max_num_seqs,
        max_num_batched_tokens=instance.max_num_batched_tokens,
    )
    return constraints.check(model, asked, {"accelerator": "cpu"}, instance.engine_version)


def _asked(instance: Instance, **sizes: Any) -> RuleSizes:
    return RuleSizes(
        dtype=instance.dtype,
        quantization=option(instance, "quantization"),
        kv_cache_dtype=option(instance, "kv_cache_dtype", "auto"),
        max_model_len=instance.max_model_len,
        block_size=option(instance, "block_size"),
        mm_encoder_tp_mode=option(instance, "mm_encoder_tp_mode", "weights"),
        language_model_only=bool(option(instance, "language_model_only", False)),
        allow_long=environment_flag(instance, "VLLM_ALLOW_LONG_MAX_MODEL_LEN"),
        stochastic_rounding=bool(option(instance, "enable_mamba_cache_stochastic_rounding", False))
        and option(instance, "mamba_backend", "triton") == "triton",
        **sizes,
    )
