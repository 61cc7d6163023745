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

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import model_work, serving
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.collectives import Link, Wire, link_of
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.gpu_speed import speeds_of
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.memory import Account
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.placement import Group
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.serving import Limits
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.speed_constants import FAMILIES
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.step import Step
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.workload import Workload

LABEL = "estimate"
# What an estimate rests on, the best first
MEASURED_HERE, MEASURED, DATASHEET = "measured here", "measured by others", "datasheet"
# Four of five measurements lie within this factor of an estimate, up or down: `make regret` for GPUs like those of
# public measurements (pages left out of the fit), a guess for all others.
INTERVAL = {MEASURED_HERE: 1.25, MEASURED: 1.4, DATASHEET: 2.0}
BYTES_PER_GIB = 1024**3
# A wider tensor parallel group has to shorten a token by this much.
GAIN = 0.10
# Prompt tokens for which the time of reading is given.
PROMPT_TOKENS = 1000


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
    source: str = DATASHEET
    measured: float | None = None

    @property
    def factor(self) -> float:
        """Four of five measurements lie within this factor, up or down."""
        return INTERVAL[self.source]


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
    async_scheduling: bool = True,
    release: tuple[int, ...] | None = None,
    offload_gib: float = 0.0,
    measured: float | None = None,
) -> Estimate | None:
    """Estimate the speed of an engine of ``sizes``; None where the GPU, the layers or the weights are not known.

    ``model`` is what model_info says. ``link`` joins the ranks of a tensor parallel group (and those that share
    experts), ``stage_link`` pipeline stages (default: as ``link``). ``batch`` sequences run in the whole engine, each
    with ``context_tokens`` in its cache, of ``kv_bytes`` for each number. The weights on a GPU are taken from
    ``model``, else from ``weight_bytes_per_gpu`` or ``account``; ``offload_gib`` of them, over all stages, lie in the
    host's memory. ``kv_bytes_per_token_per_gpu``, where given, replaces
    what follows from the model's layers; it is that of one rank with its stage's layers.
    """
    step = step_of(
        model,
        sizes,
        gpu_name,
        link,
        account=account,
        kv_bytes=kv_bytes,
        weight_bytes_per_gpu=weight_bytes_per_gpu,
        stage_link=stage_link,
        enforce_eager=enforce_eager,
        async_scheduling=async_scheduling,
        release=release,
        offload_gib=offload_gib,
    )
    if step is None:
        return None
    kv_read = step.kv_read(context_tokens)
    if kv_bytes_per_token_per_gpu is not None:
        kv_read = kv_bytes_per_token_per_gpu * context_tokens * sizes.pipeline_parallel_size
    parts = {name: part / (measured or 1.0) for name, part in _decode(step, max(1, batch), kv_read).items()}
    decode_ms = sum(parts.values())
    return Estimate(
        decode_ms=decode_ms,
        decode_tokens_per_second=1000 / decode_ms,
        throughput_tokens_per_second=1000 * max(1, batch) / decode_ms,
        prefill_ms_per_1k=_prefill_ms(step, context_tokens) / (measured or 1.0),
        parts=parts,
        notes=_notes(step),
        source=source_of(step, measured),
        measured=measured,
    )


def reported(found: Estimate) -> dict[str, Any]:
    """What an estimate rests on, as a report says it.

    Four of five measurements lie within ``factor``, up or down. ``measured`` is the correction that receipts made.
    """
    return {"source": found.source, "factor": found.factor, "measured": found.measured}


@dataclass(frozen=True)
class Served:
    """How an engine serves a workload. Rates are those of the whole engine, with all its data parallel ranks.

    ``tokens_per_second`` counts prompts and answers. ``low`` and ``high`` bound it in four of five cases, ``source``
    says what the estimate rests on. ``concurrency`` is what runs at once.
    """

    tokens_per_second: float
    output_tokens_per_second: float
    requests_per_second: float
    concurrency: float
    ttft_ms: float
    ttft_p95_ms: float
    tpot_ms: float
    tpot_p95_ms: float
    low: float
    high: float
    source: str


def serve(
    model: Mapping[str, Any],
    sizes: Sizes,
    gpu_name: str | None,
    link: Link | Group | str | None,
    workload: Workload,
    limits: Limits,
    *,
    measured: float | None = None,
    **settings: Any,
) -> Served | None:
    """Estimate how an engine serves a workload; ``settings`` are those of :func:`step_of`, which says when it is None.

    ``measured`` is how fast engines of this fleet are, as a share of the estimate (calibration.py), where they say it.
    """
    step = step_of(model, sizes, gpu_name, link, **settings)
    if step is None:
        return None
    return served(step, workload, limits, measured)


def served(step: Step, workload: Workload, limits: Limits, measured: float | None = None) -> Served:
    """The same of steps that are known."""
    correction = measured or 1.0
    found = serving.run(step, workload, limits)
    rate = found.requests_per_second * correction * workload.tokens
    source = source_of(step, measured)
    factor = INTERVAL[source]
    return Served(
        tokens_per_second=rate,
        output_tokens_per_second=found.requests_per_second * correction * workload.answer_tokens,
        requests_per_second=found.requests_per_second * correction,
        concurrency=found.concurrency,
        ttft_ms=found.ttft_ms / correction,
        ttft_p95_ms=found.ttft_p95_ms / correction,
        tpot_ms=found.tpot_ms / correction,
        tpot_p95_ms=found.tpot_p95_ms / correction,
        low=rate / factor,
        high=rate * factor,
        source=source,
    )


def step_of(
    model: Mapping[str, Any],
    sizes: Sizes,
    gpu_name: str | None,
    link: Link | Group | str | None = None,
    *,
    account: Account | None = None,
    kv_bytes: float = 2,
    weight_bytes_per_gpu: float | None = None,
    stage_link: Link | Group | str | None = None,
    enforce_eager: bool = False,
    async_scheduling: bool = True,
    release: tuple[int, ...] | None = None,
    offload_gib: float = 0.0,
) -> Step | None:
    """The steps of an engine, as :func:`estimate` describes its arguments; None where something is not known."""
    known = speeds_of(gpu_name)
    if weight_bytes_per_gpu is None and account is not None:
        weight_bytes_per_gpu = account.weights_gib * BYTES_PER_GIB
    work = model_work.work(model, sizes, weight_bytes_per_gpu)
    if known is None or work is None or not model.get("num_layers") or not model.get("hidden_size"):
        return None
    joined = link_of(link)
    between = joined if stage_link is None else link_of(stage_link)
    return Step(
        model=model,
        sizes=sizes,
        work=work,
        profile=known[0],
        speed=known[1],
        wire=Wire(joined, *known),
        stage_wire=Wire(between, *known),
        kv_bytes=kv_bytes,
        enforce_eager=enforce_eager,
        async_scheduling=async_scheduling,
        release=release,
        offload_bytes=offload_gib * BYTES_PER_GIB,
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


def source_of(step: Step, measured: float | None = None) -> str:
    """What an estimate rests on: engines of this fleet, engines of others on such GPUs and links, or datasheets."""
    if measured:
        return MEASURED_HERE
    joined = [step.wire] * (step.experts_everywhere > 1) + [step.stage_wire] * (step.sizes.pipeline_parallel_size > 1)
    seen = (
        step.profile.arch in FAMILIES
        and all(wire.direct for wire in joined)
        and not (step.enforce_eager or step.offload_bytes)
    )
    return MEASURED if seen and step.work.complete and step.sizes.decode_context_parallel_size == 1 else DATASHEET


def _decode(step: Step, batch: int, kv_read: float) -> dict[str, float]:
    """Milliseconds of one step, through all stages.

    Data parallel ranks share the batch. With stages, as many smaller batches are on their way as there are stages: a
    token does not get there sooner, but no stage waits.
    """
    return step.parts(math.ceil(batch / (step.sizes.data_parallel_size * step.sizes.pipeline_parallel_size)), kv_read)


def _prefill_ms(step: Step, context_tokens: int) -> float:
    """Milliseconds for PROMPT_TOKENS of a prompt of ``context_tokens``: half of it is seen on the average."""
    return step.ms(0, 0.0, PROMPT_TOKENS, step.attention(context_tokens / 2))


def _notes(step: Step) -> tuple[str, ...]:
    found = []
    if not step.work.complete:
        found.append("The kinds of the model's weights are not known: all of them count as read for every token.")
    if step.sizes.tensor_parallel_size > 1 and step.wire.kind == "no_p2p":
        found.append("The GPUs cannot reach one another's memory: all messages go through the host's.")
    if step.sizes.pipeline_parallel_size > 1:
        found.append("Pipeline stages add throughput and memory; one stream passes all of them and gets no faster.")
    return tuple(found)
