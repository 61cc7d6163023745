# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The numbers of the estimate of speed that no datasheet says, each with where it comes from.

They are rough: the estimate is for ordering layouts, not for promising milliseconds. Public figures were read on
2026-11-23. "sweep" is tgarg01/silybench-data, derived/csv/perf_points.csv: Qwen3-8B in BF16 and FP8 on one H100 80GB
with vLLM 0.30, from 1 to 512 requests at once.
"""

from __future__ import annotations

from typing import NamedTuple

FIT = "tests/accuracy/fit.py, 2026-12-01: public throughputs of GPUStack's lab, steps and runs of this project"


class Constant(NamedTuple):
    """A number, its unit and its source."""

    value: float
    unit: str
    source: str


CONSTANTS: dict[str, Constant] = {
    # Memory bandwidth
    "weights_16bit": Constant(
        0.85,
        "of the memory bandwidth",
        "sweep, BF16: 6.9 ms a token; johnmusgrave.com, Llama-3.1-8B, A100: 75 tokens/s",
    ),
    "weights_8bit": Constant(0.80, "of the memory bandwidth", "sweep, FP8: 4.7 ms a token"),
    "weights_4bit": Constant(
        0.65, "of the memory bandwidth", "ollama.linkworksinc.com, Gemma 31B AWQ on 4 RTX 3090: 77 tokens/s"
    ),
    "weights_4bit_ampere": Constant(0.75, "of the memory bandwidth", FIT),
    "weights_4bit_hopper": Constant(0.81, "of the memory bandwidth", FIT),
    "kv_cache": Constant(
        0.822, "of the memory bandwidth", "sweep: a token takes 0.44 ms longer at 8.4k tokens than at 0.6k"
    ),
    # Arithmetic
    "matmul_16bit": Constant(0.55, "of dense TFLOPS", "sweep, BF16: 8192 tokens are read in 254 ms"),
    "matmul_8bit": Constant(0.40, "of dense TFLOPS", "sweep, FP8: 8192 tokens are read in 205 ms"),
    "matmul_16bit_ampere": Constant(0.604, "of dense TFLOPS", FIT),
    "matmul_16bit_hopper": Constant(0.579, "of dense TFLOPS", FIT),
    "matmul_8bit_hopper": Constant(0.393, "of dense TFLOPS", FIT),
    "matmul_16bit_hopper_old": Constant(0.39, "of dense TFLOPS", FIT),
    "matmul_8bit_hopper_old": Constant(0.296, "of dense TFLOPS", FIT),
    "widened": Constant(0.991, "of the rate in 16 bits", FIT),
    "experts": Constant(0.5, "of the rate of dense weights", FIT),
    "expert_block_rows": Constant(63.5, "rows", FIT),
    "expert_half_width": Constant(371, "columns at which half of the rate is reached", FIT),
    "experts_ampere": Constant(0.862, "of the rate of dense weights", FIT),
    "experts_hopper": Constant(0.754, "of the rate of dense weights", FIT),
    "expert_imbalance": Constant(1.98, "times the mean, of the rank with the busiest experts", FIT),
    "attention_sinks": Constant(0.357, "of the rate without sinks, below compute capability 9", FIT),
    "attention_ampere": Constant(0.387, "of dense TFLOPS", FIT),
    "attention_hopper": Constant(0.413, "of dense TFLOPS", FIT),
    "attention": Constant(0.40, "of dense TFLOPS", FIT),
    # Time that neither reading nor computing explains
    "step_ms": Constant(0.499, "ms a step", "sweep: what is left at one request; scheduler, sampler, copies"),
    "layer_us": Constant(26.8, "us a layer", "sweep: what is left at one request, over 36 layers"),
    "moe_layer_us": Constant(
        20.5,
        "us a layer more for a mixture of experts",
        "make gpu-lab, 2026-11-29: Qwen3-30B-A3B on one H200, vLLM 0.25.1, 4.1 ms at one request and 15.2 at 32",
    ),
    "spread_experts_us": Constant(
        128,
        "us a layer more where ranks have whole experts and wait for the busiest",
        "ml-energy/leaderboard, lm-arena-chat.json: Qwen3-235B-A22B on 8 B200, 18.7 ms at 16 requests, 94 layers",
    ),
    "rounded_layer_us": Constant(10.3, "us a layer more with 8-bit activations", FIT),
    "mla_layer_us": Constant(63.5, "us a layer more with latent attention", FIT),
    "eager_layer_us": Constant(250, "us a layer more without CUDA graphs", "rule of thumb: some 12 launches of 20 us"),
    "sequence_us": Constant(5.14, "us a sequence", "sweep: 10.2 ms at 128 requests and 16.1 ms at 256"),
    "sync_step_ms": Constant(1.05, "ms a step, without async scheduling", FIT),
    "sync_sequence_us": Constant(13.2, "us a sequence, without async scheduling", FIT),
    "frontend_ms": Constant(0.929, "ms a request", FIT),
    "frontend_template_ms": Constant(14.2, "ms a request", FIT),
    # All-reduce: a base, and steps that grow with the number of ranks (2 x (ranks - 1) in a ring)
    "custom_base_us": Constant(
        6, "us", "vllm-project/vllm pull 24532, H100: 512 KiB in 7 us on 2 GPUs, 10 us on 4 (one stage)"
    ),
    "custom_rank_us": Constant(0.5, "us a rank", "the same, less the time of the bytes"),
    "nvlink_base_us": Constant(8, "us", "vllm-project/vllm pull 24532, H100: 512 KiB in 21 us on 4 GPUs (NCCL)"),
    "nvlink_step_us": Constant(2.0, "us a step", "the same"),
    "pcie_switch_base_us": Constant(
        8, "us", "flashinfer-ai/flashinfer pull 5023: all-gather of 8 KB in 8 us on 2 GPUs, 14 us on 4 (NCCL)"
    ),
    "pcie_switch_step_us": Constant(
        1.9, "us a step", "haohervchb/sglang-V100 pull 2: 4 KB in 19 us on 4 GPUs behind a switch, in a CUDA graph"
    ),
    "pcie_host_base_us": Constant(12, "us", "between a switch and the link of two processors"),
    "pcie_host_step_us": Constant(2.2, "us a step", "the same"),
    "pcie_cross_numa_base_us": Constant(20, "us", "sgl-project/sglang pull 32479: 4 KB in 45 us on 8 RTX 6000D"),
    "pcie_cross_numa_step_us": Constant(
        4.0, "us a step", "the same, and vllm-project/vllm pull 50941: 292 us on 8 A800 of two processors"
    ),
    "no_p2p_base_us": Constant(
        25, "us", "syv-ai/qwen38-27b-rtx3090 issues 40 and 135: two RTX 3090 are 16 to 35 % faster than one"
    ),
    "no_p2p_step_us": Constant(1.3, "us a step", "NVIDIA/nccl issue 1530: 8 bytes in 42 us on 8 RTX 4090"),
    "network_base_us": Constant(10, "us", "local-inference-lab/b12x pull 295: 48 KB in 54 to 64 us on 4 hosts, RoCE"),
    "network_step_us": Constant(8, "us a step", "the same"),
    "socket_base_us": Constant(20, "us", "rule of thumb: a TCP exchange between hosts of one rack"),
    "socket_step_us": Constant(25, "us a step", "the same"),
    # Share of a link's bandwidth in one direction that a collective reaches
    "nvlink": Constant(0.80, "of the bandwidth", "techfordev.netlify.app/articles/3789728: 366 of 450 GB/s on 4 H100"),
    "pcie_switch": Constant(
        0.57, "of the bandwidth", "haohervchb/sglang-V100 pull 2: 384 KB in 84 us; local-inference-lab/vllm pull 580"
    ),
    "pcie_host": Constant(0.50, "of the bandwidth", "between the two beside it"),
    "pcie_cross_numa": Constant(0.35, "of the bandwidth", "rule of thumb: shared with the processors' own traffic"),
    "no_p2p": Constant(0.35, "of the bandwidth", "every byte is written to the host's memory and read again"),
    # Between hosts, where the estimate knows no adapter
    "rdma_gb_s": Constant(20, "GB/s in one direction", "a 200 Gbit/s adapter at 80 %"),
    "socket_gb_s": Constant(1, "GB/s in one direction", "a 10 Gbit/s network at 80 %"),
}


# Families of GPUs that a constant may have a row of its own for, by compute capability or AMD's architecture
FAMILIES = {"8.0": "ampere", "9.0": "hopper"}
# Releases before this one may have rows of their own ("..._old"), of what was measured under 0.10 and 0.11
OLD = (0, 12)


def value(name: str) -> float:
    """The number of a name. Raises KeyError."""
    return CONSTANTS[name].value


def of_family(name: str, arch: str, release: tuple[int, ...] | None = None) -> float:
    """The number of a name for GPUs of an architecture and a release of vLLM, or else for all. Raises KeyError."""
    family = FAMILIES.get(arch)
    if family and release and release < OLD:
        found = CONSTANTS.get(f"{name}_{family}_old")
        if found:
            return found.value
    return (CONSTANTS.get(f"{name}_{family}") or CONSTANTS[name]).value
