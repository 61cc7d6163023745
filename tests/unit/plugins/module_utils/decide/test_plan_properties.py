# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What holds of every layout, whatever the host, the model and the wishes."""

from __future__ import annotations

import json
import random
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import constraints, instances, layout
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules import Sizes
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import facts as host_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model as model_files
from hypothesis import given, settings
from hypothesis import strategies as st

SLACK_GIB = 0.01
# Batch sizes depend on the memory of a GPU (vLLM's own rule), so they are written where memories are compared.
WRITTEN = {"max_num_batched_tokens": 4096, "max_num_seqs": 64}


@st.composite
def configs(draw: st.DrawFn) -> dict[str, Any]:
    """Make the config.json of a dense model, a mixture of experts, an MLA or a sliding-window model."""
    heads = draw(st.sampled_from([8, 12, 16, 28, 32, 40, 64]))
    config: dict[str, Any] = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": heads * 128,
        "intermediate_size": draw(st.sampled_from([2048, 5632, 11008, 14336, 28672])),
        "num_hidden_layers": draw(st.integers(2, 90)),
        "num_attention_heads": heads,
        "num_key_value_heads": draw(st.sampled_from([size for size in (1, 2, 4, 8, heads) if heads % size == 0])),
        "vocab_size": draw(st.sampled_from([32000, 50257, 128256, 151936])),
        "max_position_embeddings": draw(st.sampled_from([2048, 32768, 131072])),
        "tie_word_embeddings": draw(st.booleans()),
        "torch_dtype": draw(st.sampled_from(["bfloat16", "float16", "float32"])),
    }
    kind = draw(st.sampled_from(["dense", "experts", "mla", "sliding"]))
    if kind == "experts":
        experts = {"num_local_experts": draw(st.sampled_from([8, 16, 60])), "num_experts_per_tok": 2}
        config.update({"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", **experts})
    if kind == "sliding":
        config.update(
            {"architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2", "head_dim": 128, "sliding_window": 4096}
        )
    if kind == "mla":
        config.update(
            {
                "architectures": ["DeepseekV2ForCausalLM"],
                "model_type": "deepseek_v2",
                "kv_lora_rank": 512,
                "q_lora_rank": None,
                "qk_nope_head_dim": 128,
                "qk_rope_head_dim": 64,
                "v_head_dim": 128,
                "n_routed_experts": 64,
                "n_shared_experts": 2,
                "num_experts_per_tok": 6,
                "moe_intermediate_size": 1408,
                "first_k_dense_replace": 1,
            }
        )
    return config


PROFILES = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["H100", "A100-SXM4-40GB", "RTX 4090", "T4", "L40S", "H200"]),
        "count": st.integers(1, 8),
        "interconnect": st.sampled_from(["nvswitch", "nvlink_pairs", "pcie_switch", "pcie_host", "pcie_cross_numa"]),
    }
)
ENTRIES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "gpus": st.just("auto")
            | st.integers(1, 4)
            | st.lists(st.integers(0, 7), min_size=1, max_size=4, unique=True),
            "tensor_parallel_size": st.integers(1, 8),
            "objective": st.sampled_from(["throughput", "latency"]),
            "max_model_len": st.sampled_from(["auto", 2048]),
            "min_concurrency": st.integers(1, 4),
        },
    ),
    min_size=1,
    max_size=3,
)


def decide(
    facts: dict[str, Any], model: dict[str, Any], entries: list[dict[str, Any]], **more: Any
) -> list[dict[str, Any]]:
    named = [{"name": f"m{i}", "model": "/m", "port": 8000 + i, **entry, **more} for i, entry in enumerate(entries)]
    assert instances.problems(named) == []
    return layout.layouts(instances.instances(named, "/root"), facts, {entry["name"]: model for entry in named})


def shuffled(facts: dict[str, Any], seed: int) -> dict[str, Any]:
    """The same host with its devices listed in another order."""
    order = list(range(len(facts["devices"])))
    random.Random(seed).shuffle(order)
    mixed = {**facts, "devices": [facts["devices"][place] for place in order]}
    for name in ("link_matrix", "p2p_matrix"):
        if facts.get(name):
            mixed[name] = [[facts[name][i][j] for j in order] for i in order]
    return dict(reversed(mixed.items()))


@settings(deadline=None, max_examples=60)
@given(PROFILES, configs(), ENTRIES, st.integers())
def test_what_is_returned_holds(
    profile: dict[str, Any], config: dict[str, Any], entries: list[dict[str, Any]], seed: int
) -> None:
    facts, model = host_facts.facts_from_profile(profile), model_files.facts(config)
    found = decide(facts, model, entries)
    text = json.dumps(found, allow_nan=False)
    assert text == json.dumps(decide(facts, model, entries), allow_nan=False)
    assert found == decide(shuffled(facts, seed), model, entries)
    used = [device for one in found for device in one["devices"]]
    assert len(used) == len(set(used))
    assert set(used) <= {device["index"] for device in facts["devices"]}
    for one in found:
        if one["rejected"]:
            assert not one["devices"]
            assert one["rejected"]["rule"]
            continue
        check(one, model, facts)


def check(one: dict[str, Any], model: dict[str, Any], facts: dict[str, Any]) -> None:
    """A layout that vLLM accepts, that uses each of its GPUs, and whose memory adds up."""
    sizes = Sizes(
        tensor_parallel_size=one["tensor_parallel_size"],
        pipeline_parallel_size=one["pipeline_parallel_size"],
        data_parallel_size=one["data_parallel_size"] if model["is_moe"] else 1,
        enable_expert_parallel=one["enable_expert_parallel"],
        dtype=one["dtype"],
        max_model_len=one["max_model_len"],
    )
    device = facts["devices"][0]
    gpu = {"accelerator": "cuda", "name": device["name"], "compute_capability": device["compute_capability"]}
    assert constraints.refusals(constraints.check(model, sizes, gpu)) == []
    ranks = one["tensor_parallel_size"] * one["pipeline_parallel_size"] * one["data_parallel_size"]
    assert len(one["devices"]) == ranks
    memory = one["memory"]
    parts = ("weights_gib", "activation_gib", "cuda_graphs_gib", "non_torch_gib", "kv_cache_gib")
    assert all(memory[part] >= 0 for part in parts)
    assert sum(memory[part] for part in parts) <= memory["budget_gib"] + SLACK_GIB
    assert memory["budget_gib"] <= memory["total_gib"]
    assert one["max_concurrency"] >= 1
    assert one["max_model_len"] <= model["max_model_len"]


@settings(deadline=None, max_examples=40)
@given(configs(), st.integers(1, 8), st.integers(8, 150), st.integers(1, 100))
def test_more_memory_is_never_worse(config: dict[str, Any], count: int, gib: int, more: int) -> None:
    model = model_files.facts(config)

    def verdict(size: int) -> dict[str, Any]:
        profile = {"name": "NVIDIA Something", "count": count, "memory_mib": size * 1024, "interconnect": "nvswitch"}
        (found,) = decide(host_facts.facts_from_profile(profile), model, [{"max_model_len": 2048}], **WRITTEN)
        return found

    small, large = verdict(gib), verdict(gib + more)
    if small["rejected"] is None:
        assert large["rejected"] is None
        assert (
            large["tensor_parallel_size"] * large["pipeline_parallel_size"]
            <= (small["tensor_parallel_size"] * small["pipeline_parallel_size"])
            or model["is_moe"]
        )


@settings(deadline=None, max_examples=40)
@given(configs(), PROFILES, st.integers(1, 7))
def test_more_gpus_are_never_worse(config: dict[str, Any], profile: dict[str, Any], more: int) -> None:
    model = model_files.facts(config)

    def accepted(count: int) -> bool:
        facts = host_facts.facts_from_profile({**profile, "count": count})
        return decide(facts, model, [{"max_model_len": 2048}])[0]["rejected"] is None

    assert not accepted(profile["count"]) or accepted(profile["count"] + more)
