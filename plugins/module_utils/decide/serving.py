# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How an engine gets on with a workload: steps that mix prompts and answers, queues, the end of a batch. Pure."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from statistics import NormalDist

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.speed_constants import value
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.step import Step
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.workload import VARIED, Workload

# How much steps with and without prompts differ in length: standard deviation over mean. A guess: the one public
# measurement of stages (gpt-oss-120b on 2 H100, 1000 requests that come at once) shows no more than that two wait less.
STEP_VARIATION = 0.4
# The 95th percentile of a wait with an exponential tail over its mean
P95_OF_MEAN = 3.0
# The same of the time between tokens, as the mean of an answer: steps without prompts hardly differ (7.38 ms in the
# mean and 7.96 at the 99th percentile: GPUStack's lab, Qwen3-8B on H100, four at once); how many prompts it meets does.
STEADY_P95, MIXED_P95 = 1.06, 1.6
# A queue is never looked at closer to its limit than this.
MOST_BUSY = 0.95


@dataclass(frozen=True)
class Limits:
    """What bounds the sequences of one data parallel rank: ``kv_cache_tokens`` None has no limit.

    ``frontend_ms`` is what the API server takes for a request, one after the other.
    """

    max_num_seqs: int = 256
    max_num_batched_tokens: int = 8192
    kv_cache_tokens: float | None = None
    frontend_ms: float = 0.0


@dataclass(frozen=True)
class Run:
    """An engine at work. Rates are those of all its data parallel ranks, ``concurrency`` is what runs at once."""

    requests_per_second: float
    concurrency: float
    ttft_ms: float
    ttft_p95_ms: float
    tpot_ms: float
    tpot_p95_ms: float
    busy: float


@dataclass(frozen=True)
class _State:
    """Steps of one rank that runs ``batches`` of ``sequences`` each and takes prompts as fast as answers end.

    ``step_ms`` is the mean step, ``prompt_ms`` what the prompt of a request adds, ``alone_ms`` a step without prompts.
    """

    sequences: float
    batches: float
    step_ms: float
    prompt_ms: float
    alone_ms: float


def most_sequences(workload: Workload, limits: Limits) -> float:
    """How many sequences of the workload one rank runs at once."""
    found = float(limits.max_num_seqs)
    if limits.kv_cache_tokens is not None:
        found = min(found, max(1.0, limits.kv_cache_tokens / workload.held_tokens))
    # a step has so many tokens at most, and each answer's token brings its part of a prompt
    share = 1 + workload.prompt_tokens / max(1, workload.answer_tokens)
    return max(1.0, min(found, limits.max_num_batched_tokens / share))


def run(step: Step, workload: Workload, limits: Limits) -> Run:
    """Run a workload without end, or to its end where the number of requests is given."""
    ranks, stages = step.sizes.data_parallel_size, step.sizes.pipeline_parallel_size
    asked = workload.concurrency or workload.requests
    most = most_sequences(workload, limits)
    sequences = most if asked is None else min(most, max(1.0, asked / ranks))
    # as many batches are on their way as there are stages, or sequences; a single one waits for none
    batches = min(float(stages), sequences)
    longer = 1 + (waiting(stages) - 1) * (batches - 1) / max(1, stages - 1)
    state = _state(step, workload, limits, sequences / batches, batches, longer)
    per_rank = sequences / (max(1, workload.answer_tokens) * state.step_ms) * 1000
    rate = per_rank * ranks
    if limits.frontend_ms:
        rate = min(rate, 1000 / limits.frontend_ms)
    if workload.requests:
        rate = workload.requests / _duration_s(step, workload, limits, state, longer)
    busy = min(MOST_BUSY, per_rank * state.prompt_ms / 1000 / batches)
    # it waits for the step under way, then for prompts before it
    wait = state.step_ms / 2 + state.prompt_ms * busy / (2 * (1 - busy)) if sequences > 1 else 0.0
    own = state.prompt_ms + state.alone_ms + limits.frontend_ms
    queued = max(0.0, (asked or 0) / ranks - sequences) / per_rank * 1000 if asked and workload.concurrency else 0.0
    return Run(
        requests_per_second=rate,
        concurrency=sequences * ranks,
        ttft_ms=queued + wait + own,
        ttft_p95_ms=queued + P95_OF_MEAN * wait + own,
        tpot_ms=state.step_ms,
        tpot_p95_ms=STEADY_P95 * state.alone_ms + MIXED_P95 * (state.step_ms - state.alone_ms),
        busy=busy,
    )


@functools.lru_cache(maxsize=64)
def waiting(stages: int) -> float:
    """How much longer steps take because every stage waits for the slowest of the batches under way.

    That is the mean of the largest of so many normal numbers, by Blom's approximation.
    """
    if stages == 1:
        return 1.0
    return 1 + STEP_VARIATION * NormalDist().inv_cdf((stages - 0.375) / (stages + 0.25))


def _state(step: Step, workload: Workload, limits: Limits, sequences: float, batches: float, longer: float) -> _State:
    kv_read = step.kv_read(workload.held_tokens)
    alone = step.ms(sequences, kv_read)
    each = sequences * workload.prompt_tokens / max(1, workload.answer_tokens)
    room = max(1.0, limits.max_num_batched_tokens - sequences)
    chunk = min(room, max(each, float(workload.prompt_tokens)))
    mixed = step.ms(sequences, kv_read, chunk, step.attention(workload.prompt_tokens / 2))
    added = (mixed - alone) / chunk
    prompt_ms = added * workload.prompt_tokens
    return _State(sequences, batches, (alone + added * each) * longer, prompt_ms * longer, alone * longer)


def _duration_s(step: Step, workload: Workload, limits: Limits, state: _State, longer: float) -> float:
    """Seconds until the last of the requests is answered: with a full batch, then with what is left of it."""
    assert workload.requests
    requests = workload.requests / step.sizes.data_parallel_size
    running = state.sequences * state.batches
    answer = max(1, workload.answer_tokens)
    # while others wait, whoever ends is replaced; the prompts of all are read meanwhile
    steps = max(0.0, requests - running) * answer / running
    total = steps * state.alone_ms + requests * state.prompt_ms / state.batches
    kv_read = step.kv_read(workload.held_tokens)
    room = max(1.0, limits.max_num_batched_tokens - state.sequences)
    # the first ones begin one after the other, as their prompts are read
    rise = min(float(answer), state.sequences * workload.prompt_tokens / room)
    total += rise * step.ms(state.sequences / 2, kv_read) * longer
    if workload.varied:
        left, before = 1.0, 0.0
        for share, length in VARIED:
            total += (length - before) * answer * step.ms(state.sequences * left, kv_read) * longer
            left, before = max(0.0, left - share), length
    else:
        total += (answer - rise) * state.alone_ms + rise * (state.alone_ms + step.ms(1, kv_read) * longer) / 2
    total += workload.requests * limits.frontend_ms if workload.concurrency is None else 0.0
    frontend_s = workload.requests * limits.frontend_ms / 1000
    return max(total / 1000, frontend_s) if math.isfinite(total) else math.inf


def frontend_ms(release: tuple[int, ...], rendered: bool) -> float:
    """Milliseconds of the API server for a request; ``rendered`` says that it fills in a chat template."""
    return value("frontend_template_ms" if rendered and release < (0, 12) else "frontend_ms")
