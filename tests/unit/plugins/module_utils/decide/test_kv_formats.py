# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""KV caches whose size depends on the head, on the GPU, or on compression."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import instances, kv_cache, memory, settings
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.pools import Pool
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes

LATENT = {
    "type": "mla",
    "num_heads": 64,
    "kv_lora_rank": 512,
    "qk_rope_head_dim": 64,
    "index_head_dim": 128,
    "index_n_heads": 32,
}


def pool(capability: str) -> Pool:
    return Pool((0,), "a GPU", 183359, 183359, None, capability)


def token_bytes(architecture: str, capability: str, kv_cache_dtype: str) -> int:
    """Bytes of one token of one layer of sparse MLA, without its indexer."""
    model = {
        "architectures": [architecture],
        "dtype": "bfloat16",
        "attention": {"mla": LATENT},
        "layers": [{"count": 1, "attention": "mla"}],
    }
    one = instances.instances([{"name": "m", "model": "org/m", "kv_cache_dtype": kv_cache_dtype}], "/models")[0]
    options = memory.cache_options(Sizes(), settings.resolve(one, model, pool(capability), "cuda").engine)
    (group,) = kv_cache.groups_of(model, options)
    return group.pages[0][1] // options.block_size - 132


@pytest.mark.parametrize(
    ("architecture", "capability", "kv_cache_dtype", "size"),
    [
        # model_executor/models/config.py:89-101, layers/attention/mla_attention.py:359-378 of vLLM 0.33.0
        ("GlmMoeDsaForCausalLM", "10.0", "auto", 576),
        ("GlmMoeDsaForCausalLM", "10.3", "auto", 576),
        ("GlmMoeDsaForCausalLM", "9.0", "auto", 1152),
        ("DeepseekV32ForCausalLM", "10.0", "auto", 1152),
        ("DeepseekV32ForCausalLM", "10.0", "fp8", 576),
        ("DeepseekV32ForCausalLM", "9.0", "fp8", 656),
        ("DeepseekV32ForCausalLM", "10.0", "fp8_ds_mla", 656),
        ("DeepseekV32ForCausalLM", "12.0", "auto", 656),
        ("DeepseekV32ForCausalLM", "10.0", "nvfp4_ds_mla", 352),
    ],
)
def test_sparse_mla_by_capability(architecture: str, capability: str, kv_cache_dtype: str, size: int) -> None:
    assert token_bytes(architecture, capability, kv_cache_dtype) == size


def plain_token(options: kv_cache.CacheOptions, layers: int = 8) -> list[int]:
    entry = {"type": "full", "num_heads": 8, "num_kv_heads": 2, "head_dim": 128}
    model = {"attention": {"full": entry}, "layers": [{"count": layers, "attention": "full"}]}
    (group,) = kv_cache.groups_of(model, options)
    return [page // options.block_size for _, page in group.pages]


@pytest.mark.parametrize(
    ("name", "size"),
    [
        # turboquant/config.py:137-173: 2 heads of keys, norm, values, scale and zero, rounded up to an even number
        ("turboquant_k8v4", 2 * (128 + 64 + 4)),
        ("turboquant_4bit_nc", 2 * (64 + 2 + 64 + 4)),
        ("turboquant_3bit_nc", 2 * (48 + 2 + 48 + 4)),
        # triton_attn.py:308-319
        ("fp8_per_token_head", 2 * (256 + 8)),
        ("int4_per_token_head", 2 * (128 + 8)),
    ],
)
def test_formats_of_a_head(name: str, size: int) -> None:
    sizes = plain_token(kv_cache.CacheOptions(kv_format=name))
    assert sizes[3:5] == [size, size]
    ends = {sizes[0], sizes[1], sizes[-2], sizes[-1]}
    assert ends == ({2 * 256 * 2} if name.startswith("turbo") else {size})


def test_a_type_that_cannot_be_counted_says_which_can() -> None:
    with pytest.raises(kv_cache.Unknown) as caught:
        kv_cache.dtype_bytes("octave_k3v4")
    assert "fp8" in caught.value.remedies[0]


def test_the_cache_of_deepseek_v4() -> None:
    """vllm#51454: 20.43 requests of 1,048,576 tokens in 142 GiB of 8 x B200, vLLM 0.25.0."""
    common: dict[str, Any] = {"type": "compressed", "head_dim": 512, "qk_rope_head_dim": 64, "window": 128}
    model = {
        "attention": {
            "window": {**common, "compress_ratio": 1},
            "four": {**common, "compress_ratio": 4, "index_head_dim": 128},
            "many": {**common, "compress_ratio": 128},
        },
        "layers": [
            {"count": 2, "attention": "window"},
            *({"count": 1, "attention": "many" if place % 2 else "four"} for place in range(41)),
        ],
    }
    options = kv_cache.CacheOptions(in_flight_tokens=8192)
    groups = kv_cache.groups_of(model, options)
    size = kv_cache.block_bytes(groups, range(43))
    assert size == 21 * (37440 + 8640) + 20 * 1728
    assert kv_cache.blocks_needed(groups, 1048576, options) * size / 1024**3 == pytest.approx(142 / 20.43, rel=0.01)


def test_encoders_keep_nothing() -> None:
    model = {"attention": {"encoder": {"type": "encoder"}}, "layers": [{"count": 24, "attention": "encoder"}]}
    assert kv_cache.groups_of(model, kv_cache.CacheOptions()) == []
