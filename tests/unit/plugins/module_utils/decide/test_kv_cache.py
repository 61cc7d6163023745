# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Blocks, tokens and concurrency against what real engines logged, and against vLLM's rules."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import kv_cache
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.kv_cache import CacheOptions, Unknown

GIB = 1024**3


def attention(kind: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "num_heads": 32, "num_kv_heads": 8, "head_dim": 128, "head_dim_v": 128, **more}


def uniform(layers: int, **more: Any) -> dict[str, Any]:
    return {
        "num_layers": layers,
        "layers": [{"count": layers, "attention": "full", "feed_forward": "dense"}],
        "attention": {"full": attention("full", **more)},
    }


def pattern(runs: list[tuple[int, str]], repeats: int, kinds: dict[str, dict[str, Any]]) -> dict[str, Any]:
    layers = [{"count": count, "attention": key, "feed_forward": "dense"} for count, key in runs] * repeats
    return {"num_layers": sum(run["count"] for run in layers), "layers": layers, "attention": kinds}


GDN = {
    "type": "gdn",
    "num_k_heads": 16,
    "num_v_heads": 48,
    "head_k_dim": 128,
    "head_v_dim": 128,
    "conv_kernel": 4,
    "state_dtype": "float32",
}
# Qwen3.5-27B: three gated delta nets to one full attention, 64 layers
QWEN35 = pattern(
    [(3, "gdn"), (1, "full")], 16, {"gdn": GDN, "full": attention("full", num_kv_heads=4, head_dim=256, head_dim_v=256)}
)
# gemma-4-26B-A4B: five sliding layers to one full, of other head sizes
GEMMA4 = pattern(
    [(5, "sliding"), (1, "full")],
    5,
    {
        "sliding": attention("sliding", window=1024, head_dim=256, head_dim_v=256),
        "full": attention("full", num_kv_heads=2, head_dim=512, head_dim_v=512),
    },
)
DEEPSEEK_LITE = {
    "num_layers": 27,
    "layers": [{"count": 27, "attention": "mla", "feed_forward": "moe"}],
    "attention": {"mla": {"type": "mla", "kv_lora_rank": 512, "qk_rope_head_dim": 64}},
}
V019 = CacheOptions(align=False, tokens_by_concurrency=False, spare_block=False, in_flight_tokens=8192)


@pytest.mark.parametrize(
    ("model", "options", "kv_gib", "length", "tokens", "concurrency"),
    [
        # public logs; the GiB there have two digits, hence the tolerance
        pytest.param(uniform(32), V019, 67.71, 8192, 554704, 67.71, id="Llama-3.1-8B 0.19"),
        pytest.param(
            uniform(80), replace(V019, tensor_parallel_size=2), 3.04, 8192, 19920, 2.43, id="Qwen2.5-72B tp 2 0.19"
        ),
        pytest.param(DEEPSEEK_LITE, V019, 43.61, 8192, 1505552, 183.78, id="DeepSeek-V2-Lite, MLA 0.19"),
        pytest.param(
            QWEN35, replace(V019, tensor_parallel_size=4), 7.0, 32768, 114464, 12.98, id="Qwen3.5-27B tp 4, hybrid 0.19"
        ),
        pytest.param(
            QWEN35,
            CacheOptions(align=True, in_flight_tokens=4096),
            41.03,
            4096,
            292522,
            71.42,
            id="Qwen3.6-27B hybrid with prefix caching 0.27",
        ),
        pytest.param(
            GEMMA4,
            CacheOptions(in_flight_tokens=2496),
            83.89,
            262144,
            3875400,
            14.78,
            id="gemma-4, two page sizes 0.25",
        ),
    ],
)
def test_as_engines_logged(
    model: dict[str, Any], options: CacheOptions, kv_gib: float, length: int, tokens: int, concurrency: float
) -> None:
    groups = kv_cache.groups_of(model, options)
    cache = kv_cache.sized(groups, [range(model["num_layers"])], [kv_gib * GIB], length, length, options)
    assert cache.tokens == pytest.approx(tokens, rel=0.003)
    assert cache.concurrency == pytest.approx(concurrency, rel=0.003)


def test_layers_of_two_kinds_make_groups_of_one_size() -> None:
    kinds = {"sliding": attention("sliding", window=1024), "full": attention("full")}
    # gemma-3-27b: 62 layers, padded to 70
    model = pattern([(5, "sliding"), (1, "full")], 10, kinds)
    model["layers"].append({"count": 2, "attention": "sliding", "feed_forward": "dense"})
    groups = kv_cache.groups_of(model, CacheOptions())
    assert [len(group.pages) for group in groups] == [9, 9, 9, 9, 8, 8, 10]
    assert kv_cache.block_bytes(groups, range(62)) == 10 * 16 * 8 * 256 * 2


def test_nearly_as_many_of_each_kind_are_padded_instead() -> None:
    kinds = {"sliding": attention("sliding", window=128), "full": attention("full")}
    model = pattern([(1, "sliding"), (1, "full")], 12, kinds)
    model["layers"].append({"count": 1, "attention": "full", "feed_forward": "dense"})
    assert [len(group.pages) for group in kv_cache.groups_of(model, CacheOptions())] == [12, 13]


def test_without_the_hybrid_manager_windows_save_nothing() -> None:
    kinds = {"sliding": attention("sliding", window=128), "full": attention("full")}
    model = pattern([(1, "sliding"), (1, "full")], 12, kinds)
    groups = kv_cache.groups_of(model, CacheOptions(hybrid_manager=False))
    assert [len(group.pages) for group in groups] == [24]


def test_kv_heads_are_copied_when_ranks_are_more() -> None:
    token = {
        ranks: kv_cache.block_bytes(kv_cache.groups_of(uniform(1), CacheOptions(tensor_parallel_size=ranks)), range(1))
        for ranks in (1, 2, 8, 16)
    }
    assert token[1] == 8 * token[8]
    assert token[16] == token[8]


def test_an_mla_cache_is_not_divided_by_tensor_parallelism_and_is_by_context_parallelism() -> None:
    def cache(tensor_parallel_size: int = 1, decode_context_parallel_size: int = 1) -> kv_cache.Cache:
        options = CacheOptions(tensor_parallel_size, decode_context_parallel_size)
        groups = kv_cache.groups_of(DEEPSEEK_LITE, options)
        return kv_cache.sized(groups, [range(27)], [10 * GIB], 65536, 65536, options)

    assert cache(tensor_parallel_size=8) == cache()
    assert cache(tensor_parallel_size=8, decode_context_parallel_size=8).tokens == pytest.approx(8 * cache().tokens)


def test_an_indexer_keeps_keys_of_its_own() -> None:
    sparse = {"type": "mla", "kv_lora_rank": 512, "qk_rope_head_dim": 64, "index_head_dim": 128, "index_n_heads": 64}
    model = {**DEEPSEEK_LITE, "attention": {"mla": sparse}}
    one = range(1)
    assert kv_cache.block_bytes(kv_cache.groups_of(model, CacheOptions()), one) == 16 * (576 * 2 + 132)
    assert kv_cache.block_bytes(kv_cache.groups_of(model, CacheOptions(kv_bytes=1)), one) == 16 * (656 + 132)


def test_layers_that_share_the_cache_of_another_keep_nothing() -> None:
    model = uniform(30)
    model["layers"] = [
        {"count": 10, "attention": "full", "feed_forward": "dense"},
        {"count": 20, "attention": "full", "feed_forward": "dense", "shares_kv": True},
    ]
    assert [len(group.pages) for group in kv_cache.groups_of(model, CacheOptions())] == [10]


def test_the_poorest_stage_decides() -> None:
    model, options = uniform(10), CacheOptions()
    groups = kv_cache.groups_of(model, options)
    stages = [range(5), range(5, 10)]
    poor = kv_cache.sized(groups, stages, [4 * GIB, 1 * GIB], 4096, 4096, options)
    assert poor == kv_cache.sized(groups, stages, [1 * GIB, 1 * GIB], 4096, 4096, options)


def test_the_longest_request_leaves_one_block_to_the_engine() -> None:
    model, options = uniform(1), CacheOptions()
    groups = kv_cache.groups_of(model, options)
    ten = 10 * kv_cache.block_bytes(groups, range(1))
    assert kv_cache.sized(groups, [range(1)], [ten], 16, 4096, options).longest == 9 * 16
    assert kv_cache.sized(groups, [range(1)], [ten], 16, 4096, options, min_concurrency=3).longest == 3 * 16


def test_a_model_without_attention_has_no_limit() -> None:
    model = {"num_layers": 2, "layers": [{"count": 2, "attention": None, "feed_forward": "dense"}], "attention": {}}
    cache = kv_cache.sized(kv_cache.groups_of(model, CacheOptions()), [range(2)], [0], 512, 512, CacheOptions())
    assert (cache.concurrency, cache.longest) == (math.inf, 512)


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ({}, "layers of the model"),
        ({**uniform(1), "attention": {"full": {"type": "other"}}}, "full layers"),
        ({**uniform(1), "attention": {"full": {"type": "full", "num_kv_heads": 8}}}, "head_dim"),
        ({**DEEPSEEK_LITE, "attention": {"mla": {"type": "mla", "kv_lora_rank": 512}}}, "qk_rope_head_dim"),
    ],
)
def test_what_is_not_known_is_named(model: dict[str, Any], named: str) -> None:
    with pytest.raises(Unknown, match=named):
        kv_cache.groups_of(model, CacheOptions())


def test_a_type_without_a_size_is_named() -> None:
    with pytest.raises(Unknown, match="int7"):
        kv_cache.dtype_bytes("int7")
