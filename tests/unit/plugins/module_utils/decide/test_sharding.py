# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What of the weights lies on which rank."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import sharding
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes
from hypothesis import given
from hypothesis import strategies as st


def tensor(kind: str, size: int, layer: str | None = None) -> dict[str, Any]:
    return {"kind": kind, "layer": layer, "bytes": size, "parameters": size // 2}


def model(*tensors: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "num_layers": 4,
        "num_kv_heads": 2,
        "vocab_size": 640,
        "layers": [{"count": 4, "attention": "full", "feed_forward": "dense"}],
        "weights": {"tensors": list(tensors)},
        **more,
    }


@pytest.mark.parametrize(
    ("kind", "sizes", "share"),
    [
        ("qkv_q", Sizes(4), 1 / 4),
        ("qkv_kv", Sizes(2), 1 / 2),
        # two KV heads on four ranks: each is there twice
        ("qkv_kv", Sizes(4), 1 / 2),
        ("attention_output", Sizes(4), 1 / 4),
        ("mla_down", Sizes(8), 1),
        ("mla_up", Sizes(8), 1 / 8),
        ("router", Sizes(8), 1),
        ("norm", Sizes(8), 1),
        ("ffn_down", Sizes(4, data_parallel_size=2), 1 / 4),
        ("expert_down", Sizes(4, data_parallel_size=2), 1 / 8),
        ("expert_down", Sizes(5, data_parallel_size=2, enable_expert_parallel=True), 1 / 10),
        # ten experts on eight ranks: two on the fullest
        ("expert_down", Sizes(8, enable_expert_parallel=True), 2 / 10),
        ("embedding", Sizes(2), 1 / 2),
        ("mtp", Sizes(1), 0),
        ("something new", Sizes(8), 1),
    ],
)
def test_shares(kind: str, sizes: Sizes, share: float) -> None:
    assert sharding.weights(model(tensor(kind, 1000), num_experts=10), sizes) == [pytest.approx(1000 * share)]


def test_the_vocabulary_is_padded() -> None:
    (size,) = sharding.weights(model(tensor("embedding", 700), vocab_size=100), Sizes(2))
    assert size == pytest.approx(700 * 128 / 100 / 2)


@pytest.mark.parametrize(
    ("ranks", "factor"),
    # gpt-oss: 2880 becomes 3072, and its slices 2944, 1536 and 768
    [(1, 3072 / 2880 * 2944 / 2880), (2, 3072 / 2880 * 1536 / 1440), (4, 3072 / 2880 * 768 / 720)],
)
def test_mxfp4_experts_are_padded(ranks: int, factor: float) -> None:
    shape = {"quantization": "mxfp4", "hidden_size": 2880, "moe_intermediate_size": 2880, "num_experts": 32}
    (size,) = sharding.weights(model(tensor("expert_down", 1000), **shape), Sizes(ranks))
    assert size == pytest.approx(1000 * factor / ranks)


@pytest.mark.parametrize(
    ("layers", "count", "lengths"),
    [(80, 4, [20, 20, 20, 20]), (61, 4, [15, 15, 16, 15]), (62, 4, [15, 16, 16, 15]), (5, 3, [2, 2, 1]), (4, 1, [4])],
)
def test_stages_as_vllm_cuts_them(layers: int, count: int, lengths: list[int]) -> None:
    cut = sharding.stages(layers, count)
    assert [len(stage) for stage in cut] == lengths
    assert [layer for stage in cut for layer in stage] == list(range(layers))


def test_the_head_lies_on_the_last_stage_and_a_tied_one_is_copied_there() -> None:
    untied = model(tensor("embedding", 100), tensor("lm_head", 100))
    assert sharding.weights(untied, Sizes(1, 2)) == [100, 100]
    tied = model(tensor("embedding", 100), tie_word_embeddings=True)
    assert sharding.weights(tied, Sizes(1, 2)) == [100, 100]
    assert sharding.weights(tied, Sizes(1)) == [100]


def test_layers_of_one_kind_lie_where_they_are() -> None:
    runs = [
        {"count": 1, "attention": "full", "feed_forward": "dense"},
        {"count": 3, "attention": "full", "feed_forward": "moe"},
    ]
    shape = model(tensor("ffn_down", 30, "dense"), tensor("expert_down", 30, "moe"), layers=runs)
    assert sharding.weights(shape, Sizes(1, 2)) == [40, 20]


def test_without_kinds_everything_is_divided() -> None:
    assert sharding.weights({"weight_bytes": 800, "num_layers": 4}, Sizes(2, 2)) == [200, 200]


@given(
    tensor_parallel_size=st.integers(1, 16),
    stages=st.integers(1, 4),
    bytes_by_kind=st.dictionaries(
        st.sampled_from(sorted(set(sharding.PLACES) - sharding.NOT_LOADED)), st.integers(1, 10**9), min_size=1
    ),
)
def test_ranks_hold_all_of_a_model(tensor_parallel_size: int, stages: int, bytes_by_kind: dict[str, int]) -> None:
    shape = model(*(tensor(kind, size) for kind, size in bytes_by_kind.items()))
    found = sharding.weights(shape, Sizes(tensor_parallel_size, stages))
    assert len(found) == stages
    assert sum(found) * tensor_parallel_size >= sum(bytes_by_kind.values()) * (1 - 1e-9)
    assert sum(found) <= sum(sharding.weights(shape, Sizes(1, stages))) * (1 + 1e-9)
