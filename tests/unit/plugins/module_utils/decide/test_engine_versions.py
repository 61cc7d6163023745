"""What each vLLM release does by default, where it was read in the release's wheel or logged by it."""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import engine_versions
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.engine_history import (
    DEPRECATED_QUANTIZATIONS,
    HISTORY,
    KV_CACHE_DTYPES,
    MAMBA_CACHE_DTYPES,
    QUANTIZATIONS,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError
from hypothesis import given
from hypothesis import strategies as st

H100 = ("NVIDIA H100 80GB HBM3", 81559)
H200 = ("NVIDIA H200", 143771)
B200 = ("NVIDIA B200", 183359)
A100 = ("NVIDIA A100-SXM4-80GB", 81920)
L40S = ("NVIDIA L40S", 46068)
GB10 = ("NVIDIA GB10", 124546)


@pytest.mark.parametrize(
    ("version", "numbers"),
    [
        ("0.33.0", (0, 33, 0)),
        ("v0.11.0", (0, 11, 0)),
        ("0.8.5.post1", (0, 8, 5)),
        ("0.10.1.1", (0, 10, 1, 1)),
        ("0.32.0+cpu", (0, 32, 0)),
        ("0.15.2rc1", (0, 15, 2)),
        ("0.26.1rc1.dev156+g0eec", (0, 26, 1)),
        (" 0.9 ", (0, 9, 0)),
    ],
)
def test_versions_that_are_read(version: str, numbers: tuple[int, ...]) -> None:
    assert engine_versions.release(version) == numbers


@pytest.mark.parametrize("version", ["", "latest", "0", "nightly-2026", "0.33.x", "0.33.0; rm", "1.2.3.4.5"])
def test_what_is_no_version_is_refused_in_a_sentence(version: str) -> None:
    with pytest.raises(InputError, match=r"cannot be read; write one such as 0\.33\.0"):
        engine_versions.of(version)


@pytest.mark.parametrize(
    ("version", "utilization", "graphs", "capability"),
    [
        ("0.6.0", 0.90, False, "7.0"),
        ("0.8.3", 0.90, False, "7.0"),
        ("0.11.0", 0.90, False, "7.0"),
        ("0.19.1", 0.90, False, "7.0"),
        ("0.20.0", 0.92, True, "7.5"),
        ("0.26.1rc1.dev156+g0eec", 0.92, True, "7.5"),
        (None, 0.92, True, "7.5"),
        ("0.99.0", 0.92, True, "7.5"),
    ],
)
def test_defaults_of_a_release(version: str | None, utilization: float, graphs: bool, capability: str) -> None:
    engine = engine_versions.of(version)
    assert (engine.gpu_memory_utilization, engine.subtracts_cuda_graphs) == (utilization, graphs)
    assert engine.minimum_compute_capability == capability


@pytest.mark.parametrize(
    ("version", "gpu", "batch"),
    [
        ("0.8.3", L40S, (2048, 1024)),
        ("0.8.3", H200, (8192, 1024)),
        ("0.8.4", A100, (2048, 256)),
        ("0.8.5", A100, (8192, 1024)),
        ("0.9.0", A100, (2048, 256)),
        ("0.19.0", H100, (8192, 1024)),
        ("0.27.1", B200, (8192, 1024)),
        ("0.28.0", B200, (16384, 1024)),
        ("0.32.0", GB10, (8192, 1024)),
        ("0.33.0", GB10, (2048, 256)),
        (None, H100, (8192, 1024)),
        (None, H200, (8192, 1024)),
        (None, A100, (2048, 256)),
        (None, ("Tesla T4", 15360), (2048, 256)),
        (None, (None, None), (2048, 256)),
    ],
)
def test_default_batch_of_a_gpu(
    version: str | None, gpu: tuple[str | None, int | None], batch: tuple[int, int]
) -> None:
    assert engine_versions.default_batch(version, *gpu, "cuda", 8) == batch


@pytest.mark.parametrize(
    ("version", "ranks", "batch"),
    [("0.9.2", 2, (2048, 32)), ("0.10.0", 2, (4096, 256)), (None, 1, (2048, 128)), (None, 3, (6144, 384))],
)
def test_default_batch_of_a_cpu_host(version: str | None, ranks: int, batch: tuple[int, int]) -> None:
    assert engine_versions.default_batch(version, None, None, "cpu", ranks) == batch


@pytest.mark.parametrize(
    ("version", "architecture", "more", "runner"),
    [
        ("0.21.0", "Qwen3ForCausalLM", {}, 1),
        ("0.22.0", "Qwen3ForCausalLM", {}, 2),
        ("0.22.0", "Qwen3ForCausalLM", {"quantized": True}, 1),
        ("0.22.0", "LlamaForCausalLM", {}, 1),
        ("0.23.0", "LlamaForCausalLM", {}, 2),
        ("0.24.0", "LlamaForCausalLM", {"quantized": True}, 2),
        ("0.24.0", "Gemma3ForCausalLM", {}, 1),
        ("0.25.1", "Gemma3ForCausalLM", {}, 2),
        ("0.25.1", "Gemma3ForCausalLM", {"pooling": True}, 1),
        ("0.25.1", "MixtralForCausalLM", {"moe": True}, 1),
        ("0.25.1", "DeepseekV2ForCausalLM", {"moe": True}, 2),
        ("0.28.0", "Qwen3NextForCausalLM", {"moe": True, "hybrid": True}, 1),
        ("0.28.0", "DeepseekV4ForCausalLM", {"moe": True, "hybrid": True}, 2),
        ("0.29.0", "Qwen3NextForCausalLM", {"moe": True, "hybrid": True}, 2),
        (None, "LlamaForCausalLM", {"accelerator": "cpu"}, 1),
    ],
)
def test_model_runner(version: str | None, architecture: str, more: dict[str, bool], runner: int) -> None:
    assert engine_versions.of(version).model_runner([architecture], **more) == runner  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("version", "stages", "runner", "pooling", "tokens"),
    [
        # one batch, whatever is in flight
        ("0.25.1", 1, 2, False, 8192),
        ("0.13.0", 4, 1, False, 8192),
        ("0.26.0", 1, 1, False, 16384),
        ("0.26.0", 4, 1, False, 32768),
        (None, 1, 2, False, 16384),
        (None, 4, 2, False, 40960),
        (None, 1, 2, True, 8192),
    ],
)
def test_tokens_in_flight(version: str | None, stages: int, runner: int, pooling: bool, tokens: int) -> None:
    engine = engine_versions.of(version)
    assert engine.max_in_flight_tokens(8192, stages, runner, pooling=pooling) == tokens


@pytest.mark.parametrize(
    ("version", "argument", "said"),
    [
        ("0.18.0", "swap-space", "vLLM 0.18.0 removed --swap-space; leave it out"),
        (None, "task", "vLLM 0.13.0 removed --task; write runner and convert"),
        ("0.10.1.1", "kv-cache-memory-bytes", "--kv-cache-memory-bytes came with vLLM 0.10.2, and this is 0.10.1.1"),
        ("v0.11.0", "nnodes", "--nnodes came with vLLM 0.11.1, and this is 0.11.0"),
    ],
)
def test_options_that_a_release_refuses(version: str | None, argument: str, said: str) -> None:
    problem = engine_versions.of(version).argument_problem(argument)
    assert problem is not None
    assert problem.startswith(said)


@pytest.mark.parametrize(
    ("version", "argument"), [("0.17.1", "swap-space"), (None, "nnodes"), (None, "max-model-len"), (None, "no-such")]
)
def test_options_that_the_tables_do_not_refuse(version: str | None, argument: str) -> None:
    assert engine_versions.of(version).argument_problem(argument) is None


def test_names_come_and_go() -> None:
    old, new = engine_versions.of("0.23.0"), engine_versions.of(None)
    assert "gguf" in old.quantizations
    assert "gguf" not in new.quantizations
    assert "nvfp4" not in engine_versions.of("0.19.0").kv_cache_dtypes
    assert "nvfp4" in new.kv_cache_dtypes
    assert new.mamba_cache_dtypes == {"auto", "float32", "float16", "bfloat16"}
    assert new.deprecated_quantizations == {"fbgemm_fp8", "fp_quant"}


def test_every_list_begins_with_the_earliest_release_and_goes_upwards() -> None:
    for name, history in HISTORY.items():
        releases = [engine_versions.release(since) for since, _value in history]
        assert releases[0] == engine_versions.release("0.7.3"), name
        assert releases == sorted(set(releases)), name
        assert all(one[1] != other[1] for one, other in itertools.pairwise(history)), f"{name} repeats a value"
    for table in (QUANTIZATIONS, DEPRECATED_QUANTIZATIONS, KV_CACHE_DTYPES, MAMBA_CACHE_DTYPES):
        for name, (since, until) in table.items():
            assert until is None or engine_versions.release(since) < engine_versions.release(until), name


@given(st.tuples(st.integers(0, 1), st.integers(0, 60), st.integers(0, 9)), st.floats(0, 400_000), st.text())
def test_every_release_has_a_batch_for_every_gpu(numbers: tuple[int, int, int], mib: float, name: str) -> None:
    tokens, sequences = engine_versions.default_batch(".".join(map(str, numbers)), name, mib, "cuda")
    assert tokens >= sequences > 0
