"""What holds of the choice over many plans: `make choice`. Minutes long, so not among the unit tests."""

from __future__ import annotations

import copy
import functools
import itertools
import json
import random
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import instances, plan, remedies
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import facts as host_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model as model_files

GPUS = ("H100", "H200", "NVIDIA A100-SXM4-80GB", "L40S", "RTX 4090", "B200")
COUNTS = (2, 4, 8)
SIZES = (None, 1, 2, 4, 8)
# layers, hidden size, heads, KV heads, intermediate size, experts, length
MODELS = {
    "8b": (32, 4096, 32, 8, 14336, 0, 131072),
    "14b": (40, 5120, 40, 8, 17408, 0, 40960),
    "32b": (64, 5120, 64, 8, 25600, 0, 40960),
    "70b": (80, 8192, 64, 8, 28672, 0, 131072),
    "123b": (88, 12288, 96, 8, 28672, 0, 32768),
    "30b-a3b": (48, 2048, 32, 4, 768, 128, 40960),
    "235b-a22b": (94, 4096, 64, 4, 1536, 128, 40960),
}
RANDOM_PLANS = 2000
FIELDS: dict[str, tuple[float, tuple[Any, ...]]] = {
    "tensor_parallel_size": (0.3, (1, 2, 3, 4, 5, 8)),
    "pipeline_parallel_size": (0.15, (1, 2, 3)),
    "data_parallel_size": (0.15, (1, 2, 4)),
    "enable_expert_parallel": (0.1, (True, False)),
    "max_model_len": (0.4, (2048, 32768, 131072, 1000000)),
    "gpus": (0.2, (1, 2, 4, [0], [0, 1])),
    "objective": (0.2, ("latency", "throughput")),
    "max_num_seqs": (0.2, (1, 64, 4096)),
    "max_num_batched_tokens": (0.1, (512, 8192, 65536)),
    "gpu_memory_utilization": (0.15, (0.3, 0.8, 0.98)),
    "kv_cache_dtype": (0.1, ("fp8", "auto")),
    "min_concurrency": (0.1, (2, 64)),
    "decode_context_parallel_size": (0.1, (2, 4)),
}


@functools.cache
def model(name: str) -> dict[str, Any]:
    layers, hidden, heads, kv_heads, inner, experts, length = MODELS[name]
    config: dict[str, Any] = {
        "architectures": ["Qwen3MoeForCausalLM" if experts else "LlamaForCausalLM"],
        "model_type": "qwen3_moe" if experts else "llama",
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": 128,
        "intermediate_size": inner,
        "vocab_size": 128256,
        "max_position_embeddings": length,
        "torch_dtype": "bfloat16",
    }
    if experts:
        config.update({"num_experts": experts, "num_experts_per_tok": 8, "moe_intermediate_size": inner})
    return model_files.facts(config)


@functools.cache
def host(gpu: str, count: int) -> dict[str, Any]:
    return host_facts.facts_from_profile({"name": gpu, "count": count})


def decide(gpu_facts: dict[str, Any], *entries: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The layouts of entries, each with the name of its model."""
    named = [{"name": f"m{i}", "model": "/m", "port": 8000 + i, **entry} for i, (_, entry) in enumerate(entries)]
    models = {f"m{i}": model(name) for i, (name, _) in enumerate(entries)}
    given = {"h": {"gpu_facts": gpu_facts, "models": named, "model_facts": models}}
    return plan.plan_hosts(given)["h"]["instances"]


def total(one: dict[str, Any]) -> float:
    """Tokens per second of all replicas, 0 for what is refused."""
    return 0.0 if one["rejected"] or not one["estimate"] else one["estimate"]["total_tokens_per_second"]


@pytest.mark.parametrize("name", list(MODELS))
def test_an_open_plan_is_the_best_of_its_host(name: str) -> None:
    """504 plans in all: no written size gives more at the same context, and none holds a longer one."""
    for gpu, count in itertools.product(GPUS, COUNTS):
        entries = [{"tensor_parallel_size": size} if size else {} for size in SIZES if not size or size <= count]
        open_plan, *written = [decide(host(gpu, count), (name, entry))[0] for entry in entries]
        runs = [one for one in written if not one["rejected"]]
        if open_plan["rejected"]:
            assert not runs, (gpu, count)
            continue
        longest = max([one["max_model_len"] for one in runs], default=0)
        assert open_plan["max_model_len"] >= longest, (gpu, count)
        rivals = [total(one) for one in runs if one["max_model_len"] >= open_plan["max_model_len"]]
        assert total(open_plan) >= 0.999 * max(rivals, default=0), (gpu, count)


def test_written_expert_parallelism_is_kept() -> None:
    for written in (False, True):
        found = decide(host("H100", 8), ("30b-a3b", {"enable_expert_parallel": written}))[0]
        assert found["rejected"] is None
        assert found["enable_expert_parallel"] is written


def test_a_large_model_keeps_its_context() -> None:
    found = decide(host("H100", 4), ("70b", {}))[0]
    assert found["max_model_len"] == 131072
    assert (found["tensor_parallel_size"], found["data_parallel_size"]) == (4, 1)


def test_shares_divide_the_gpus() -> None:
    even = decide(host("H100", 8), ("8b", {}), ("8b", {}))
    assert [len(one["devices"]) for one in even] == [4, 4]
    uneven = decide(host("H100", 8), ("8b", {"share": 3}), ("8b", {}))
    assert [len(one["devices"]) for one in uneven] == [6, 2]


def test_targets_are_answered() -> None:
    asked = {"tpot_p95_ms": 40, "requests_per_second": 1000}
    found = decide(host("H100", 8), ("32b", {"targets": asked}))[0]
    each, hosts = found["targets"]["each"], found["targets"]["hosts"]
    assert each["tpot_p95_ms"]["met"]
    assert each["tpot_p95_ms"]["predicted"] <= 40
    assert not each["requests_per_second"]["met"]
    assert (
        (hosts - 1) * each["requests_per_second"]["predicted"]
        < 1000
        <= hosts * (each["requests_per_second"]["predicted"] + 0.01)
    )
    never = decide(host("H100", 8), ("32b", {"targets": {"tpot_p95_ms": 0.1}}))[0]
    assert never["targets"]["met"] is False
    assert any("Target missed: tpot_p95_ms 0.1" in text for text in never["warnings"])


def drawn(source: random.Random) -> tuple[str, dict[str, Any]]:
    entry = {name: source.choice(values) for name, (share, values) in FIELDS.items() if source.random() < share}
    return source.choice(list(MODELS)), entry


@pytest.mark.parametrize("seed", range(20))
def test_random_plans(seed: int) -> None:
    source = random.Random(seed)
    for _ in range(RANDOM_PLANS // 20):
        gpu_facts = host(source.choice(GPUS), source.choice([1, 2, 3, 4, 6, 8]))
        entries = [drawn(source) for _ in range(source.choice([1, 1, 1, 2]))]
        if instances.problems([{"name": "a", "model": "/m", **entry} for _, entry in entries[:1]]):
            continue
        found = decide(gpu_facts, *entries)
        check_order(gpu_facts, entries, found)
        for (name, entry), one in zip(entries, found, strict=True):
            if len(entries) == 1:
                check_remedy(gpu_facts, name, entry, one)
            check_reasons(one, entry)


def check_order(gpu_facts: dict[str, Any], entries: list[tuple[str, dict[str, Any]]], found: list[Any]) -> None:
    """The same instances in another order give the same bytes."""
    if len(entries) < 2:
        return
    named = [{"name": f"m{i}", "model": "/m", "port": 8000 + i, **entry} for i, (_, entry) in enumerate(entries)]
    models = {f"m{i}": model(name) for i, (name, _) in enumerate(entries)}
    given = {"h": {"gpu_facts": gpu_facts, "models": named[::-1], "model_facts": copy.deepcopy(models)}}
    again = plan.plan_hosts(given)["h"]["instances"][::-1]
    assert json.dumps(again) == json.dumps(found)


def check_remedy(gpu_facts: dict[str, Any], name: str, entry: dict[str, Any], one: dict[str, Any]) -> None:
    """The first remedy that a program can apply is not refused for the same rule."""
    if not one["rejected"]:
        return
    (asked,) = instances.instances([{"name": "m0", "model": "/m", **entry}], "/root")
    for text in one["rejected"]["remedies"]:
        change = next(remedies.changes(asked, text), None)
        if change is not None:
            kept = {key: value for key, value in {**entry, **change}.items() if value is not None}
            after = decide(gpu_facts, (name, kept))[0]
            assert after["rejected"] is None or after["rejected"]["rule"] != one["rejected"]["rule"], (entry, text)
            return


def check_reasons(one: dict[str, Any], entry: dict[str, Any]) -> None:
    """No alternative of the same context is better in what the plan was asked for."""
    if one["rejected"] or not one["estimate"]:
        return
    key = "request_ms" if entry.get("objective") == "latency" else "total_tokens_per_second"
    for other in one["alternatives"]:
        if not other["estimate"] or other["max_model_len"] < one["max_model_len"]:
            continue
        mine, its = one["estimate"][key], other["estimate"][key]
        assert mine <= its * 1.001 if key == "request_ms" else mine >= its * 0.999, (entry, other)


@pytest.mark.parametrize("name", list(MODELS))
def test_more_gpus_or_memory_never_give_less(name: str) -> None:
    for gpu in GPUS:
        entry = {"max_model_len": 8192, "max_num_seqs": 256, "max_num_batched_tokens": 8192}
        rates = [total(decide(host(gpu, count), (name, entry))[0]) for count in (1, 2, 3, 4, 6, 8)]
        assert all(more >= less * 0.999 for less, more in itertools.pairwise(rates)), (gpu, rates)
        larger = copy.deepcopy(host(gpu, 4))
        for device in larger["devices"]:
            for field in ("memory_total_mib", "memory_free_mib"):
                if device.get(field):
                    device[field] = int(device[field] * 1.25)
        assert total(decide(larger, (name, entry))[0]) >= 0.999 * rates[3], gpu
