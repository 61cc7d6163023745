"""vLLM's divisibility rules, with the numbers of real models."""

from __future__ import annotations

import re
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import constraints
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.samples import LLAMA_70B, QWEN3_06B, QWEN25_7B, shared_json

# 52 heads, as in vllm-project/vllm#414
LLAMA_33B = {"num_attention_heads": 52, "num_kv_heads": 52, "vocab_size": 32000, "intermediate_size": 17920}
DEEPSEEK_V3 = {
    "num_attention_heads": 128,
    "num_kv_heads": 128,
    "mla": True,
    "vocab_size": 129280,
    "intermediate_size": 18432,
    "moe_intermediate_size": 2048,
    "num_experts": 256,
}
QWEN3_30B_A3B = {
    "num_attention_heads": 32,
    "num_kv_heads": 4,
    "vocab_size": 151936,
    "intermediate_size": 6144,
    "moe_intermediate_size": 768,
    "num_experts": 128,
}


@pytest.mark.parametrize(
    ("model", "most", "legal"),
    [
        (LLAMA_70B, 16, [1, 2, 4, 8, 16]),
        # 152064 = 64 * 2376 divides by 1, 2, 3, ...; its 28 heads leave 7, which its 4 KV heads forbid
        (QWEN25_7B, 8, [1, 2, 4]),
        # 151936 = 64 * 2374
        (QWEN3_06B, 8, [1, 2, 4, 8]),
        (LLAMA_33B, 4, [1, 2, 4]),
        (DEEPSEEK_V3, 16, [1, 2, 4, 8, 16]),
        (QWEN3_30B_A3B, 8, [1, 2, 4, 8]),
        ({}, 3, [1, 2, 3]),
        (LLAMA_70B, 0, []),
    ],
)
def test_legal_sizes(model: dict[str, Any], most: int, legal: list[int]) -> None:
    assert constraints.legal_sizes(model, most) == legal


@pytest.mark.parametrize(
    ("model", "size", "said"),
    [
        (
            LLAMA_33B,
            3,
            "52 attention heads and 52 KV heads and a vocabulary of 32000 (padded to a multiple of 64) "
            "and an intermediate size of 17920",
        ),
        (LLAMA_33B, 8, "52 attention heads and 52 KV heads"),
        (
            QWEN25_7B,
            7,
            "4 KV heads and a vocabulary of 152064 (padded to a multiple of 64) and an intermediate size of 18944",
        ),
        # 152064 divides by 3 and 18944 does not
        (QWEN25_7B, 3, "28 attention heads and 4 KV heads and an intermediate size of 18944"),
        ({"vocab_size": 151936}, 3, "a vocabulary of 151936 (padded to a multiple of 64)"),
        ({"num_kv_heads": 8}, 12, "8 KV heads"),
        ({"moe_intermediate_size": 768, "num_experts": 128}, 5, "an expert intermediate size of 768"),
    ],
)
def test_what_is_broken_is_named(model: dict[str, Any], size: int, said: str) -> None:
    assert constraints.say(model, constraints.broken(model, size)) == said


@pytest.mark.parametrize(
    ("model", "size"),
    [
        ({"num_kv_heads": 8}, 16),  # each KV head on two ranks
        ({"num_kv_heads": 1}, 7),
        ({"num_kv_heads": 128, "mla": True}, 3),  # one latent head for all
        ({"vocab_size": 32001}, 32),  # padded to 32064 = 64 * 501
        ({"moe_intermediate_size": 768}, 5),  # a dense model of a family that names it
        ({"num_attention_heads": None, "vocab_size": None}, 3),
    ],
)
def test_what_is_allowed(model: dict[str, Any], size: int) -> None:
    assert constraints.broken(model, size) == []


def test_every_rule_says_where_it_comes_from() -> None:
    assert all(re.match(r"[\w/]+\.py:\d", rule.source) for rule in constraints.TENSOR_PARALLEL_RULES)


NUMBERS = st.none() | st.integers(1, 300_000)
MODELS = st.fixed_dictionaries(
    {},
    optional={
        **{key: NUMBERS for rule in constraints.TENSOR_PARALLEL_RULES for key in rule.needs},
        "mla": st.booleans(),
    },
)


@given(MODELS, st.integers(1, 20))
def test_size_one_is_legal_and_legal_sizes_break_nothing(model: dict[str, Any], most: int) -> None:
    legal = constraints.legal_sizes(model, most)
    assert legal[0] == 1
    for size in range(1, most + 1):
        broken = constraints.broken(model, size)
        assert (size in legal) == (not broken)
        assert bool(constraints.say(model, broken)) == bool(broken)


# The only numbers that the recorded refusals of such sizes name are those of attention heads.
CATEGORIES = re.compile(r"head|kv|vocab|intermediate")
HEADS = re.compile(r"attention heads \((\d+)\) must be divisible by tensor parallel size \((\d+)\)")


def test_sizes_that_real_vllm_refused_are_refused() -> None:
    entries = [entry for entry in shared_json("truth/tp_errors.json") if CATEGORIES.search(entry["category"])]
    read = [match for entry in entries if (match := HEADS.search(entry["error_text"]))]
    for match in read:
        assert constraints.broken({"num_attention_heads": int(match[1])}, int(match[2])), match[0]
    print(f"{len(read)} of {len(entries)} refusals name their numbers, and all of these are refused here")
    assert read, "none of the recorded texts could be read"
