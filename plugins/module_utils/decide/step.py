# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How long one step of an engine takes: bytes read, operations done, messages sent, and what each step costs. Pure.

A step computes one token of each running sequence and, with chunked prefill, some tokens of prompts beside them. The
numbers behind it are in ``speed_constants``, ``gpu_speed`` and ``observe.profiles``, with their sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import model_work
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.collectives import Wire
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.gpu_speed import GpuSpeed
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.model_work import Work
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.speed_constants import of_family, value
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.profiles import GpuProfile

# Activations go between ranks in 16 bits, whatever the weights are.
ACTIVATION_BYTES = 2
# From here on the tensor cores know FP8 (platforms/cuda.py:586-588 of vLLM 0.33.0)
FP8_CAPABILITY = 8.9
# Reading and computing overlap: the p-norm of both is close to the larger where they differ, and above it where not.
OVERLAP = 4.0


# Model types whose attention has sinks
SINKS = frozenset(("gpt_oss",))
SINKS_CAPABILITY = 9.0


def float_arch(profile: GpuProfile) -> float:
    """Compute capability as a number; AMD's are above any limit here."""
    return 99.0 if profile.vendor == "amd" else float(profile.arch)


def _width(bits: float) -> str:
    return "weights_16bit" if bits > 12 else "weights_8bit" if bits > 6 else "weights_4bit"


def overlapped(one: float, other: float) -> float:
    """Time of two things that a GPU does at once."""
    large = max(one, other)
    if large <= 0:
        return 0.0
    return float(large * (1 + (min(one, other) / large) ** OVERLAP) ** (1 / OVERLAP))


@dataclass(frozen=True)
class Step:
    """The steps of one engine on known hardware.

    Sequences and tokens are those of one data parallel rank; pipeline stages are added up: a token passes them all.
    ``async_scheduling`` says that the next step is scheduled while this one runs; ``release`` is vLLM's (None: the
    newest). ``offload_bytes`` of a rank's weights, over all stages, lie in the host's memory.
    """

    model: Mapping[str, Any]
    sizes: Sizes
    work: Work
    profile: GpuProfile
    speed: GpuSpeed
    wire: Wire
    stage_wire: Wire
    kv_bytes: float = 2
    enforce_eager: bool = False
    async_scheduling: bool = True
    release: tuple[int, ...] | None = None
    offload_bytes: float = 0.0

    @property
    def experts_everywhere(self) -> int:
        """Ranks over which the experts are spread (fused_moe/config.py:1116-1245 of vLLM 0.33.0)."""
        return self.sizes.tensor_parallel_size * self.sizes.data_parallel_size

    @cached_property
    def layer_counts(self) -> tuple[int, int, int]:
        """Layers, layers with routed experts, and blocks that end with an all-reduce."""
        return model_work.layer_counts(self.model)

    def kv_read(self, context_tokens: float) -> float:
        """Bytes that a sequence of ``context_tokens`` reads of its cache for a token."""
        return model_work.kv_read_bytes(self.model, self.sizes, self.kv_bytes, int(context_tokens))

    def attention(self, context_tokens: float) -> float:
        """Operations of the attention of one token that sees ``context_tokens``."""
        return model_work.attention_operations(self.model, self.sizes, context_tokens)

    def parts(
        self, sequences: float, kv_read: float, prompt_tokens: float = 0, attention: float = 0
    ) -> dict[str, float]:
        """Milliseconds of a step of ``sequences`` tokens, one a sequence, and ``prompt_tokens`` of prompts.

        ``kv_read`` are the bytes that one sequence reads, ``attention`` the operations for one token of the prompts.
        """
        tokens = sequences + prompt_tokens
        weights_ms, linear_ms = self._linear_ms(sequences, tokens)
        attention_ms = attention * prompt_tokens / self._attention_rate
        return {
            "weights_ms": weights_ms,
            "kv_ms": kv_read * sequences / self._bandwidth("kv_cache"),
            "links_ms": self.links_ms(tokens),
            "compute_ms": linear_ms - weights_ms + attention_ms + self.fixed_ms(sequences),
        }

    def ms(self, sequences: float, kv_read: float, prompt_tokens: float = 0, attention: float = 0) -> float:
        """Milliseconds of a step."""
        return sum(self.parts(sequences, kv_read, prompt_tokens, attention).values())

    def _constant(self, name: str) -> float:
        return of_family(name, self.profile.arch, self.release)

    def _bandwidth(self, name: str) -> float:
        """Bytes in a millisecond."""
        return self.profile.bandwidth_gb_s * self._constant(name) * 1e6

    def _linear_ms(self, sequences: float, tokens: float) -> tuple[float, float]:
        """Time to read the weights, and to read and to multiply them, for ``tokens`` of this rank."""
        work, everywhere = self.work, tokens * self.sizes.data_parallel_size
        read = work.read_bytes / self._bandwidth(_width(work.bits))
        head = work.head_parameters * (sequences or 1)
        multiplied = 2 * ((work.parameters - work.head_parameters) * tokens + head) / self._rate(work.bits)
        weights, total = read, overlapped(read, multiplied)
        if work.expert_bytes:
            touched = model_work.touched(self.model, self.sizes, everywhere)
            read = work.expert_bytes * touched / self._bandwidth(_width(work.expert_bits))
            picked = model_work.expert_share(self.model) * everywhere
            # each expert that is touched computes whole blocks of rows, of which the last is half full on the average
            rows = picked * self._imbalance + touched * value("expert_block_rows") / 2
            multiplied = 2 * work.expert_parameters * rows / self._expert_rate
            weights, total = weights + read, total + overlapped(read, multiplied)
        # what lies in the host's memory comes over the slot for each step (cpu_offload_gb)
        fetched = self.offload_bytes / (self.speed.pcie_gb_s * 1e6)
        return weights + fetched, total + fetched

    def _rate(self, bits: float) -> float:
        """Operations in a millisecond of products with weights of so many bits."""
        if self._computes_in_8_bits(bits):
            return (self.speed.tflops_8bit or 0) * self._constant("matmul_8bit") * 1e9
        rate = self.speed.tflops * self._constant("matmul_16bit") * 1e9
        return rate if bits > 12 else rate * self._constant("widened")

    @cached_property
    def _expert_rate(self) -> float:
        """The same of the experts: a thin slice of each does not fill the GPU."""
        rate = self._rate(self.work.expert_bits) * self._constant("experts")
        width = model_work.expert_width(self.model, self.sizes)
        return rate * width / (width + value("expert_half_width")) if width else rate

    @cached_property
    def _imbalance(self) -> float:
        """By how much the rank with the busiest experts has more to compute than the mean of all."""
        spread = self.sizes.enable_expert_parallel and self.experts_everywhere > 1
        return value("expert_imbalance") if spread else 1.0

    @cached_property
    def _attention_rate(self) -> float:
        """Operations of attention in a millisecond, for prompts."""
        rate = self.speed.tflops * self._constant("attention") * 1e9
        # FlashAttention 2 has no sinks; Triton's kernel serves instead (platforms/cuda.py of vLLM 0.11 and newer)
        if self.model.get("model_type") in SINKS and float_arch(self.profile) < SINKS_CAPABILITY:
            rate *= value("attention_sinks")
        return rate

    def _computes_in_8_bits(self, bits: float) -> bool:
        """Whether weights and activations both are narrow and the GPU has units for them; else weights are widened."""
        quantization = self.model.get("quantization_config") or {}
        if bits > 12 or not self.speed.tflops_8bit or (quantization.get("activation_bits") or 16) > 8:
            return False
        if self.profile.vendor == "amd" or "int" in str(quantization.get("format") or ""):
            return True
        return float_arch(self.profile) >= FP8_CAPABILITY

    def fixed_ms(self, sequences: float) -> float:
        """What a step costs besides: launches and small kernels of each layer, sampling, scheduling."""
        layers, moe, _ = self.layer_counts
        each = value("layer_us") + (value("eager_layer_us") if self.enforce_eager else 0)
        experts = value("moe_layer_us")
        if self.sizes.enable_expert_parallel and self.experts_everywhere > 1:
            experts += value("spread_experts_us")
        if self._computes_in_8_bits(self.work.bits):
            # activations are rounded before each product
            each += value("rounded_layer_us")
        if self.model.get("mla"):
            each += value("mla_layer_us")
        total = value("step_ms") + (layers * each + moe * experts + sequences * value("sequence_us")) / 1000
        if not self.async_scheduling:
            total += value("sync_step_ms") + sequences * value("sync_sequence_us") / 1000
        return total

    def links_ms(self, tokens: float) -> float:
        """Messages of one step of ``tokens`` on a rank."""
        sizes = self.sizes
        ranks, hidden = sizes.tensor_parallel_size, int(self.model["hidden_size"]) * ACTIVATION_BYTES
        _, moe, blocks = self.layer_counts
        shared = sizes.data_parallel_size > 1 and moe > 0
        # one at the end of each block, one after the embedding, one gathering the logits
        reduces = blocks - (moe if shared else 0) + 2
        total = reduces * self.wire.all_reduce_ms(tokens * hidden, ranks)
        if shared:
            # all ranks gather the tokens of all, and scatter the sums: the bytes of an all-reduce
            # (all2all_backend allgather_reducescatter, config/parallel.py:220 of vLLM 0.33.0)
            everywhere = tokens * sizes.data_parallel_size * hidden
            total += moe * self.wire.all_reduce_ms(everywhere, self.experts_everywhere, nccl=True)
        # hidden state and residual go on to the next stage
        total += (sizes.pipeline_parallel_size - 1) * self.stage_wire.send_ms(2 * tokens * hidden)
        return total
