"""What an engine says of itself, from lines that real engines wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import engine_report, metrics
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.samples import shared_json

ENGINE = Path(__file__).resolve().parents[3] / "fixtures" / "engine"


def told(name: str) -> list[str]:
    """Return the lines of a fixture."""
    return (ENGINE / name).read_text(encoding="utf-8").splitlines()


def known(found: dict[str, Any]) -> dict[str, Any]:
    """Return what is not None, without the words."""
    return {key: value for key, value in found.items() if value is not None and key != "words"}


def test_a_cpu_engine_of_two_ranks() -> None:
    texts, ready = engine_report.dated(told("cpu-0.32.0-tp2.txt"))
    samples = metrics.parse((ENGINE / "cpu-0.32.0-metrics.txt").read_text(encoding="utf-8"))
    found = engine_report.actual(texts, samples, 10.0)
    assert ready is not None
    assert ready > 100
    assert known(found) == {
        "weights_seconds": 0.0,
        "available_kv_cache_gib": 0.5,
        "kv_cache_tokens": 1048576,
        "max_concurrency": 1024.0,
        "max_model_len": 1024,
        "init_seconds": 1.55,
        "blocks": 8192,
        "block_size": 128,
        "engines": 1,
        "load_seconds": 10.0,
    }
    assert (
        "CPU KV cache size: 1,048,576 tokens, Maximum concurrency for 1,024 tokens per request: 1024.00x"
        in found["words"]
    )


def test_an_h200_with_graphs() -> None:
    found = engine_report.figures(told("h200-0.25.1-graphs.txt"))
    assert known(found) == {
        "model_load_gib": 15.0,
        "model_load_seconds": 2.570921,
        "available_kv_cache_gib": 112.28,
        "kv_cache_tokens": 919824,
        "max_concurrency": 7.02,
        "max_model_len": 131072,
        "weights_gib": 15.0,
        "activation_gib": 1.1,
        "non_torch_gib": 0.22,
        "compile_seconds": 26.48,
        "cuda_graphs_seconds": 6.0,
        "cuda_graphs_gib": 0.98,
        "init_seconds": 47.24,
    }


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        # two replicas behind one port, and two ranks of the first
        (
            [
                "(EngineCore_DP0 pid=7) INFO 11-24 00:00:01 [kv_cache_utils.py:1] GPU KV cache size: 900,000 tokens, "
                "Maximum concurrency for 8,192 tokens per request: 109.86x",
                "(EngineCore_DP1 pid=8) INFO 11-24 00:00:01 [kv_cache_utils.py:1] GPU KV cache size: 800,000 tokens, "
                "Maximum concurrency for 8,192 tokens per request: 97.66x",
                "(Worker_TP0 pid=9) INFO 11-24 00:00:01 [gpu_model_runner.py:1] Model loading took 7.5 GiB memory and "
                "3.2 seconds",
                "(Worker_TP1 pid=10) INFO 11-24 00:00:01 [gpu_model_runner.py:1] Model loading took 7.7 GiB memory and "
                "3.1 seconds",
            ],
            {
                "kv_cache_tokens": 800000,
                "max_concurrency": 97.66,
                "max_model_len": 8192,
                "model_load_gib": 7.7,
                "model_load_seconds": 3.2,
            },
        ),
        (
            [
                "Actual usage is 57.26 GiB for consumed memory (weights + non-torch), 0.23 GiB for peak activation, "
                "and 0.11 GiB for CUDAGraph memory."
            ],
            {"consumed_gib": 57.26, "activation_gib": 0.23, "cuda_graphs_gib": 0.11},
        ),
        (
            [
                "Actual usage is 7.56 GiB for weight, 5.59 GiB for peak activation, 0.07 GiB for non-torch memory, and "
                "0.54 GiB for CUDAGraph memory."
            ],
            {"weights_gib": 7.56, "activation_gib": 5.59, "non_torch_gib": 0.07, "cuda_graphs_gib": 0.54},
        ),
        (
            [
                "INFO 11-29 11:09:44 [v1/worker/gpu_model_runner.py:6639] Estimated CUDA graph memory: 0.64 GiB total",
                "Graph capturing finished in 21 secs, took 0.80 GiB",
            ],
            {"cuda_graphs_estimated_gib": 0.64, "cuda_graphs_seconds": 21.0, "cuda_graphs_gib": 0.8},
        ),
        (
            ["INFO [cpu_worker.py:261] Auto set (3.25/15.5) GiB for KV cache on node 0, with 4.1 GiB requested"],
            {"available_kv_cache_gib": 3.25},
        ),
        (["INFO all is well", ""], {}),
        ([], {}),
    ],
)
def test_lines(lines: list[str], found: dict[str, Any]) -> None:
    assert known(engine_report.figures(lines)) == found


def test_lines_of_many_releases_that_others_published() -> None:
    for entry in shared_json("truth/kv_truth.json"):
        found = engine_report.figures(str(entry["quote"]).split(" | "))
        for ours, theirs in (
            ("model_load_gib", "model_load_gib"),
            ("kv_cache_tokens", "kv_cache_tokens"),
            ("max_concurrency", "max_concurrency"),
        ):
            if found[ours] is not None and entry.get(theirs):
                # releases before 0.21 wrote a line for each rank, of which an entry has one
                assert found[ours] == pytest.approx(entry[theirs], rel=0.01), entry["quote"]


@given(st.lists(st.text()))
def test_any_lines(lines: list[str]) -> None:
    assert set(engine_report.figures(lines)) == {*engine_report.NAMES, "words"}
    texts, _ready = engine_report.dated(lines)
    assert len(texts) == len(lines)


@pytest.mark.parametrize(
    ("predicted", "reported", "beyond"),
    [
        ({"kv_cache_tokens": 1000}, {"kv_cache_tokens": 1000}, {"kv_cache_tokens": (1.0, False)}),
        ({"kv_cache_tokens": 1090}, {"kv_cache_tokens": 1000}, {"kv_cache_tokens": (1.09, False)}),
        ({"kv_cache_tokens": 1110}, {"kv_cache_tokens": 1000}, {"kv_cache_tokens": (1.11, True)}),
        ({"kv_cache_tokens": 890}, {"kv_cache_tokens": 1000}, {"kv_cache_tokens": (0.89, True)}),
        ({"weights_gib": 20.0}, {"model_load_gib": 15.0}, {"weights_gib": (1.3333, True)}),
        # small parts of the account are not judged
        ({"activation_gib": 2.0}, {"activation_gib": 1.0}, {"activation_gib": (2.0, False)}),
        # captured graphs are more than what was taken off the KV cache, and count where nothing was
        (
            {"cuda_graphs_gib": 0.64},
            {"cuda_graphs_estimated_gib": 0.64, "cuda_graphs_gib": 0.8},
            {"cuda_graphs_gib": (1.0, False)},
        ),
        (
            {"cuda_graphs_gib": 0.49},
            {"cuda_graphs_estimated_gib": None, "cuda_graphs_gib": 0.98},
            {"cuda_graphs_gib": (0.5, False)},
        ),
        ({"weights_gib": 20.0}, {"model_load_gib": None}, {}),
        ({"kv_cache_tokens": None}, {"kv_cache_tokens": 5}, {}),
        ({}, {}, {}),
    ],
)
def test_comparison(predicted: dict[str, Any], reported: dict[str, Any], beyond: dict[str, Any]) -> None:
    found = engine_report.comparison(predicted, reported, 0.1)
    assert {one["quantity"]: (one["ratio"], one["beyond"]) for one in found} == beyond


METRICS = """\
# HELP vllm:num_requests_running Number of requests.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a \\"b\\" c"} 3.0
vllm:num_requests_running{engine="1",model_name="x"} 1.0 1700000000
vllm:num_requests_waiting{engine="0"} 2.0
vllm:kv_cache_usage_perc{engine="0"} 0.5
vllm:kv_cache_usage_perc{engine="1"} 0.25
vllm:cache_config_info{block_size="16",engine="0",num_gpu_blocks="100",kv_cache_size_tokens="1600"} 1.0
vllm:cache_config_info{block_size="16",engine="1",num_gpu_blocks="90",kv_cache_size_tokens="None"} 1.0
process_start_time_seconds NaN
broken{ 1.0
"""


def test_metrics_of_two_engines() -> None:
    samples = metrics.parse(METRICS)
    assert samples[0].labels == {"engine": "0", "model_name": 'a "b" c'}
    assert metrics.load(samples) == {"running": 4, "waiting": 2, "kv_cache_usage": 0.375}
    assert metrics.cache(samples) == {
        "engines": 2,
        "blocks": 90,
        "block_size": 16,
        "kv_cache_tokens": 1600,
        "max_concurrency": None,
    }


@pytest.mark.parametrize("text", ["", "<html>\n", "# only comments\n"])
def test_metrics_of_somebody_else(text: str) -> None:
    samples = metrics.parse(text)
    assert metrics.load(samples) == {"running": None, "waiting": None, "kv_cache_usage": None}
    assert set(metrics.cache(samples).values()) == {None}


@given(st.text())
def test_any_metrics(text: str) -> None:
    assert isinstance(metrics.load(metrics.parse(text)), dict)
