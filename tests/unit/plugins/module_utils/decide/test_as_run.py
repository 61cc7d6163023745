# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an entry's options change of a model, and that none of them is left out without a word."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import (
    as_run,
    drafting,
    engine_versions,
    instances,
    kv_cache,
    memory,
    settings,
    sharding,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.pools import Pool
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model as model_files
from hypothesis import given
from hypothesis import strategies as st

GIB = 1024**3
H100 = memory.Gpu(79.18, 79.18)
POOL = Pool((0,), "NVIDIA H100 80GB HBM3", 81559, 81559, None, "9.0")
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 4096,
    "intermediate_size": 12288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "vocab_size": 151936,
    "max_position_embeddings": 40960,
    "torch_dtype": "bfloat16",
}
# Qwen3.6-27B's numbers: three recurrent layers for one of attention, a vision tower, one layer that drafts
HYBRID = {
    "architectures": ["Qwen3_5ForConditionalGeneration"],
    "model_type": "qwen3_5",
    "text_config": {
        **QWEN3,
        "model_type": "qwen3_5_text",
        "hidden_size": 5120,
        "intermediate_size": 17408,
        "num_hidden_layers": 64,
        "num_attention_heads": 24,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 48,
        "linear_key_head_dim": 128,
        "linear_value_head_dim": 128,
        "linear_conv_kernel_dim": 4,
        "full_attention_interval": 4,
        "mtp_num_hidden_layers": 1,
        "mamba_ssm_dtype": "float32",
    },
    "vision_config": {
        "hidden_size": 1152,
        "depth": 27,
        "num_heads": 16,
        "intermediate_size": 4304,
        "patch_size": 16,
        "out_hidden_size": 5120,
        "num_position_embeddings": 2304,
    },
}
MIXTURE = {
    **QWEN3,
    "architectures": ["Qwen3MoeForCausalLM"],
    "model_type": "qwen3_moe",
    "num_experts": 64,
    "num_experts_per_tok": 8,
    "moe_intermediate_size": 768,
}


def entry(**fields: Any) -> instances.Instance:
    return instances.instances([{"name": "m", "model": "org/m", **fields}], "/models")[0]


def run(config: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return dict(as_run.adapted(entry(**fields), model_files.facts(config)))


def weights(model: dict[str, Any], tensor_parallel_size: int = 1) -> float:
    return sum(sharding.weights(model, Sizes(tensor_parallel_size))) / GIB


def test_an_entry_without_such_options_leaves_a_model_as_it_is() -> None:
    facts = model_files.facts(HYBRID)
    assert as_run.adapted(entry(), facts) == facts
    assert as_run.adapted(entry(quantization="fp8"), {"problem": "gone"}) == {"problem": "gone"}


@pytest.mark.parametrize(
    ("config", "quantization", "share"),
    [
        # 6.95 of 8.19 billion weights are in linear layers
        (QWEN3, "fp8", 0.576),
        (QWEN3, "fp8_per_block", 0.576),
        (QWEN3, "mxfp8", 0.589),
        (QWEN3, "mxfp4", 0.377),
        (QWEN3, "int8_per_channel_weight_only", 1.0),
        (MIXTURE, "int8_per_channel_weight_only", 0.58),
        # 21.7 of 24.5 billion are experts
        (MIXTURE, "nvfp4_per_token", 0.363),
    ],
)
def test_weights_quantized_on_load(config: dict[str, Any], quantization: str, share: float) -> None:
    assert weights(run(config, quantization=quantization)) == pytest.approx(weights(run(config)) * share, rel=0.05)


def test_a_quantization_that_is_not_counted_is_said() -> None:
    found = run(QWEN3, quantization="torchao")
    assert weights(found) == weights(run(QWEN3))
    assert any("torchao" in one for one in found["warnings"])


YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}


@pytest.mark.parametrize(
    ("extra_args", "release", "length"),
    [
        ({"hf-overrides": {"rope_parameters": YARN}}, "0.28.0", 131072),
        ({"hf-overrides": json.dumps({"rope_scaling": YARN})}, "0.20.0", 131072),
        ({"rope-scaling": json.dumps(YARN)}, "0.10.2", 131072),
        # since then the length is max_position_embeddings, which the overrides may say as well
        ({"hf-overrides": {"rope_parameters": YARN}}, "0.33.0", 40960),
        ({"hf-overrides": json.dumps({"rope_parameters": YARN, "max_position_embeddings": 131072})}, "0.33.0", 131072),
        ({"hf-overrides": "{no JSON"}, "0.33.0", 40960),
    ],
)
def test_the_length_by_yarn(extra_args: dict[str, Any], release: str, length: int) -> None:
    assert run(QWEN3, extra_args=extra_args, engine_version=release)["max_model_len"] == length


@pytest.mark.parametrize(
    "fields",
    [
        {"language_model_only": True},
        {"limit_mm_per_prompt": {"image": 0, "video": 0}},
        {"limit_mm_per_prompt": {"image": {"count": 0}, "video": {"count": 0}}},
    ],
)
def test_a_vision_part_that_serves_nothing_is_left_out(fields: dict[str, Any]) -> None:
    found = run(HYBRID, **fields)
    assert found["vision"] is None
    assert weights(run(HYBRID)) - weights(found) == pytest.approx(0.86, abs=0.05)
    # it is loaded all the same by a release before towers were skipped
    older = run(HYBRID, **{**fields, "engine_version": "0.16.0"})
    assert weights(older) == weights(run(HYBRID))


@pytest.mark.parametrize("limits", [{"image": 0}, {"video": 0}, {"image": 2, "video": 0}])
def test_a_vision_part_that_serves_something_stays(limits: dict[str, int]) -> None:
    assert run(HYBRID, limit_mm_per_prompt=limits)["vision"] is not None


def test_layers_that_draft_are_loaded_and_kept() -> None:
    """club-3090#142: groups of 17 layers for 16, and three more states for each group with three tokens drafted."""
    plain, drafts = run(HYBRID), run(HYBRID, speculative_config={"method": "mtp", "num_speculative_tokens": 3})
    assert weights(drafts) - weights(plain) == pytest.approx(0.73, abs=0.03)
    assert any("MTP" in one for one in drafts["warnings"])
    options = kv_cache.CacheOptions()
    assert {len(group.pages) for group in kv_cache.groups_of(plain, options)} == {16}
    groups = kv_cache.groups_of(drafts, replace(options, speculative_tokens=3))
    assert max(len(group.pages) for group in groups) == 17
    states = [group for group in groups if group.spec.kind == kv_cache.STATE]
    more = replace(options, speculative_tokens=3)
    assert kv_cache.blocks_needed(states, 1, more) - kv_cache.blocks_needed(states, 1, options) == 3 * len(states)


@pytest.mark.parametrize(
    ("config", "more"),
    [
        ({"method": "ngram", "num_speculative_tokens": 4}, False),
        ({"method": "eagle3", "model": "org/head", "num_speculative_tokens": 3}, True),
        ({"method": "eagle", "model": "org/head", "num_speculative_tokens": 3}, True),
    ],
)
def test_heads_are_assumed_where_they_are_not_known(config: dict[str, Any], more: bool) -> None:
    plain, drafts = run(QWEN3), run(QWEN3, speculative_config=config)
    assert (weights(drafts) > weights(plain)) is more
    assert bool(drafts["draft"].get("layers")) is more
    assert any("assumed" in one for one in drafts["warnings"]) is more


def test_a_draft_model_of_its_own() -> None:
    config = {"model": "org/small", "num_speculative_tokens": 5}
    assert drafting.needs_model(config) == "org/small"
    unknown = run(QWEN3, speculative_config=config)
    assert any("not in the account" in one for one in unknown["warnings"])
    small = model_files.facts({**QWEN3, "num_hidden_layers": 28, "hidden_size": 1024, "intermediate_size": 3072})
    target = {**model_files.facts(QWEN3), "draft_model": small}
    found = dict(as_run.adapted(entry(speculative_config=config), target))
    assert weights(found) - weights(run(QWEN3)) == pytest.approx(weights(small), rel=0.01)
    (group,) = kv_cache.groups_of(found, kv_cache.CacheOptions())
    assert len(group.pages) == 36 + 28


def test_the_last_stage_drafts() -> None:
    plain = run(HYBRID)
    drafts = run(HYBRID, speculative_config={"method": "mtp", "num_speculative_tokens": 1})
    before, after = (sharding.weights(one, Sizes(1, 2)) for one in (plain, drafts))
    assert before[0] == after[0]
    assert before[1] < after[1]


@pytest.mark.parametrize(
    ("ranks", "sharded", "gib"), [(1, False, 10.4), (2, False, 7.1), (2, True, 5.2)], ids=["one", "two", "two, sharded"]
)
def test_room_for_adapters(ranks: int, sharded: bool, gib: float) -> None:
    """8 slots of rank 256: both factors of each module of 36 layers."""
    options = {"enable-lora": True, "max-loras": 8, "max-lora-rank": 256, "fully-sharded-loras": sharded}
    found = run(QWEN3, extra_args=options)
    assert weights(found, ranks) - weights(run(QWEN3), ranks) == pytest.approx(gib, abs=0.2)
    assert any("LoRA" in one for one in found["warnings"])


def test_adapters_of_some_modules_take_less() -> None:
    all_of_them = run(QWEN3, extra_args={"enable-lora": True, "max-lora-rank": 64})
    some = run(QWEN3, extra_args={"enable-lora": True, "max-lora-rank": 64, "lora-target-modules": ["q_proj"]})
    assert weights(run(QWEN3)) < weights(some) < weights(all_of_them)


@pytest.mark.parametrize(
    ("overrides", "length"),
    [
        ({"max_position_embeddings": 1_000_000}, 1_000_000),
        ({"text_config": {"max_position_embeddings": 100_000}}, 100_000),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, 40960),
        ({"rope_parameters": {"rope_type": "linear", "factor": 4.0}}, 4 * 40960),
    ],
)
def test_lengths_by_overrides(overrides: dict[str, Any], length: int) -> None:
    assert run(QWEN3, extra_args={"hf-overrides": overrides})["max_model_len"] == length


@pytest.mark.parametrize("name", as_run.NOT_COUNTED)
def test_what_is_not_counted_is_said(name: str) -> None:
    assert any(one.startswith(name) for one in run(QWEN3, extra_args={name: 2})["warnings"])


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"max_model_len": 32768}, 8192),
        ({"max_model_len": 32768, "extra_args": {"enable-chunked-prefill": False}}, 32768),
        ({"extra_args": {"no-enable-chunked-prefill": True}}, 40960),
        ({"max_model_len": 32768, "max_num_batched_tokens": 512, "extra_args": {"enable-chunked-prefill": False}}, 512),
        ({"max_model_len": 1024, "max_num_seqs": 2}, 2048),
        ({"max_model_len": 1024, "max_num_seqs": 2, "engine_version": "0.10.0"}, 8192),
    ],
)
def test_the_default_batch_by_lengths(fields: dict[str, Any], tokens: int) -> None:
    engine = settings.resolve(entry(**fields), run(QWEN3), POOL, "cuda").engine
    assert engine.max_num_batched_tokens == tokens


def account(config: dict[str, Any], **fields: Any) -> memory.Account:
    one = entry(**fields)
    model = as_run.adapted(one, model_files.facts(config))
    engine = settings.resolve(one, model, POOL, "cuda").engine
    return memory.accounts(model, Sizes(), engine, H100)[0]


@pytest.mark.parametrize(
    ("config", "fields"),
    [
        (QWEN3, {"cpu_offload_gb": 4}),
        (QWEN3, {"quantization": "fp8"}),
        (QWEN3, {"max_cudagraph_capture_size": 8}),
        (QWEN3, {"enforce_eager": True}),
        (HYBRID, {"language_model_only": True}),
        (QWEN3, {"max_num_seqs": 8}),
        (QWEN3, {"max_num_batched_tokens": 1024}),
    ],
    ids=str,
)
def test_fields_that_leave_more_for_the_cache(config: dict[str, Any], fields: dict[str, Any]) -> None:
    assert account(config, **fields).kv_cache_gib > account(config).kv_cache_gib + 0.02


@pytest.mark.parametrize(
    "fields",
    [
        {"dtype": "float32"},
        {"extra_args": {"mm-ipc-gpu-memory-gb": 2}},
        {"extra_args": {"enable-lora": True}},
        {"speculative_config": {"method": "eagle3", "model": "org/head"}},
    ],
    ids=str,
)
def test_fields_that_leave_less_for_the_cache(fields: dict[str, Any]) -> None:
    assert account(QWEN3, **fields).kv_cache_gib < account(QWEN3).kv_cache_gib - 0.02


def test_offload_leaves_tables_on_the_gpu() -> None:
    everything = account(QWEN3, cpu_offload_gb=1000)
    assert everything.weights_gib == pytest.approx(2 * 151936 * 4096 * 2 / GIB, abs=0.1)


@pytest.mark.parametrize(
    ("fields", "smaller"),
    [({"mamba_cache_dtype": "float32"}, False), ({"mamba_ssm_cache_dtype": "float16"}, True)],
)
def test_types_of_recurrent_states(fields: dict[str, str], smaller: bool) -> None:
    model = model_files.facts(HYBRID)
    sizes = [
        kv_cache.state_bytes(
            model["attention"]["gdn"],
            memory.cache_options(Sizes(), settings.resolve(entry(**one), model, POOL, "cuda").engine),
        )
        for one in ({}, fields)
    ]
    assert (sizes[1] < sizes[0]) is smaller
    assert sizes[1] != sizes[0]


@pytest.mark.parametrize(("seqs", "refused"), [(1024, True), (64, False)])
def test_more_sequences_than_blocks_of_state(seqs: int, refused: bool) -> None:
    """vllm#49064: max_num_seqs exceeds available Mamba cache blocks."""
    model = model_files.facts(HYBRID)
    engine = memory.Engine(
        engine_versions.of("0.28.0"), 0.9, 8192, seqs, model_runner=1, prefix_caching=False, kv_bytes=2
    )
    (drawn_up,) = memory.accounts(model, Sizes(), engine, H100)
    found = memory.start_problem(model, Sizes(), engine, H100, drawn_up)
    assert (found is not None and found.rule == "state_blocks") is refused
    eager = replace(engine, enforce_eager=True)
    assert memory.start_problem(model, Sizes(), eager, H100, drawn_up) is None


@given(
    st.sampled_from([QWEN3, HYBRID, MIXTURE]),
    st.fixed_dictionaries(
        {},
        optional={
            "cpu_offload_gb": st.floats(0, 100),
            "quantization": st.sampled_from(sorted(as_run.ON_LOAD)),
            "language_model_only": st.booleans(),
            "enforce_eager": st.booleans(),
            "max_cudagraph_capture_size": st.integers(1, 1024),
            "speculative_config": st.sampled_from(
                [{"method": "mtp", "num_speculative_tokens": 2}, {"method": "eagle3", "model": "a/b"}]
            ),
        },
    ),
)
def test_the_parts_add_up_whatever_is_written(config: dict[str, Any], fields: dict[str, Any]) -> None:
    found = account(config, **fields)
    parts = found.weights_gib + found.activation_gib + found.cuda_graphs_gib + found.non_torch_gib
    assert parts + found.kv_cache_gib == pytest.approx(found.budget_gib)
    assert found.weights_gib > 0
