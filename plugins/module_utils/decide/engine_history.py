# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What changed from one vLLM release to the next, where a layout depends on it.

Read from the PyPI wheels of 0.7.3, 0.8.0 to 0.8.5, and of 0.9.0 to 0.33.0 with every release whose last number is 0
(0.12.0, 0.13.0, ... 0.33.0) and the point releases 0.9.1, 0.9.2, 0.10.1, 0.10.2, 0.11.1, 0.11.2, 0.20.1 among others.
A value holds from the release beside it until the next one of its list. Paths are below ``vllm/`` in the wheel.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

EARLIEST = "0.7.3"


@dataclass(frozen=True)
class BatchTier:
    """Defaults for the OpenAI server on GPUs of ``least_gib`` (GiB) or more whose lower-case name fits.

    ``only`` names parts one of which the name has to contain (empty: any), ``excluded`` those that it must not.
    """

    least_gib: int
    max_num_batched_tokens: int
    max_num_seqs: int
    only: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunnerRule:
    """Which models the second model runner (V2) takes by default; every other one gets the first."""

    architectures: frozenset[str] = frozenset()
    # besides the listed ones: every dense model, every model
    dense: bool = False
    all: bool = False
    # of the listed ones: also when they are MoE or quantized, also when they are hybrid (attention and state layers)
    listed_moe_or_quantized: bool = True
    listed_hybrid: bool = False


_ON_0_25 = frozenset({"DeepseekV2ForCausalLM", "GraniteMoeForCausalLM", "Qwen2MoeForCausalLM"})
_ON_0_26 = _ON_0_25 | {"InklingForCausalLM", "InklingForConditionalGeneration", "LongcatFlashNgramForCausalLM"}
_ON_0_27 = _ON_0_26 | {"KimiK3ForConditionalGeneration"}

# engine/arg_utils.py, get_batch_defaults (0.33.0: 2940-3039), in earlier releases _set_default_args_v1
_BY_NAME_ALL_1024 = (BatchTier(0, 8192, 1024, only=("h100", "h200")), BatchTier(0, 2048, 1024))
_BY_NAME = (BatchTier(0, 8192, 1024, only=("h100", "h200")), BatchTier(0, 2048, 256))
_SMALL = BatchTier(0, 2048, 256)
_BY_MEMORY = (BatchTier(70, 8192, 1024), _SMALL)
_WITHOUT_A100 = (BatchTier(70, 8192, 1024, excluded=("a100",)), _SMALL)
_LARGE = BatchTier(160, 16384, 1024)

HISTORY: Mapping[str, Sequence[tuple[str, Any]]] = {
    # config/cache.py:215 (0.33.0), config.py (0.7.3)
    "gpu_memory_utilization": (("0.7.3", 0.90), ("0.20.0", 0.92)),
    # envs.py:2216-2221, VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS: there and off from 0.18, on from 0.20.0 (the comment
    # beside it says 0.21.0; the wheels of 0.20.0 to 0.20.2 have it on)
    "subtracts_cuda_graphs": (("0.7.3", False), ("0.20.0", True)),
    # platforms/cuda.py (0.7.3 to 0.17), config/cache.py:185 (0.33.0); some attention backends want larger ones
    "block_size": (("0.7.3", 16),),
    # config/cache.py, BlockSize; from 0.18.0 any number above 0
    "block_sizes": (
        ("0.7.3", (8, 16, 32, 64, 128)),
        ("0.8.5", (1, 8, 16, 32, 64, 128)),
        ("0.11.1", (1, 8, 16, 32, 64, 128, 256)),
        ("0.18.0", None),
    ),
    "batch_tiers": (
        ("0.7.3", _BY_NAME_ALL_1024),
        ("0.8.4", _BY_NAME),
        ("0.8.5", _BY_MEMORY),
        ("0.9.0", _WITHOUT_A100),
        ("0.28.0", (_LARGE, *_WITHOUT_A100)),
        ("0.33.0", (_LARGE, BatchTier(70, 8192, 1024, excluded=("a100", "gb10")), _SMALL)),
    ),
    # (tokens, sequences, whether both are multiplied by the ranks of an engine) on a CPU host; before 0.9.2 the CPU had
    # no defaults of its own
    "cpu_batch": (("0.7.3", (2048, 256, False)), ("0.9.2", (2048, 32, False)), ("0.10.0", (2048, 128, True))),
    # config/scheduler.py, config/vllm.py:1660-1725 (0.33.0): off, then on unless something stands against it
    "async_scheduling": (("0.7.3", False), ("0.14.0", True)),
    # config/vllm.py: "negatively impacts performance of pooling models"; first read in 0.20.0
    "async_scheduling_for_pooling": (("0.7.3", False), ("0.14.0", True), ("0.20.0", False)),
    # v1/kv_cache_interface.py:879,938: sliding-window and chunked layers keep the tokens of all batches in flight;
    # before, those of one batch
    "counts_batches_in_flight": (("0.7.3", False), ("0.26.0", True)),
    # config/vllm.py, use_v2_model_runner (0.33.0: 731-767)
    "runner_rule": (
        ("0.7.3", RunnerRule()),
        ("0.22.0", RunnerRule(frozenset({"Qwen3ForCausalLM"}), listed_moe_or_quantized=False)),
        (
            "0.23.0",
            RunnerRule(
                frozenset({"LlamaForCausalLM", "MistralForCausalLM", "Qwen3ForCausalLM"}),
                listed_moe_or_quantized=False,
            ),
        ),
        ("0.24.0", RunnerRule(_ON_0_25 | {"Qwen3ForCausalLM", "LlamaForCausalLM", "MistralForCausalLM"})),
        ("0.25.0", RunnerRule(_ON_0_25, dense=True)),
        ("0.26.0", RunnerRule(_ON_0_26, dense=True)),
        ("0.27.0", RunnerRule(_ON_0_27, dense=True, listed_hybrid=True)),
        ("0.28.0", RunnerRule(_ON_0_27 | {"DeepseekV4ForCausalLM"}, dense=True, listed_hybrid=True)),
        ("0.29.0", RunnerRule(all=True)),
    ),
    # v1/core/kv_cache_utils.py: "GPU KV cache size" was blocks / groups * block size, and is concurrency times
    # max_model_len from 0.20.1; the two agree where all layers are alike
    "logs_tokens_from_concurrency": (("0.7.3", False), ("0.20.1", True)),
    # config/model.py, is_prefix_caching_supported (0.33.0: 2239-2290): whether models with recurrent layers cache
    # prefixes when nobody says
    "hybrid_prefix_caching": (("0.7.3", False), ("0.33.0", True)),
    # kinds of recurrent layers that can keep, with prefix caching, a further state from within a prompt: mamba2 by
    # layers/mamba/mamba_mixer2.py:1108-1118, gdn by gdn/qwen_gdn_linear_attn.py:691-749. Measured with 0.33.0: 138
    # blocks for a request of Nemotron-3-Nano, 126 of attention and 3 for each of 4 groups of states
    "state_checkpoints": (("0.7.3", ()), ("0.32.0", ("mamba2",)), ("0.33.0", ("mamba2", "gdn"))),
    # documentation of the releases: 7.0; CUDA 13 of the wheels from 0.20.0 has no code for GPUs before Turing (release
    # notes of CUDA 13.0, "Deprecated or Dropped Architectures")
    "minimum_compute_capability": (("0.7.3", "7.0"), ("0.20.0", "7.5")),
    # distributed/device_communicators/custom_all_reduce.py:118
    "custom_all_reduce_sizes": (("0.7.3", (2, 4, 6, 8)), ("0.27.0", (2, 4, 6, 8, 16))),
}

# Names that came and went: name -> (first release, first release without it or None).
# model_executor/layers/quantization/__init__.py:15-49
QUANTIZATIONS: Mapping[str, tuple[str, str | None]] = {
    **dict.fromkeys(("awq", "awq_marlin", "compressed-tensors", "experts_int8", "fbgemm_fp8"), ("0.7.3", None)),
    **dict.fromkeys(("fp8", "gptq", "gptq_marlin", "modelopt", "moe_wna16", "quark"), ("0.7.3", None)),
    "aqlm": ("0.7.3", "0.10.1"),
    **dict.fromkeys(("marlin", "neuron_quant", "qqq"), ("0.7.3", "0.10.2")),
    "tpu_int8": ("0.7.3", "0.14.0"),
    **dict.fromkeys(("deepspeedfp", "hqq"), ("0.7.3", "0.15.0")),
    **dict.fromkeys(("gptq_marlin_24", "ipex"), ("0.7.3", "0.16.0")),
    "ptpc_fp8": ("0.7.3", "0.19.0"),
    "gguf": ("0.7.3", "0.24.0"),
    "bitsandbytes": ("0.7.3", "0.28.0"),
    "nvfp4": ("0.8.0", "0.9.0"),
    "torchao": ("0.8.4", None),
    **dict.fromkeys(("bitblas", "gptq_bitblas"), ("0.8.5", "0.16.0")),
    "auto-round": ("0.9.0", "0.15.0"),
    "modelopt_fp4": ("0.9.0", None),
    "rtn": ("0.9.2", "0.15.0"),
    "inc": ("0.10.0", None),
    "mxfp4": ("0.10.1", None),
    "petit_nvfp4": ("0.10.2", "0.20.0"),
    "fp_quant": ("0.11.1", None),
    "cpu_gptq": ("0.12.0", "0.14.0"),
    "cpu_awq": ("0.12.0", "0.23.0"),
    "modelopt_mxfp8": ("0.16.0", None),
    "modelopt_mixed": ("0.17.0", None),
    "mxfp8": ("0.19.0", None),
    **dict.fromkeys(("deepseek_v4_fp8", "gpt_oss_mxfp4", "humming", "online"), ("0.20.0", None)),
    **dict.fromkeys(("fp8_per_block", "fp8_per_tensor", "int8_per_channel_weight_only"), ("0.20.0", None)),
    "auto_gptq": ("0.22.0", None),
    **dict.fromkeys(("auto_awq", "fp8_per_channel"), ("0.24.0", None)),
    "nvfp4_per_token": ("0.26.0", None),
}
# the same file, DEPRECATED_QUANTIZATION_METHODS: refused without --allow-deprecated-quantization
DEPRECATED_QUANTIZATIONS: Mapping[str, tuple[str, str | None]] = {
    **dict.fromkeys(("auto-round", "deepspeedfp", "hqq", "rtn"), ("0.14.0", "0.15.0")),
    **dict.fromkeys(("bitblas", "gptq_bitblas", "gptq_marlin_24", "ipex"), ("0.14.0", "0.16.0")),
    "ptpc_fp8": ("0.14.0", "0.19.0"),
    **dict.fromkeys(("experts_int8", "petit_nvfp4"), ("0.14.0", "0.20.0")),
    **dict.fromkeys(("fbgemm_fp8", "fp_quant"), ("0.14.0", None)),
}
# config/cache.py:44-67, CacheDType
KV_CACHE_DTYPES: Mapping[str, tuple[str, str | None]] = {
    **dict.fromkeys(("auto", "fp8", "fp8_e4m3", "fp8_e5m2"), ("0.7.3", None)),
    "fp8_inc": ("0.10.0", None),
    "bfloat16": ("0.11.0", None),
    "fp8_ds_mla": ("0.11.1", None),
    "float16": ("0.18.0", None),
    **dict.fromkeys(("fp8_per_token_head", "int8_per_token_head", "nvfp4"), ("0.20.0", None)),
    **dict.fromkeys(("turboquant_3bit_nc", "turboquant_4bit_nc"), ("0.20.0", None)),
    **dict.fromkeys(("turboquant_k3v4_nc", "turboquant_k8v4"), ("0.20.0", None)),
    "int4_per_token_head": ("0.25.0", None),
    "nvfp4_4over6": ("0.28.0", None),
    "nvfp4_ds_mla": ("0.30.0", None),
    "ultraquant_4bit": ("0.32.0", None),
    **dict.fromkeys(("octave_k3v3", "octave_k3v3_compact", "octave_k3v4"), ("0.33.0", None)),
}
# config/cache.py, MambaDType
MAMBA_CACHE_DTYPES: Mapping[str, tuple[str, str | None]] = {
    **dict.fromkeys(("auto", "float32"), ("0.10.1", None)),
    "float16": ("0.13.0", None),
    "bfloat16": ("0.22.0", None),
}
