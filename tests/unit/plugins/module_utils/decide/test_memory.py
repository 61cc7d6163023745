# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The memory account against DEBUG logs of real engines, and its refusals."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import engine_versions, measured, memory
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.memory import Engine, Gpu
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model as model_files

GIB = 1024**3
H100 = Gpu(79.19, 79.19)
# config.json of real models, as far as it matters here
LLAMA_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 131072,
    "torch_dtype": "bfloat16",
}
QWEN_72B = {
    **LLAMA_8B,
    "architectures": ["Qwen2ForCausalLM"],
    "model_type": "qwen2",
    "hidden_size": 8192,
    "intermediate_size": 29568,
    "num_hidden_layers": 80,
    "num_attention_heads": 64,
    "vocab_size": 152064,
}
MIXTRAL = {
    **LLAMA_8B,
    "architectures": ["MixtralForCausalLM"],
    "model_type": "mixtral",
    "num_local_experts": 8,
    "num_experts_per_tok": 2,
    "vocab_size": 32000,
    "max_position_embeddings": 32768,
}


def engine(version: str = "0.19.0", **more: Any) -> Engine:
    return Engine(engine_versions.of(version), 0.95, 8192, 1024, **{"model_runner": 1, **more})


def test_what_experts_leave_of_the_buffers_of_several_ranks() -> None:
    """Model loading took 43.51 GiB for Mixtral-8x7B on two H100, vLLM 0.19.0, and 67.80 for Qwen2.5-72B."""
    for config, loaded in ((MIXTRAL, 43.51), (QWEN_72B, 67.80)):
        account = memory.accounts(model_files.facts(config), Sizes(2), engine(), H100)[0]
        assert account.weights_gib == pytest.approx(loaded, abs=0.02)


def test_a_memory_that_host_and_gpu_share_pays_for_the_processes_of_the_host() -> None:
    model, spark = model_files.facts(LLAMA_8B), Gpu(121.63, 121.63, 12.1)
    own = memory.accounts(model, Sizes(), engine("0.33.0"), spark)[0]
    shared = memory.accounts(model, Sizes(), engine("0.33.0"), replace(spark, unified=True))[0]
    assert own.kv_cache_gib - shared.kv_cache_gib == pytest.approx(2.8)
    assert shared.weights_gib == own.weights_gib


@pytest.mark.parametrize(
    ("config", "sizes", "weights", "rest", "kv"),
    [
        # vLLM 0.19.0 on H100 80GB at 0.95: weights, what is neither weights nor KV cache, KV cache, in GiB
        pytest.param(QWEN_72B, Sizes(2), 67.80, 4.38, 3.04, id="Qwen2.5-72B on two"),
        pytest.param(MIXTRAL, Sizes(2), 43.51, 3.28, 28.44, id="Mixtral-8x7B on two: the experts' workspace"),
    ],
)
def test_as_engines_logged(config: dict[str, Any], sizes: Sizes, weights: float, rest: float, kv: float) -> None:
    (account,) = memory.accounts(model_files.facts(config), sizes, engine(), H100)
    assert account.weights_gib == pytest.approx(weights, rel=0.01)
    assert memory.rest_gib(engine(), account) == pytest.approx(rest, abs=0.15)
    assert account.kv_cache_gib == pytest.approx(kv, abs=0.25)


def test_the_parts_add_up_to_the_budget() -> None:
    newer = engine("0.33.0", model_runner=2)
    (account,) = memory.accounts(model_files.facts(LLAMA_8B), Sizes(), newer, H100)
    assert account.budget_gib == pytest.approx(79.19 * 0.95)
    parts = account.weights_gib + account.activation_gib + account.cuda_graphs_gib + account.non_torch_gib
    assert parts + account.kv_cache_gib == pytest.approx(account.budget_gib)


def test_cuda_graphs_count_against_the_budget_since_0_20() -> None:
    def kv(version: str, **more: Any) -> float:
        (account,) = memory.accounts(model_files.facts(LLAMA_8B), Sizes(), engine(version, **more), H100)
        return account.kv_cache_gib

    assert kv("0.19.0") == kv("0.19.0", enforce_eager=True)
    assert kv("0.20.0") < kv("0.20.0", enforce_eager=True)


def test_the_graphs_of_the_second_runner_come_on_top_before_0_29() -> None:
    """As Llama-3.1-8B on an H200: 0.98 GiB captured with the budget full of KV cache."""
    model, gpu = model_files.facts(LLAMA_8B), Gpu(139.8, 139.8)

    def drawn_up(version: str, **more: Any) -> tuple[memory.Engine, memory.Account]:
        used = replace(engine(version, model_runner=2), **more)
        (account,) = memory.accounts(model, Sizes(), used, gpu)
        return used, account

    _, eager = drawn_up("0.25.1", enforce_eager=True)
    used, account = drawn_up("0.25.1")
    assert account.cuda_graphs_gib == pytest.approx(0.98, abs=0.1)
    assert account.kv_cache_gib == eager.kv_cache_gib
    assert memory.rest_gib(used, account) == pytest.approx(account.activation_gib + account.non_torch_gib)
    _, newer = drawn_up("0.29.0")
    assert newer.kv_cache_gib < drawn_up("0.29.0", enforce_eager=True)[1].kv_cache_gib
    # 1.4 GiB are left beside 0.99 of it: the CUDA context takes 0.5
    full, account = drawn_up("0.25.1", gpu_memory_utilization=0.99)
    refused = memory.start_problem(model, Sizes(), full, gpu, account)
    assert refused is not None
    assert refused.rule == "utilization_too_high"
    full, account = drawn_up("0.25.1", gpu_memory_utilization=0.99, enforce_eager=True)
    assert memory.start_problem(model, Sizes(), full, gpu, account) is None


@pytest.mark.parametrize(
    ("fewer", "more"),
    [
        (engine(), replace(engine(), max_num_seqs=256)),
        (engine(), replace(engine(), max_num_batched_tokens=2048)),
        (engine("0.16.0"), engine("0.17.0")),
        (replace(engine(), gpu_memory_utilization=0.9), engine()),
    ],
    ids=["sequences", "batched tokens", "the sampler of 0.17", "utilization"],
)
def test_what_leaves_more_for_the_cache(fewer: Engine, more: Engine) -> None:
    model = model_files.facts(LLAMA_8B)
    less = memory.fit(model, Sizes(), fewer, H100, 8192)
    assert memory.fit(model, Sizes(), more, H100, 8192).cache.tokens > less.cache.tokens


def test_a_length_left_open_is_the_longest_that_fits() -> None:
    model = model_files.facts(LLAMA_8B)
    found = memory.fit(model, Sizes(), engine("0.33.0"), Gpu(22.0, 22.0), None)
    assert found.fits
    assert 8192 < found.max_model_len < 131072
    assert memory.fit(model, Sizes(), engine("0.33.0"), H100, None).max_model_len == 131072
    twice = memory.fit(model, Sizes(), engine("0.33.0"), Gpu(22.0, 22.0), None, min_concurrency=2)
    assert twice.cache.concurrency >= 2


def test_a_stated_cache_size_replaces_what_is_left() -> None:
    stated = replace(engine(), kv_cache_memory_bytes=2 * GIB)
    assert memory.fit(model_files.facts(LLAMA_8B), Sizes(), stated, H100, 8192).account.kv_cache_gib == 2


def test_a_stated_cache_size_does_not_make_room_for_weights() -> None:
    stated, model = replace(engine(), kv_cache_memory_bytes=2 * GIB), model_files.facts(LLAMA_8B)
    (account,) = memory.accounts(model, Sizes(), stated, Gpu(16.0, 16.0))
    assert account.kv_cache_gib < 0
    # graphs come on top where the release takes them off no budget
    assert memory.rest_gib(stated, account) > account.activation_gib + account.non_torch_gib


class TestStart:
    def problem(self, gpu: Gpu = H100, config: dict[str, Any] = LLAMA_8B, **more: Any) -> Any:
        model = model_files.facts(config)
        used = engine(**more)
        (account,) = memory.accounts(model, Sizes(), used, gpu)
        return memory.start_problem(model, Sizes(), used, gpu, account)

    def test_a_free_gpu_is_fine(self) -> None:
        assert self.problem() is None

    def test_memory_that_others_hold(self) -> None:
        found = self.problem(Gpu(79.19, 60.85))
        assert found.rule == "memory_held"
        assert found.reason == (
            "60.9 of 79.2 GiB of a GPU are free, and a gpu_memory_utilization of 0.95 asks for 75.2"
        )
        assert "write gpu_memory_utilization: 0.76 or less" in found.remedies

    def test_too_high_a_utilization(self) -> None:
        found = self.problem(Gpu(22.0, 22.0, capability=8.6, fast_links=False))
        assert found.rule == "utilization_too_high"
        assert found.remedies == ("write gpu_memory_utilization: 0.94 or less",)


@pytest.mark.parametrize(
    ("name", "total", "reserved", "seen"),
    [
        ("NVIDIA H100 80GB HBM3", 81559, None, 81080),
        ("NVIDIA H100 80GB HBM3", 81090, None, 81090),
        ("NVIDIA H200", 143771, 616, 143155),
        ("AMD Instinct MI300X", 196592, None, 196592),
        ("Some GPU", 16384, None, 15904),
    ],
    ids=["by the table", "what CUDA sees already", "as the driver says", "AMD", "not in the table"],
)
def test_what_cuda_sees(name: str, total: float, reserved: float | None, seen: float) -> None:
    assert measured.visible_mib(name, total, reserved) == seen


def test_every_number_is_there_for_every_release() -> None:
    names = {row.name for row in measured.TABLE}
    for name in names:
        for version in ("0.7.3", "0.11.0", "0.16.0", "0.19.0", "0.33.0"):
            for ranks in (1, 2, 4, 8, 16):
                for capability in (0.0, 7.5, 8.0, 9.0, 12.0):
                    assert measured.number(name, version, ranks, capability) >= 0


def test_a_correction_replaces_a_number() -> None:
    row = measured.Measured("non_torch", 1.5, "GiB", "a receipt", since=(0, 33), until=(0, 34), ranks=(2, 2))
    assert measured.number("non_torch", "0.33.0", 2, corrections=(row,)) == 1.5
    for other in (("0.32.0", 2), ("0.33.0", 1)):
        assert measured.number("non_torch", *other, corrections=(row,)) == measured.number("non_torch", *other)


def test_sizes_captured() -> None:
    assert [memory.captured_sizes(count) for count in (1, 16, 1024)] == [2, 7, 51]
