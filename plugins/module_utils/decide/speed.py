# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""An estimate of how fast an engine answers: bytes read, operations done, messages sent. Pure.

It is written down to order layouts of one model on one host, and is off by up to a factor of two from what engines
do. The numbers behind it are in ``speed_constants``, ``gpu_speed`` and ``observe.profiles``, with their sources.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import model_work
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.collectives import Link, Wire, link_of
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.gpu_speed import GpuSpeed, speeds_of
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.memory import Account
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.model_work import Work
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.placement import Group
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.speed_constants import value
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.profiles import GpuProfile

LABEL = "estimate"
BYTES_PER_GIB = 1024**3
# A wider tensor parallel group has to shorten a token by this much.
GAIN = 0.10
# Activations go between ranks in 16 bits, whatever the weights are.
ACTIVATION_BYTES = 2
# Prompt tokens for which the time of reading is given.
PROMPT_TOKENS = 1000
# From here on the tensor cores know FP8 (platforms/cuda.py:586-588 of vLLM 0.33.0)
FP8_CAPABILITY = 8.9


@dataclass(frozen=True)
class Estimate:
    """How fast an engine is, as far as arithmetic tells.

    ``decode_ms`` is the time between two tokens of one stream while all of the batch runs,
    ``throughput_tokens_per_second`` what all streams of the engine get together, ``prefill_ms_per_1k`` the time to
    read 1000 tokens of a prompt. ``parts`` adds up to ``decode_ms``: weights_ms and kv_ms (reading memory), links_ms,
    compute_ms (arithmetic that takes longer than reading the weights, and the time that every step and layer costs).
    """

    decode_ms: float
    decode_tokens_per_second: float
    throughput_tokens_per_second: float
    prefill_ms_per_1k: float
    parts: dict[str, float]
    notes: tuple[str, ...] = ()
    label: str = LABEL


@dataclass(frozen=True)
class _Engine:
    """One engine on known hardware."""

    model: Mapping[str, Any]
    sizes: Sizes
    work: Work
    profile: GpuProfile
    speed: GpuSpeed
    wire: Wire
    stage_wire: Wire
    enforce_eager: bool

    @property
    def experts_everywhere(self) -> int:
        """Ranks over which the experts are spread (fused_moe/config.py:1116-1245 of vLLM 0.33.0)."""
        return self.sizes.tensor_parallel_size * self.sizes.data_parallel_size


def estimate(
    model: Mapping[str, Any],
    sizes: Sizes,
    gpu_name: str | None,
    link: Link | Group | str | None = None,
    *,
    batch: int = 1,
    context_tokens: int = 1024,
    account: Account | None = None,
    kv_bytes: float = 2,
    weight_bytes_per_gpu: float | None = None,
    kv_bytes_per_token_per_gpu: float | None = None,
    stage_link: Link | Group | str | None = None,
    enforce_eager: bool = False,
) -> Estimate | None:
    """Estimate the speed of an engine of ``sizes``; None where the GPU, the layers or the weights are not known.

    ``model`` is what model_info says. ``link`` joins the ranks of a tensor parallel group (and those that share
    experts), ``stage_link`` pipeline stages (default: as ``link``). ``batch`` sequences run in the whole engine, each
    with ``context_tokens`` in its cache, of ``kv_bytes`` for each number. The weights on a GPU are taken from
    ``model``, else from ``weight_bytes_per_gpu`` or ``account``. ``kv_bytes_per_token_per_gpu``, where given, replaces
    what follows from the model's layers; it is that of one rank with its stage's layers.
    """
    known = speeds_of(gpu_name)
    if weight_bytes_per_gpu is None and account is not None:
        weight_bytes_per_gpu = account.weights_gib * BYTES_PER_GIB
    work = model_work.work(model, sizes, weight_bytes_per_gpu)
    if known is None or work is None or not model.get("num_layers") or not model.get("hidden_size"):
        return None
    joined = link_of(link)
    between = joined if stage_link is None else link_of(stage_link)
    engine = _Engine(model, sizes, work, *known, Wire(joined, *known), Wire(between, *known), enforce_eager)
    kv_read = model_work.kv_read_bytes(model, sizes, kv_bytes, context_tokens)
    if kv_bytes_per_token_per_gpu is not None:
        kv_read = kv_bytes_per_token_per_gpu * context_tokens * sizes.pipeline_parallel_size
    parts = _decode(engine, max(1, batch), kv_read)
    decode_ms = sum(parts.values())
    return Estimate(
        decode_ms=decode_ms,
        decode_tokens_per_second=1000 / decode_ms,
        throughput_tokens_per_second=1000 * max(1, batch) / decode_ms,
        prefill_ms_per_1k=_prefill_ms(engine, context_tokens),
        parts=parts,
        notes=_notes(engine),
    )


def gains(latencies: Iterable[tuple[int, float]], least: float = GAIN) -> int:
    """The widest tensor parallel size that is still worth its GPUs for one stream.

    ``latencies`` are (tensor_parallel_size, decode_ms). From the smallest size on, each next one has to shorten
    ``decode_ms`` by at least ``least`` of the one before; the first that does not ends the search. Raises ValueError
    where there is none.
    """
    ordered = sorted(latencies)
    if not ordered:
        raise ValueError("there is no tensor parallel size to choose from")
    best, best_ms = ordered[0]
    for size, decode_ms in ordered[1:]:
        if decode_ms > best_ms * (1 - least):
            break
        best, best_ms = size, decode_ms
    return best


def _decode(engine: _Engine, batch: int, kv_read: float) -> dict[str, float]:
    """Milliseconds of one step, through all stages.

    Data parallel ranks share the batch. With stages, as many smaller batches are on their way as there are stages: a
    token does not get there sooner, but no stage waits.
    """
    tokens = math.ceil(batch / (engine.sizes.data_parallel_size * engine.sizes.pipeline_parallel_size))
    everywhere = tokens * engine.sizes.data_parallel_size
    work = engine.work
    weights = work.read_bytes + work.expert_bytes * model_work.touched(engine.model, engine.sizes, everywhere)
    weights_ms = _memory_ms(engine, weights, _weights_efficiency(work.bits))
    matmul_ms = _matmul_ms(engine, tokens, everywhere)
    return {
        "weights_ms": weights_ms,
        "kv_ms": _memory_ms(engine, kv_read * tokens, value("kv_cache")),
        "links_ms": _links_ms(engine, tokens),
        "compute_ms": max(0.0, matmul_ms - weights_ms) + _fixed_ms(engine, tokens),
    }


def _prefill_ms(engine: _Engine, context_tokens: int) -> float:
    """Milliseconds for PROMPT_TOKENS of a prompt of ``context_tokens``: half of it is seen on the average."""
    work = engine.work
    weights_ms = _memory_ms(engine, work.read_bytes + work.expert_bytes, _weights_efficiency(work.bits))
    attention = model_work.attention_operations(engine.model, engine.sizes, context_tokens / 2) * PROMPT_TOKENS
    attention_ms = attention / (engine.speed.tflops * 1e12 * value("matmul_16bit")) * 1000
    matmul_ms = _matmul_ms(engine, PROMPT_TOKENS, PROMPT_TOKENS)
    return max(weights_ms, matmul_ms) + attention_ms + _links_ms(engine, PROMPT_TOKENS) + _fixed_ms(engine, 1)


def _memory_ms(engine: _Engine, size: float, efficiency: float) -> float:
    return size / (engine.profile.bandwidth_gb_s * efficiency) / 1e6


def _weights_efficiency(bits: float) -> float:
    return value("weights_16bit" if bits > 12 else "weights_8bit" if bits > 6 else "weights_4bit")


def _matmul_ms(engine: _Engine, tokens: int, everywhere: int) -> float:
    """``tokens`` of this rank go through all of its weights but the experts, of which each token picks some."""
    work = engine.work
    experts = work.expert_parameters * model_work.expert_share(engine.model) * everywhere
    operations = 2 * (work.parameters * tokens + experts)
    if _computes_in_8_bits(engine):
        rate = (engine.speed.tflops_8bit or 0) * value("matmul_8bit")
    else:
        rate = engine.speed.tflops * value("matmul_16bit")
    return operations / rate / 1e9


def _computes_in_8_bits(engine: _Engine) -> bool:
    """Whether weights and activations both are narrow and the GPU has units for them; else weights are widened."""
    quantization = engine.model.get("quantization_config") or {}
    if not engine.speed.tflops_8bit or (quantization.get("activation_bits") or 16) > 8:
        return False
    if engine.profile.vendor == "amd" or "int" in str(quantization.get("format") or ""):
        return True
    return float(engine.profile.arch) >= FP8_CAPABILITY


def _fixed_ms(engine: _Engine, tokens: int) -> float:
    layers, moe, _ = model_work.layer_counts(engine.model)
    each = value("layer_us") + (value("eager_layer_us") if engine.enforce_eager else 0)
    experts = value("moe_layer_us")
    if engine.sizes.enable_expert_parallel and engine.experts_everywhere > 1:
        experts += value("spread_experts_us")
    return value("step_ms") + (layers * each + moe * experts + tokens * value("sequence_us")) / 1000


def _links_ms(engine: _Engine, tokens: int) -> float:
    """Messages of one step of ``tokens`` on a rank."""
    sizes, model = engine.sizes, engine.model
    ranks, hidden = sizes.tensor_parallel_size, int(model["hidden_size"]) * ACTIVATION_BYTES
    _, moe, blocks = model_work.layer_counts(model)
    shared = sizes.data_parallel_size > 1 and moe > 0
    # one at the end of each block, one after the embedding, one gathering the logits
    reduces = blocks - (moe if shared else 0) + 2
    total = reduces * engine.wire.all_reduce_ms(tokens * hidden, ranks)
    if shared:
        # all ranks gather the tokens of all, and scatter the sums: the bytes of an all-reduce
        # (all2all_backend allgather_reducescatter, config/parallel.py:220 of vLLM 0.33.0)
        everywhere = tokens * sizes.data_parallel_size * hidden
        total += moe * engine.wire.all_reduce_ms(everywhere, engine.experts_everywhere, nccl=True)
    # hidden state and residual go on to the next stage
    total += (sizes.pipeline_parallel_size - 1) * engine.stage_wire.send_ms(2 * tokens * hidden)
    return total


def _notes(engine: _Engine) -> tuple[str, ...]:
    found = []
    if not engine.work.complete:
        found.append("The kinds of the model's weights are not known: all of them count as read for every token.")
    if engine.sizes.tensor_parallel_size > 1 and engine.wire.kind == "no_p2p":
        found.append("The GPUs cannot reach one another's memory: all messages go through the host's.")
    if engine.sizes.pipeline_parallel_size > 1:
        found.append("Pipeline stages add throughput and memory; one stream passes all of them and gets no faster.")
    return tuple(found)
