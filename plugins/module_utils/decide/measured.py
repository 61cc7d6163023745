# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The numbers of the memory account that no source code says: they were measured, and can be corrected.

Each row holds from vLLM release ``since`` to below ``until``, for ``ranks`` (tensor parallel size, from and to) and
GPUs of a compute capability from ``capability`` to ``below``. The first row that fits counts. Logs named here are
public ones that print every part of the account (DEBUG level), read on 2026-11-23.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.profiles import profile_of

H100_LOGS = "25 DEBUG logs of vLLM 0.19.0 on H100 80GB"
H200_RUNS = "28 runs of vLLM 0.25.1 on one H200, one rank, 2026-11-24"
SWEEP = "DEBUG logs of Qwen3-14B on H100 80GB, vLLM 0.15 to 0.18"


@dataclass(frozen=True)
class Measured:
    """One measured number. ``unit`` is GiB, MiB, or bytes of something."""

    name: str
    value: float
    unit: str
    source: str
    since: tuple[int, int] = (0, 0)
    until: tuple[int, int] = (999, 0)
    ranks: tuple[int, int] = (1, 1024)
    capability: float = 0.0
    below: float = 99.0
    runner: int | None = None


TABLE: Sequence[Measured] = (
    # The sampler's peak: logits in the model's type, FP32 logits, probabilities and noise, for max_num_seqs sequences
    # of one number per word of the vocabulary; not divided by the tensor parallel size.
    Measured("sampler", 38.0, "bytes per logit", SWEEP + " (sorts the vocabulary)", until=(0, 17)),
    # V2 samples its dummy batch with every parameter set since 0.33.0 (v1/worker/gpu/model_runner.py:1008-1014), which
    # then takes FP32 logits, top-k and probabilities; before, it samples greedily.
    Measured("sampler", 6.3, "bytes per logit", H200_RUNS, until=(0, 33), runner=2),
    Measured(
        "sampler",
        14.3,
        "bytes per logit",
        "one run of 0.25.1 on that H200 with the warm-up of 0.33 put in, 1024 sequences",
        runner=2,
    ),
    Measured("sampler", 14.5, "bytes per logit", H100_LOGS + ", within 0.03 GiB of 21 of them"),
    # Counters for penalties that V2 keeps (v1/worker/gpu/sample/penalties.py:45-54: 4 bytes and a bit), counted since
    # 0.27.0 (utils/mem_utils.py, total_consumed).
    Measured("sampler_kept", 0.0, "bytes per logit", "utils/mem_utils.py of 0.26.0", until=(0, 27)),
    Measured("sampler_kept", 4.13, "bytes per logit", H200_RUNS, runner=2),
    Measured("sampler_kept", 0.0, "bytes per logit", H200_RUNS + " with the first model runner"),
    # What a profile run holds beside hidden states, logits and expert workspaces.
    Measured("profile", 0.04, "GiB", H100_LOGS),
    # What a vision tower's dummy pass leaves.
    Measured("vision", 0.14, "GiB", "Kimi-VL-A3B and Mistral-Small-3.1 of the " + H100_LOGS),
    # What loading leaves beside the weights: communication buffers with several ranks, buffers of MLA layers.
    Measured("loaded", 0.01, "GiB", H100_LOGS, ranks=(1, 1)),
    Measured("loaded", 0.09, "GiB", H100_LOGS + " (Qwen2.5-72B, Kimi-Dev-72B, Qwen3-32B)"),
    Measured("loaded_mla", 0.17, "GiB", "DeepSeek-V2-Lite and Kimi-VL-A3B of the " + H100_LOGS),
    # Mixtures of experts leave less of that: their ranks have more of it before vLLM first looks at the free memory
    # (77.18 GiB, against 77.66 of dense models).
    Measured("early_experts", 0.0, "GiB", H100_LOGS, ranks=(1, 1)),
    Measured("early_experts", 0.07, "GiB", H100_LOGS + " (Mixtral-8x7B, Kimi-VL-A3B and gpt-oss-20b, two ranks)"),
    # Memory outside of PyTorch that grows while vLLM profiles: kernels, cuBLAS, and with several ranks the buffers of
    # the fused all-reduce.
    Measured("non_torch", 0.13, "GiB", SWEEP, until=(0, 18), ranks=(1, 1)),
    Measured(
        "non_torch",
        0.56,
        "GiB",
        "Qwen3-32B on 2 x H100, vLLM 0.11",
        until=(0, 12),
        ranks=(2, 3),
        capability=9.0,
        below=11.0,
    ),
    Measured(
        "non_torch",
        2.33,
        "GiB",
        "Qwen3-32B on 8 x H100, vLLM 0.10",
        until=(0, 12),
        ranks=(8, 1024),
        capability=9.0,
        below=11.0,
    ),
    Measured(
        "non_torch",
        1.2,
        "GiB",
        "between those of 2 and 8 ranks",
        until=(0, 12),
        ranks=(4, 7),
        capability=9.0,
        below=11.0,
    ),
    Measured("non_torch", 0.25, "GiB", H100_LOGS, ranks=(1, 1)),
    Measured("non_torch", 2.08, "GiB", H100_LOGS, since=(0, 12), ranks=(2, 3), capability=9.0, below=11.0),
    Measured("non_torch", 2.21, "GiB", H100_LOGS, since=(0, 12), ranks=(4, 1024), capability=9.0, below=11.0),
    Measured("non_torch", 0.25, "GiB", "Qwen2-7B on 2 x A100, vLLM 0.10.1.1"),
    # What the engine's processes and the kernel's page cache take of a memory that host and GPU share: vLLM counts all
    # that is no longer free there (utils/mem_utils.py:140-151).
    Measured(
        "host",
        2.8,
        "GiB",
        "mean of five logs of DGX Spark, vLLM 0.18 and 0.25: 2.0 to 4.9, most after a cold load (NVIDIA/xr-ai#462)",
    ),
    # CUDA graphs: a part for each layer at 51 captured batch sizes, more where experts are captured. Where vLLM takes
    # them off the KV cache this is what it estimates, which is less than they take (0.64 and 0.80 GiB); where it does
    # not (memory.py, subtracts_cuda_graphs), what they take.
    Measured("graphs", 0.32, "GiB", H100_LOGS, until=(0, 20)),
    Measured("graphs_per_layer", 0.0165, "GiB", H100_LOGS, until=(0, 20)),
    Measured("graphs_experts", 0.35, "GiB", H100_LOGS + " (MoE models)", until=(0, 20)),
    Measured(
        "graphs",
        0.9,
        "GiB",
        H200_RUNS + ": 0.98 for Llama-3.1-8B, 0.90 for Qwen3-14B, 0.12 for 7 batch sizes of Qwen3-0.6B",
        until=(0, 29),
        runner=2,
    ),
    Measured("graphs_per_layer", 0.0, "GiB", H200_RUNS, until=(0, 29), runner=2),
    Measured("graphs_experts", 0.0, "GiB", H200_RUNS, until=(0, 29), runner=2),
    Measured("graphs", 0.18, "GiB", H200_RUNS + ": V1 estimated 0.50 for Llama-3.1-8B, 0.36 for Qwen3-8B"),
    Measured("graphs_per_layer", 0.0075, "GiB", "H100 logs, scaled to those two; not measured for V2 since 0.29"),
    Measured(
        "graphs_experts",
        0.15,
        "GiB",
        "as before 0.20, scaled; V1 estimated 0.64 for Qwen3-30B-A3B on an H200, 2026-11-29",
    ),
    # Outside of the account, before vLLM looks at the free memory: CUDA context, with several ranks NCCL's buffers.
    # Less on GPUs of 24 GiB, where a utilization of 0.98 was seen to start.
    Measured(
        "context", 2.01, "GiB", H100_LOGS + ": 79.19 in all, 77.18 free", ranks=(2, 1024), capability=9.0, below=11.0
    ),
    Measured("context", 0.51, "GiB", H100_LOGS + ": 79.19 in all, 78.68 free", capability=9.0, below=11.0),
    Measured("context", 0.3, "GiB", "what is left at the utilizations that started on other GPUs"),
    # What MXFP4 models take after the KV cache was sized, as a share of what sampling takes.
    Measured("late_mxfp4", 0.0, "share", "gpt-oss-20b on H100 at 0.90, vLLM 0.11: started", until=(0, 17)),
    Measured(
        "late_mxfp4", 0.9, "share", "gpt-oss-20b on H100 at 0.95, vLLM 0.19: out of memory warming up the sampler"
    ),
)

# What the driver keeps of the memory that nvidia-smi prints as total, in MiB: what CUDA sees is less by this.
# First matching part of a GPU's name. AMD's tools print what HIP sees.
RESERVED_MIB: Sequence[tuple[str, int, str]] = (
    ("B300", 900, "as B200, scaled"),
    ("B200", 729, "178.35 GiB in vLLM logs of 183359 MiB"),
    ("GB200", 729, "as B200"),
    ("GB300", 900, "as B300"),
    ("H20-3e", 616, "as H200"),
    ("H200", 616, "memory.reserved of nvidia-smi, driver 580.159.04, 2026-11-23"),
    ("H100", 479, "79.18 GiB in vLLM logs of 81559 MiB"),
    ("RTX 3090", 430, "23.58 GiB in vLLM logs of 24576 MiB"),
    ("L40S", 480, "44.52 GiB in vLLM logs of 46068 MiB"),
    ("RTX 5080", 462, "15.47 GiB in vLLM logs of 16303 MiB"),
)
RESERVED_OTHER_MIB = 480
# GPUs that share the host's memory print no total: what CUDA sees of it, in MiB.
UNIFIED_MIB: Sequence[tuple[str, int, str]] = (("GB10", 124549, "121.63 GiB in vLLM logs of DGX Spark"),)
# What of it is free when a host without a desktop has just started: vLLM asks the kernel (utils/mem_utils.py:140-151)
UNIFIED_FREE = 0.83
UNIFIED_UTILIZATION = 0.8
UNIFIED_WORDS = ("GB10", "Thor", "Orin", "MI300A")
UNIFIED_FREE_SOURCE = "101.3 to 102.2 of 121.69 GiB on DGX Spark, MiaAI-Lab/GLM-5.3-Flash-EXL3-2x-DGX-Sparks#47"
# Logs of one product differ by this much (79.18 to 79.25 GiB for an H100).
CLOSE_MIB = 128


@functools.lru_cache(maxsize=256)
def release(version: str) -> tuple[int, int]:
    """Give (0, 33) for "0.33.0", "v0.26.1rc1.dev156+g0eec" likewise by its first two numbers."""
    parts = version.lstrip("v").split(".")
    return int(parts[0]), int(parts[1])


def number(
    name: str,
    version: str,
    ranks: int = 1,
    capability: float = 9.0,
    runner: int = 2,
    corrections: Sequence[Measured] = (),
) -> float:
    """Look up a measured number for a release, a tensor parallel size and a compute capability.

    ``corrections`` are rows that come before the table's, as the receipts of a fleet suggest them (calibration.py).
    Raises KeyError for a name that is not in the table.
    """
    found = release(version)
    for row in (*corrections, *TABLE):
        if (
            row.name == name
            and row.since <= found < row.until
            and row.ranks[0] <= ranks <= row.ranks[1]
            and row.capability <= capability < row.below
            and row.runner in (None, runner)
        ):
            return row.value
    raise KeyError(name)


def unified_mib(name: str | None) -> int | None:
    """Memory in MiB that CUDA sees of a GPU without memory of its own; None for other GPUs."""
    return next((size for part, size, _ in UNIFIED_MIB if _has_word(name, part)), None)


def is_unified(name: str | None) -> bool:
    """Tell whether a GPU shares the memory of its host (cudaDeviceProp.integrated)."""
    return any(_has_word(name, part) for part in UNIFIED_WORDS)


def _has_word(name: str | None, part: str) -> bool:
    return bool(re.search(rf"(?<![A-Za-z0-9]){re.escape(part)}(?![A-Za-z0-9])", name or ""))


def visible_mib(name: str | None, total_mib: float, reserved_mib: float | None = None) -> float:
    """Memory that CUDA sees of a GPU, in MiB, from what nvidia-smi prints as total and, where it does, as reserved.

    A total that is what CUDA sees already, as vLLM's log prints it, is known by the product's own total and kept.
    """
    if reserved_mib:
        return total_mib - reserved_mib
    profile = profile_of(name)
    if profile and profile.vendor == "amd":
        return total_mib
    reserved = next((size for part, size, _ in RESERVED_MIB if _has_word(name, part)), RESERVED_OTHER_MIB)
    if profile and profile.memory_mib and abs(total_mib - (profile.memory_mib - reserved)) <= CLOSE_MIB:
        return total_mib
    return total_mib - reserved
