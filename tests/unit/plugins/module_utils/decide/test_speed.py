"""The estimate of speed against what people measured, and against common sense."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.collectives import Link
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.gpu_speed import SPEEDS, speeds_of
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.memory import Account
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.placement import Group
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.speed import Estimate, estimate, gains
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model as model_files
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.profiles import PROFILES
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.model_samples import (
    LLAMA_1B,
    LLAMA_8B,
    LLAMA_70B,
    LLAMA_70B_AWQ,
    QWEN3_06B,
    QWEN3_8B,
    QWEN3_8B_AWQ,
    QWEN3_8B_FP8,
    QWEN3_14B,
    QWEN3_32B_FP8,
    QWEN3_235B,
    QWEN3_235B_FP8,
    QWEN25_72B,
)
from tests.unit.samples import shared_json

H100 = "NVIDIA H100 80GB HBM3"
A100 = "NVIDIA A100-SXM4-80GB"
RTX_4090 = "NVIDIA GeForce RTX 4090"
T4 = "Tesla T4"

# Read on 2026-11-23. vLLM where nothing else is said.
SWEEP = "github.com/tgarg01/silybench-data, derived/csv/perf_points.csv: vLLM 0.30, median time between tokens"
LAB = "make gpu-lab, 2026-11-29: vLLM 0.25.1, random weights, median time between tokens"
LEADERBOARD = "github.com/ml-energy/leaderboard, public/data/tasks/lm-arena-chat.json: median time between tokens"


def known(found: Estimate | None) -> Estimate:
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("model", "sizes", "gpu", "link", "batch", "context", "measured_ms", "source"),
    [
        (QWEN3_8B, Sizes(), H100, None, 1, 1100, 6.89, SWEEP),
        (QWEN3_8B, Sizes(), H100, None, 1, 8450, 7.30, SWEEP),
        (QWEN3_8B, Sizes(), H100, None, 396, 640, 25.8, SWEEP),
        (QWEN3_8B_FP8, Sizes(), H100, None, 1, 640, 4.66, SWEEP),
        (QWEN3_8B_FP8, Sizes(), H100, None, 32, 640, 6.03, SWEEP),
        (QWEN3_8B_FP8, Sizes(), H100, None, 128, 640, 10.16, SWEEP),
        (QWEN3_8B_FP8, Sizes(), H100, None, 256, 640, 16.13, SWEEP),
        (QWEN3_14B, Sizes(), H100, None, 8, 500, 12.54, LEADERBOARD),
        (QWEN3_14B, Sizes(), H100, None, 64, 500, 18.94, LEADERBOARD),
        (QWEN3_14B, Sizes(), H100, None, 256, 500, 38.4, LEADERBOARD),
        (QWEN3_235B_FP8, Sizes(4, 1, 1, True), H100, "nvlink", 8, 700, 35.2, LEADERBOARD),
        (QWEN3_235B_FP8, Sizes(4, 1, 1, True), H100, "nvlink", 128, 700, 53.1, LEADERBOARD),
        (QWEN3_235B_FP8, Sizes(8, 1, 1, True), H100, "nvlink", 16, 700, 26.8, LEADERBOARD),
        (QWEN3_235B_FP8, Sizes(8, 1, 1, True), H100, "nvlink", 128, 700, 42.1, LEADERBOARD),
        (QWEN3_235B, Sizes(8, 1, 1, True), "NVIDIA B200", "nvlink", 16, 700, 18.7, LEADERBOARD),
        (
            LLAMA_8B, Sizes(), "NVIDIA A100-SXM4-40GB", None, 1, 1100, 13.3,
            "johnmusgrave.com/p/vllm-throughput-latency-sweep-on: vLLM 0.23, 75 tokens/s",
        ),
        (
            QWEN25_72B, Sizes(2), A100, "nvlink", 1, 1000, 56.8,
            "mintlify.com/QwenLM/Qwen/quantization/performance: the 72B of the first Qwen, 17.6 tokens/s on 2 A100",
        ),
        (
            LLAMA_70B_AWQ, Sizes(2), RTX_4090, "pcie_host", 1, 500, 31.7,
            "runlocalai.co/stacks/dual-4090-workstation: 28 to 35 tokens/s of a 70B in 4 bits",
        ),
        (
            QWEN3_32B_FP8, Sizes(4), "NVIDIA GB10", "network", 1, 1100, 51.95,
            "forums.developer.nvidia.com/t/6x-spark-setup/354399: Qwen3-VL-32B-FP8 over 4 hosts",
        ),
    ],
)  # fmt: skip
def test_a_token_takes_what_people_measured_within_a_factor_of_two(
    model: dict[str, Any],
    sizes: Sizes,
    gpu: str,
    link: str | None,
    batch: int,
    context: int,
    measured_ms: float,
    source: str,
) -> None:
    found = known(estimate(model, sizes, gpu, link, batch=batch, context_tokens=context))
    print(f"{found.decode_ms:.2f} ms, measured {measured_ms} ms ({source})")
    assert measured_ms / 2 < found.decode_ms < measured_ms * 2


# Where its weights are random, the router of Nemotron seems to favour the same experts: only one request counts.
@pytest.mark.parametrize(
    ("name", "batch", "measured_ms", "off"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 1, 4.93, 0.1),
        ("meta-llama/Llama-3.1-8B-Instruct", 32, 5.365, 0.1),
        ("Qwen/Qwen3-30B-A3B", 1, 4.121, 0.1),
        ("Qwen/Qwen3-30B-A3B", 32, 15.231, 0.1),
        ("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16", 1, 3.05, 0.35),
    ],
)
def test_a_token_on_an_h200(name: str, batch: int, measured_ms: float, off: float) -> None:
    model = model_files.facts(shared_json(f"model_configs/{name.replace('/', '--')}_config.json"))
    found = known(estimate(model, Sizes(), "NVIDIA H200", batch=batch, context_tokens=160))
    print(f"{found.decode_ms:.2f} ms, measured {measured_ms} ms ({LAB})")
    assert found.decode_ms == pytest.approx(measured_ms, rel=off)


def test_whole_experts_on_every_rank_cost_time() -> None:
    spread = known(estimate(QWEN3_235B_FP8, Sizes(8, 1, 1, True), H100, "nvlink"))
    cut = known(estimate(QWEN3_235B_FP8, Sizes(8), H100, "nvlink"))
    # 26.8 ms a step were measured at 16 requests (LEADERBOARD), and 17 of them are explained with cut experts
    assert 8 < spread.parts["compute_ms"] - cut.parts["compute_ms"] < 14


@pytest.mark.parametrize(
    ("model", "context", "measured_ms_per_1k"),
    # 95 % of all requests had their first token after 33 and 254 ms (BF16), 205 ms (FP8)
    [(QWEN3_8B, 1024, 33), (QWEN3_8B, 8192, 31), (QWEN3_8B_FP8, 8192, 25)],
)
def test_reading_a_prompt_takes_what_was_measured(
    model: dict[str, Any], context: int, measured_ms_per_1k: float
) -> None:
    found = known(estimate(model, Sizes(), H100, context_tokens=context))
    assert found.prefill_ms_per_1k == pytest.approx(measured_ms_per_1k, rel=0.25)


def test_llama_8b_on_one_h100() -> None:
    assert 140 < known(estimate(LLAMA_8B, Sizes(), H100)).decode_tokens_per_second < 170


def over(model: dict[str, Any], gpu: str, link: Link | str, *sizes: int) -> list[tuple[int, float]]:
    return [(size, known(estimate(model, Sizes(size), gpu, link)).decode_ms) for size in sizes]


@pytest.mark.parametrize(
    ("model", "gpu", "link", "sizes", "expected"),
    [
        # NVLink is worth it for large models, up to all GPUs, and for small ones not
        (LLAMA_70B, H100, "nvlink", (2, 4), 4),
        (LLAMA_70B, H100, "nvlink", (1, 2, 4, 8), 8),
        (QWEN3_06B, H100, "nvlink", (1, 2, 4, 8), 1),
        # two cards without NVLink still help a model that fills them
        (LLAMA_70B_AWQ, RTX_4090, "pcie_host", (1, 2), 2),
        # a small model on slow links: four GPUs are no faster than two
        (QWEN3_06B, T4, "pcie_cross_numa", (1, 2, 4), 2),
        (LLAMA_1B, T4, "pcie_cross_numa", (4, 8), 4),
        (QWEN3_8B_AWQ, H100, Link("network", rdma=False), (1, 2, 4), 1),
    ],
)
def test_how_wide_a_group_pays(
    model: dict[str, Any], gpu: str, link: Link | str, sizes: tuple[int, ...], expected: int
) -> None:
    assert gains(over(model, gpu, link, *sizes)) == expected


def test_two_4090_help_a_large_model_more_than_a_small_one() -> None:
    (_, large), (_, large_2) = over(LLAMA_70B_AWQ, RTX_4090, "pcie_host", 1, 2)
    (_, small), (_, small_2) = over(QWEN3_8B_AWQ, RTX_4090, "pcie_host", 1, 2)
    assert large / large_2 > 1.5
    assert small / small_2 < 1.3


def test_busy_replicas_on_slow_links_serve_more_than_a_wide_group() -> None:
    wide = known(estimate(LLAMA_1B, Sizes(4), T4, "pcie_host", batch=1024))
    alone = known(estimate(LLAMA_1B, Sizes(), T4, "pcie_host", batch=256))
    assert 4 * alone.throughput_tokens_per_second > wide.throughput_tokens_per_second


@pytest.mark.parametrize(
    ("slower", "faster"),
    [
        (Link("nvlink", nvlinks=4), Link("nvlink", nvlinks=18)),
        ("pcie_switch", "nvlink"),
        ("pcie_host", "pcie_switch"),
        ("pcie_cross_numa", "pcie_host"),
        (Link("pcie_host", p2p=False), Link("pcie_host", p2p=True)),
        ("network", "pcie_cross_numa"),
        (Link("network", rdma=False), Link("network", rdma=True)),
        (Group((0, 1, 2, 3), "SYS", "pcie_cross_numa", 0), Group((0, 1, 2, 3), "NV18", "nvlink", 18)),
    ],
)
def test_better_links_are_faster(slower: Link | Group | str, faster: Link | Group | str) -> None:
    slow = known(estimate(LLAMA_70B, Sizes(4), H100, slower, batch=64))
    fast = known(estimate(LLAMA_70B, Sizes(4), H100, faster, batch=64))
    assert slow.parts["links_ms"] > fast.parts["links_ms"]
    assert slow.prefill_ms_per_1k > fast.prefill_ms_per_1k


def test_pipeline_stages_do_not_shorten_a_token_but_carry_more_of_them() -> None:
    one = known(estimate(LLAMA_8B, Sizes(), H100))
    staged = known(estimate(LLAMA_8B, Sizes(1, 4), H100, "pcie_host"))
    assert staged.decode_ms > one.decode_ms
    assert "gets no faster" in staged.notes[0]
    busy = known(estimate(LLAMA_8B, Sizes(), H100, batch=256))
    busy_staged = known(estimate(LLAMA_8B, Sizes(1, 4), H100, "pcie_host", batch=256))
    assert busy_staged.throughput_tokens_per_second > 1.3 * busy.throughput_tokens_per_second


def test_stages_on_several_hosts_hand_over_through_the_network() -> None:
    inside = known(estimate(LLAMA_70B, Sizes(4, 2), H100, "nvlink"))
    across = known(estimate(LLAMA_70B, Sizes(4, 2), H100, "nvlink", stage_link=Link("network", rdma=False)))
    assert 0.04 < across.parts["links_ms"] - inside.parts["links_ms"] < 1
    spread = known(estimate(LLAMA_70B, Sizes(8), H100, "network"))
    assert spread.parts["links_ms"] > 10 * across.parts["links_ms"]


def test_data_parallel_ranks_share_the_batch_and_split_the_cache() -> None:
    tensor = known(estimate(QWEN3_235B_FP8, Sizes(8, 1, 1, True), H100, "nvlink", batch=512, context_tokens=8192))
    data = known(estimate(QWEN3_235B_FP8, Sizes(1, 1, 8, True), H100, "nvlink", batch=512, context_tokens=8192))
    # every rank of eight copies the four KV heads at least twice
    assert data.parts["kv_ms"] < tensor.parts["kv_ms"]
    assert data.parts["weights_ms"] > tensor.parts["weights_ms"]


def test_a_mixture_of_experts_reads_more_of_them_in_a_larger_batch() -> None:
    few, many = (
        known(estimate(QWEN3_235B_FP8, Sizes(8), H100, "nvlink", batch=batch)).parts["weights_ms"] for batch in (1, 64)
    )
    assert 6 < many / few < 12


def test_weights_in_the_memory_of_the_host_come_over_the_slot_for_each_token() -> None:
    plain = known(estimate(QWEN3_14B, Sizes(), H100))
    offloaded = known(estimate(QWEN3_14B, Sizes(), H100, offload_gib=12))
    # 12.9 of the 63 billion bytes that 16 lanes of generation 5 move in a second
    assert offloaded.decode_ms - plain.decode_ms == pytest.approx(204.5, rel=0.01)
    assert offloaded.source == "datasheet" != plain.source


def test_eager_mode_costs_time() -> None:
    graphs = known(estimate(LLAMA_8B, Sizes(), H100))
    eager = known(estimate(LLAMA_8B, Sizes(), H100, enforce_eager=True))
    assert eager.decode_ms > 1.5 * graphs.decode_ms


def test_fp8_weights_are_multiplied_in_16_bits_where_the_gpu_has_no_fp8() -> None:
    hopper, ampere = (known(estimate(QWEN3_8B_FP8, Sizes(), gpu)).prefill_ms_per_1k for gpu in (H100, A100))
    assert ampere / hopper > 989 / 312


PLAIN = {"num_layers": 32, "hidden_size": 4096, "num_kv_heads": 8, "head_dim": 128, "weight_bytes": 16_060_522_496}
ACCOUNT = Account(80, 70, 14.96, 1, 1, 1, 50)


@pytest.mark.parametrize(
    ("model", "more"),
    [
        (PLAIN, {}),
        ({**PLAIN, "weight_bytes": None}, {"weight_bytes_per_gpu": 16_060_522_496}),
        ({**PLAIN, "weight_bytes": None}, {"account": ACCOUNT}),
    ],
)
def test_weights_of_unknown_kinds_count_as_read(model: dict[str, Any], more: dict[str, Any]) -> None:
    found = known(estimate(model, Sizes(), H100, **more))
    exact = known(estimate(LLAMA_8B, Sizes(), H100))
    assert found.decode_ms == pytest.approx(exact.decode_ms, rel=0.1)
    assert "not known" in found.notes[0]


def test_a_stated_cache_replaces_the_computed_one() -> None:
    computed = known(estimate(LLAMA_8B, Sizes(2), H100, "nvlink", batch=64))
    # 32 layers, 4 of 8 KV heads, keys and values of 128 numbers of 2 bytes
    stated = known(estimate(LLAMA_8B, Sizes(2), H100, "nvlink", batch=64, kv_bytes_per_token_per_gpu=65536))
    assert stated.parts == pytest.approx(computed.parts)
    narrow = known(estimate(LLAMA_8B, Sizes(2), H100, "nvlink", batch=64, kv_bytes=1))
    assert narrow.parts["kv_ms"] == pytest.approx(computed.parts["kv_ms"] / 2)


@pytest.mark.parametrize(
    ("model", "gpu"),
    [
        (LLAMA_8B, "NVIDIA Imaginary 1"),
        (LLAMA_8B, None),
        ({**LLAMA_8B, "num_layers": None}, H100),
        ({**LLAMA_8B, "hidden_size": None}, H100),
        ({"num_layers": 2, "hidden_size": 64}, H100),
    ],
)
def test_what_is_not_known_gives_no_estimate(model: dict[str, Any], gpu: str | None) -> None:
    assert estimate(model, Sizes(), gpu) is None


@pytest.mark.parametrize(
    ("latencies", "expected"),
    [
        ([(1, 10.0)], 1),
        ([(4, 4.0), (1, 10.0), (2, 6.0)], 4),
        ([(1, 10.0), (2, 9.0), (4, 8.2)], 2),
        ([(1, 10.0), (2, 9.1), (4, 3.0)], 1),
        ([(2, 10.0), (4, 10.0)], 2),
    ],
)
def test_gains(latencies: list[tuple[int, float]], expected: int) -> None:
    assert gains(latencies) == expected


def test_gains_of_nothing() -> None:
    with pytest.raises(ValueError, match="no tensor parallel size"):
        gains([])


def test_every_gpu_of_the_table_has_its_speeds() -> None:
    assert set(SPEEDS) == {profile.name for profile in PROFILES}
    for profile in PROFILES:
        found = speeds_of(profile.name)
        assert found is not None
        # from 30 (H20) to 500 operations for a byte of memory
        assert 30 < found[1].tflops * 1000 / profile.bandwidth_gb_s < 550, profile.name
        assert found[1].tflops_8bit is None or found[1].tflops_8bit > 1.9 * found[1].tflops, profile.name


MODELS = [LLAMA_1B, LLAMA_70B, QWEN3_8B_AWQ, QWEN3_235B_FP8]
SIZES = [Sizes(), Sizes(2), Sizes(4, 2), Sizes(8, 1, 1, True), Sizes(2, 1, 4, True)]
LINKS = ["nvlink", "pcie_switch", "pcie_host", "pcie_cross_numa", "network", None]


@given(
    st.sampled_from(MODELS),
    st.sampled_from(SIZES),
    st.sampled_from([profile.name for profile in PROFILES]),
    st.sampled_from(LINKS),
    st.integers(1, 300),
    st.integers(1, 100_000),
)
def test_more_work_is_never_faster(
    model: dict[str, Any], sizes: Sizes, gpu: str, link: str | None, batch: int, context: int
) -> None:
    found = known(estimate(model, sizes, gpu, link, batch=batch, context_tokens=context))
    assert sum(found.parts.values()) == pytest.approx(found.decode_ms)
    assert all(part >= 0 for part in found.parts.values())
    assert found.throughput_tokens_per_second == pytest.approx(batch * found.decode_tokens_per_second)
    more = known(estimate(model, sizes, gpu, link, batch=batch + 8, context_tokens=context))
    longer = known(estimate(model, sizes, gpu, link, batch=batch, context_tokens=2 * context))
    assert more.decode_ms >= found.decode_ms
    assert longer.decode_ms >= found.decode_ms
    assert longer.prefill_ms_per_1k >= found.prefill_ms_per_1k
