# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""How engines serve workloads: bounds, units, and what must never make one slower."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import serving, speed
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.serving import Limits
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.workload import VARIED, Workload
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.model_samples import LLAMA_8B, LLAMA_70B, QWEN3_8B, QWEN3_8B_FP8, QWEN3_14B, QWEN3_235B_FP8

H100, H200, A100, RTX_4090 = "NVIDIA H100 80GB HBM3", "NVIDIA H200", "NVIDIA A100-SXM4-80GB", "NVIDIA GeForce RTX 4090"
CHAT = Workload(1024, 256)


def served(
    model: dict[str, Any], sizes: Sizes, gpu: str, workload: Workload, limits: Limits, **settings: Any
) -> speed.Served:
    found = speed.serve(model, sizes, gpu, "nvlink", workload, limits, **settings)
    assert found is not None
    return found


def test_a_h200_serves_what_it_was_seen_to_serve() -> None:
    # 2026-12-01, vLLM 0.33.0, random weights: 256 requests of 1,024 tokens at once, 512 back: 8,833 answer tokens/s
    at_once = served(LLAMA_8B, Sizes(), H200, Workload(1024, 512, requests=256), Limits(1024, 8192, 906_208))
    assert at_once.output_tokens_per_second == pytest.approx(8833, rel=0.2)
    alone = served(LLAMA_8B, Sizes(), H200, Workload(1000, 512, 1, 1), Limits(1024, 8192, 906_208))
    assert alone.output_tokens_per_second == pytest.approx(200, rel=0.1)


@pytest.mark.parametrize(
    ("at_once", "rate", "token_ms"), [(1, 272.95, None), (2, 528.35, None), (4, 1020.76, 7.38), (8, 1884.42, None)]
)
def test_few_requests_at_once_on_a_h100(at_once: int, rate: float, token_ms: float | None) -> None:
    # gpustack/gpustack:docs/performance-lab/qwen3-8b/h100-latency.md, vLLM 0.11.0, ShareGPT
    found = served(
        QWEN3_8B, Sizes(), H100, Workload(233, 221, at_once), Limits(1024, 8192, 300_000, frontend_ms=13),
        async_scheduling=False, release=(0, 11, 0),
    )  # fmt: skip
    assert found.tokens_per_second == pytest.approx(rate, rel=0.1)
    if token_ms:
        assert found.tpot_ms == pytest.approx(token_ms, rel=0.1)
        # 7.96 ms at the 99th percentile
        assert found.tpot_ms < found.tpot_p95_ms < 1.15 * found.tpot_ms


def test_rates_and_times_belong_together() -> None:
    found = served(LLAMA_8B, Sizes(), H100, replace(CHAT, concurrency=32), Limits(1024, 8192, 400_000))
    assert found.concurrency == 32
    assert found.tokens_per_second == pytest.approx(found.requests_per_second * 1280)
    assert found.output_tokens_per_second == pytest.approx(found.requests_per_second * 256)
    # each of 32 sequences gets a token in each step
    assert found.output_tokens_per_second == pytest.approx(32 * 1000 / found.tpot_ms)
    assert found.low < found.tokens_per_second < found.high
    assert found.ttft_ms <= found.ttft_p95_ms
    assert found.tpot_ms <= found.tpot_p95_ms


def test_the_batch_is_bounded_by_cache_sequences_and_step() -> None:
    assert serving.most_sequences(CHAT, Limits(64, 8192, 10**6)) == 64
    assert serving.most_sequences(CHAT, Limits(1024, 8192, 11_520)) == pytest.approx(10)
    # a token of each answer brings four tokens of a prompt
    assert serving.most_sequences(CHAT, Limits(10_000, 8192, None)) == pytest.approx(8192 / 5)
    assert serving.most_sequences(CHAT, Limits(1, 8192, 10)) == 1


def test_requests_that_find_no_room_wait() -> None:
    few = served(LLAMA_8B, Sizes(), H100, replace(CHAT, concurrency=64), Limits(64, 8192, 10**6))
    many = served(LLAMA_8B, Sizes(), H100, replace(CHAT, concurrency=128), Limits(64, 8192, 10**6))
    assert many.concurrency == few.concurrency == 64
    assert many.tokens_per_second == pytest.approx(few.tokens_per_second)
    assert many.ttft_ms == pytest.approx(few.ttft_ms + 64 / few.requests_per_second * 1000)


def test_a_small_cache_costs_throughput() -> None:
    small = served(QWEN3_14B, Sizes(), H100, CHAT, Limits(1024, 8192, 20_000))
    large = served(QWEN3_14B, Sizes(), H100, CHAT, Limits(1024, 8192, 400_000))
    assert large.tokens_per_second > 1.5 * small.tokens_per_second


def test_the_end_of_a_batch_costs_time() -> None:
    going = served(LLAMA_8B, Sizes(), H100, replace(CHAT, concurrency=128), Limits(128, 8192, 10**6))
    once = served(LLAMA_8B, Sizes(), H100, replace(CHAT, requests=128), Limits(128, 8192, 10**6))
    varied = served(LLAMA_8B, Sizes(), H100, replace(CHAT, requests=128, varied=True), Limits(128, 8192, 10**6))
    often = served(LLAMA_8B, Sizes(), H100, replace(CHAT, requests=128_000), Limits(128, 8192, 10**6))
    assert varied.tokens_per_second < once.tokens_per_second
    assert often.tokens_per_second == pytest.approx(going.tokens_per_second, rel=0.02)


def test_varied_answers_are_a_distribution() -> None:
    assert sum(share for share, _ in VARIED) == pytest.approx(1)
    assert sum(share * length for share, length in VARIED) == pytest.approx(1, abs=0.05)


def test_the_api_server_is_a_bound_of_its_own() -> None:
    short = Workload(16, 1, 512)
    free = served(LLAMA_8B, Sizes(), H100, short, Limits(1024, 8192, 10**6))
    bound = served(LLAMA_8B, Sizes(), H100, short, Limits(1024, 8192, 10**6, frontend_ms=20))
    assert bound.requests_per_second == pytest.approx(50)
    assert free.requests_per_second > 50


def test_stages_wait_for_the_slowest_batch() -> None:
    assert serving.waiting(1) == 1
    # the larger of two normal numbers is 0.56 deviations above their mean (Blom: 0.59), of eight 1.42
    assert serving.waiting(2) == pytest.approx(1 + 0.59 * serving.STEP_VARIATION, rel=0.01)
    assert serving.waiting(8) == pytest.approx(1 + 1.42 * serving.STEP_VARIATION, rel=0.01)
    limits = Limits(256, 8192, 10**6)
    alone = replace(CHAT, concurrency=1)
    one, two = (served(LLAMA_8B, Sizes(1, stages), H100, alone, limits) for stages in (1, 2))
    assert two.tpot_ms == pytest.approx(one.tpot_ms, rel=0.02)


def test_async_scheduling_hides_the_scheduler() -> None:
    limits = Limits(256, 8192, 10**6)
    waits = served(LLAMA_8B, Sizes(), H100, CHAT, limits, async_scheduling=False)
    assert waits.tokens_per_second < served(LLAMA_8B, Sizes(), H100, CHAT, limits).tokens_per_second


def test_what_was_measured_here_comes_first() -> None:
    limits = Limits(256, 8192, 10**6)
    guess = served(LLAMA_8B, Sizes(), RTX_4090, CHAT, limits)
    others = served(LLAMA_8B, Sizes(), H100, CHAT, limits)
    here = served(LLAMA_8B, Sizes(), H100, CHAT, limits, measured=0.8)
    assert (guess.source, others.source, here.source) == ("datasheet", "measured by others", "measured here")
    assert here.tokens_per_second == pytest.approx(0.8 * others.tokens_per_second)
    assert here.tpot_ms == pytest.approx(others.tpot_ms / 0.8)
    assert guess.high / guess.low > others.high / others.low > here.high / here.low
    over_pcie = speed.serve(LLAMA_8B, Sizes(2), A100, "pcie_host", CHAT, limits)
    assert over_pcie is not None
    assert over_pcie.source == "datasheet"


def test_what_is_not_known_is_not_served() -> None:
    assert speed.serve(LLAMA_8B, Sizes(), "NVIDIA Imaginary 1", None, CHAT, Limits()) is None


def test_pooling_models_have_no_answers() -> None:
    found = served(LLAMA_8B, Sizes(), H100, Workload(512, 0, 64), Limits(256, 8192, None))
    assert found.output_tokens_per_second == 0
    assert found.tokens_per_second > 1000


MODELS = [LLAMA_8B, LLAMA_70B, QWEN3_8B_FP8, QWEN3_235B_FP8]
SIZES = [Sizes(), Sizes(2), Sizes(8), Sizes(2, 2), Sizes(8, 1, 1, True), Sizes(1, 1, 8, True)]


@given(
    st.sampled_from(MODELS),
    st.sampled_from(SIZES),
    st.sampled_from([H100, H200, A100, RTX_4090]),
    st.integers(1, 20_000),
    st.integers(1, 4_000),
    st.integers(1_000, 10**6),
    st.one_of(st.none(), st.integers(1, 2_000)),
)
def test_more_cache_or_a_longer_queue_is_never_slower(
    model: dict[str, Any],
    sizes: Sizes,
    gpu: str,
    prompt: int,
    answer: int,
    cache: int,
    concurrency: int | None,
) -> None:
    workload = Workload(prompt, answer, concurrency)
    less = served(model, sizes, gpu, workload, Limits(256, 8192, cache))
    more = served(model, sizes, gpu, workload, Limits(256, 8192, 2 * cache))
    # messages above 8 MiB go to NCCL, which takes a little longer for the same bytes than vLLM's own kernel
    assert more.tokens_per_second >= less.tokens_per_second * 0.995
    assert less.ttft_ms > 0
    assert less.tpot_ms > 0
    assert 1 <= less.concurrency <= 256 * sizes.data_parallel_size


@given(st.sampled_from(MODELS), st.sampled_from([1, 2, 4]), st.integers(1, 8192), st.integers(1, 1024))
def test_a_faster_gpu_is_never_slower(model: dict[str, Any], ranks: int, prompt: int, answer: int) -> None:
    workload, limits = Workload(prompt, answer), Limits(256, 8192, 200_000)
    slow = served(model, Sizes(ranks), H100, workload, limits)
    fast = served(model, Sizes(ranks), H200, workload, limits)
    assert fast.tokens_per_second >= slow.tokens_per_second
