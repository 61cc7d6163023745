"""Bytes and operations of one step."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import model_work
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.model_work import Work
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes

from tests.unit.model_samples import LLAMA_1B, LLAMA_8B, QWEN3_8B_AWQ, QWEN3_235B_FP8

GIB = 1024**3


def work(model: dict[str, Any], sizes: Sizes) -> Work:
    found = model_work.work(model, sizes)
    assert found is not None
    return found


def test_the_table_of_embeddings_is_read_only_where_it_is_the_head_too() -> None:
    assert work(LLAMA_8B, Sizes()).read_bytes == 16_060_522_496 - 128256 * 4096 * 2
    assert work(LLAMA_1B, Sizes()).read_bytes == 2_471_628_800


def test_tensor_parallel_ranks_read_their_share_and_stages_together_all() -> None:
    whole = work(LLAMA_8B, Sizes()).read_bytes
    assert work(LLAMA_8B, Sizes(4)).read_bytes == pytest.approx(whole / 4, rel=0.001)
    assert work(LLAMA_8B, Sizes(1, 4)).read_bytes == whole


def test_bits_of_a_weight_include_scales() -> None:
    assert work(LLAMA_8B, Sizes()).bits == 16
    # the head stays in 16 bits
    assert 4.5 < work(QWEN3_8B_AWQ, Sizes()).bits < 6


def test_experts_are_spread_over_all_ranks() -> None:
    alone, spread = work(QWEN3_235B_FP8, Sizes()), work(QWEN3_235B_FP8, Sizes(2, 1, 4, True))
    assert 210 * GIB < alone.expert_bytes < 220 * GIB
    assert spread.expert_bytes == pytest.approx(alone.expert_bytes / 8)
    assert spread.read_bytes == pytest.approx(alone.read_bytes / 2, rel=0.2)


@pytest.mark.parametrize(
    ("sizes", "tokens", "expected"),
    [
        (Sizes(), 1, 8 / 128),
        (Sizes(), 2, 1 - (1 - 8 / 128) ** 2),
        (Sizes(8), 1, 8 / 128),
        (Sizes(), 10_000, 1.0),
        (Sizes(8, 1, 1, True), 10_000, 1.0),
        # one of 16 experts on the mean, and 1 + sqrt(2 ln 8 x 15/16) on the busiest rank
        (Sizes(8, 1, 1, True), 1, 0.1859),
    ],
)
def test_how_many_experts_are_touched(sizes: Sizes, tokens: int, expected: float) -> None:
    assert model_work.touched(QWEN3_235B_FP8, sizes, tokens) == pytest.approx(expected, abs=1e-4)


def test_a_dense_model_touches_everything() -> None:
    assert model_work.touched(LLAMA_8B, Sizes(2), 1) == model_work.expert_share(LLAMA_8B) == 1


def layers_of(**entry: Any) -> dict[str, Any]:
    return {
        "num_layers": 10,
        "num_attention_heads": 16,
        "layers": [
            {"count": 2, "attention": "full", "feed_forward": "dense"},
            {"count": 7, "attention": "other", "feed_forward": "moe"},
            {"count": 1, "attention": None, "feed_forward": "dense"},
        ],
        "attention": {
            "full": {"type": "full", "num_heads": 16, "num_kv_heads": 4, "head_dim": 128},
            "other": entry,
        },
    }


FULL = 2 * 4 * (128 + 128) * 2 * 4000


@pytest.mark.parametrize(
    ("entry", "sizes", "expected"),
    [
        ({"type": "sliding", "num_kv_heads": 4, "head_dim": 128, "window": 1024}, Sizes(), 7 * 4 * 256 * 2 * 1024),
        ({"type": "chunked", "num_kv_heads": 4, "head_dim": 128, "chunk": 8192}, Sizes(), 7 * 4 * 256 * 2 * 4000),
        ({"type": "full", "num_kv_heads": 4, "head_dim": 128, "head_dim_v": 64}, Sizes(), 7 * 4 * 192 * 2 * 4000),
        ({"type": "mla", "kv_lora_rank": 512, "qk_rope_head_dim": 64}, Sizes(), 7 * 576 * 2 * 4000),
        (
            {"type": "mla", "kv_lora_rank": 512, "qk_rope_head_dim": 64, "index_head_dim": 128},
            Sizes(),
            7 * (128 * 4000 + 2048 * 576 * 2),
        ),
        ({"type": "mamba1", "intermediate_size": 64, "state_size": 16, "conv_kernel": 4}, Sizes(), 7 * 2 * 64 * 38),
        ({"type": "other"}, Sizes(), 0),
        ({"type": "mamba2"}, Sizes(), 0),
    ],
)
def test_what_is_read_of_the_cache(entry: dict[str, Any], sizes: Sizes, expected: float) -> None:
    assert model_work.kv_read_bytes(layers_of(**entry), sizes, 2, 4000) == FULL + expected


@pytest.mark.parametrize(
    ("sizes", "share"), [(Sizes(2), 1 / 2), (Sizes(4), 1 / 4), (Sizes(8), 1 / 4), (Sizes(8, 1, 1, False, 2), 1 / 8)]
)
def test_ranks_share_the_cache_by_heads_and_context_parallel_ranks_by_tokens(sizes: Sizes, share: float) -> None:
    assert model_work.kv_read_bytes(layers_of(), sizes, 2, 4000) == FULL * share


def test_without_a_list_of_layers_all_are_alike() -> None:
    plain = {"num_layers": 10, "num_kv_heads": 4, "head_dim": 128, "num_attention_heads": 16}
    assert model_work.kv_read_bytes(plain, Sizes(), 2, 4000) == 5 * FULL
    assert model_work.layer_counts(plain) == (10, 0, 20)
    assert model_work.layer_counts({**plain, "num_experts": 8}) == (10, 10, 20)


def test_layers_and_blocks() -> None:
    assert model_work.layer_counts(layers_of()) == (10, 7, 19)


def test_attention_looks_at_its_window() -> None:
    full = model_work.attention_operations(layers_of(type="mamba1"), Sizes(), 4000)
    assert full == 2 * 4 * 16 * 128 * 4000
    windowed = layers_of(type="sliding", num_heads=16, head_dim=128, window=1000)
    assert model_work.attention_operations(windowed, Sizes(2), 4000) == (full + 7 * 4 * 16 * 128 * 1000) / 2
