"""Reports made by hand: what the table and the page are tested with."""

from __future__ import annotations

from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.facts import build_facts, facts_from_profile
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.recorded import read_recording
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import report

from tests.unit.samples import CHECKOUT

HOSTS = CHECKOUT / "tests/unit/fixtures/hosts"
H100 = {"name": "H100", "count": 8, "interconnect": "nvswitch"}


def recording(name: str) -> dict[str, Any]:
    """Facts of a recorded host."""
    return build_facts(read_recording(str(HOSTS / name)), "recorded")


def account(total: float, budget: float, *parts: float) -> dict[str, float]:
    """Memory of one GPU in GiB; parts are weights, activation, CUDA graphs, outside of torch, KV cache."""
    names = ("weights_gib", "activation_gib", "cuda_graphs_gib", "non_torch_gib", "kv_cache_gib")
    return {"total_gib": total, "budget_gib": budget, **dict(zip(names, parts, strict=True))}


def layout(name: str, model: str, nodes: dict[str, list[int]], **more: Any) -> dict[str, Any]:
    """A layout as the planner gives it."""
    return {
        "name": name,
        "model": model,
        "accelerator": "cuda",
        "rejected": None,
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "data_parallel_size": 1,
        "enable_expert_parallel": False,
        "nodes": [{"host": host, "devices": devices} for host, devices in nodes.items()],
        "dtype": "bfloat16",
        "max_model_len": 32768,
        "memory": None,
        "kv_cache_tokens": None,
        "max_concurrency": None,
        "serve_args": {"model": model, "served-model-name": [name], "port": 8000, "enable-prefix-caching": True},
        "environment": {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"},
        "reasons": [],
        "warnings": [],
        "alternatives": [],
        "estimate": None,
        **more,
    }


def alternative(size: int, why_not: str, **more: Any) -> dict[str, Any]:
    """A layout that was not taken."""
    return {
        "tensor_parallel_size": size,
        "pipeline_parallel_size": 1,
        "data_parallel_size": 1,
        "enable_expert_parallel": False,
        "devices_count": size,
        "max_model_len": 131072,
        "kv_cache_tokens": None,
        "max_concurrency": None,
        "memory": None,
        "estimate": None,
        "why_not": why_not,
        **more,
    }


def eight_h100() -> dict[str, Any]:
    """Two hosts alike, one instance on all eight GPUs of each."""
    one = {
        "tensor_parallel_size": 8,
        "max_model_len": 131072,
        "memory": account(79.6, 73.3, 16.4, 2.1, 1.2, 2.6, 51.0),
        "kv_cache_tokens": 1_336_933,
        "max_concurrency": 10.2,
        "estimate": {
            "decode_ms": 8.9,
            "decode_tokens_per_second": 112.4,
            "prefill_ms_per_1k": 31.0,
            "parts": {"weights_ms": 5.4, "kv_ms": 0.2, "links_ms": 1.6, "compute_ms": 1.7},
            "label": "estimate",
        },
        "reasons": [
            "tensor_parallel_size 8: latency is asked for, and 8 GPUs are 14 % faster for one request than 4.",
            "The 8 GPUs are joined by NVSwitch, so every pair is one hop apart.",
            "max_model_len 131072: what the model was made for; it fits 10.2 times.",
        ],
        "alternatives": [
            alternative(
                2,
                "the weights leave 0.8 GiB for a KV cache",
                memory=account(79.6, 73.3, 65.7, 2.1, 1.2, 2.6, 0.8),
                kv_cache_tokens=5242,
                max_concurrency=0.04,
            ),
            alternative(
                4,
                "slower for one request; 2 such instances would serve more in all",
                memory=account(79.6, 73.3, 32.9, 2.1, 1.2, 2.6, 34.5),
                kv_cache_tokens=452_198,
                max_concurrency=3.4,
                estimate={"decode_ms": 10.3, "decode_tokens_per_second": 97.0},
            ),
        ],
    }
    facts = facts_from_profile(H100)
    return report.build(
        {
            host: {
                "gpu_facts": facts,
                "instances": [layout("llama-70b", "meta-llama/Llama-3.3-70B", {host: list(range(8))}, **one)],
            }
            for host in ("gpu01", "gpu02")
        }
    )


def pairs() -> dict[str, Any]:
    """Four A100 in NVLink pairs, two instances of two GPUs."""
    memory = account(80.0, 73.6, 30.6, 1.9, 0.9, 1.8, 38.4)
    instances = [
        layout(
            f"qwen3-32b-{letter}",
            "Qwen/Qwen3-32B",
            {"a100-pairs": devices},
            tensor_parallel_size=2,
            memory=memory,
            kv_cache_tokens=314_572,
            max_concurrency=9.6,
            reasons=["tensor_parallel_size 2: the fewest GPUs that hold the weights; both lie in one NVLink pair."],
            warnings=["GPU memory is shared with a desktop session that held 0.3 GiB when the host was read."],
        )
        for letter, devices in (("a", [0, 1]), ("b", [2, 3]))
    ]
    return report.build({"a100-pairs": {"gpu_facts": recording("a100-pairs"), "instances": instances}})


def refused() -> dict[str, Any]:
    """Two RTX 4090, a small model that runs and a large one that does not."""
    facts = facts_from_profile({"name": "RTX 4090", "count": 2, "interconnect": "pcie"})
    too_large = {
        "reason": "131.4 GiB of weights do not fit 2 GPUs of 24.0 GiB at any size that the model divides by (1, 2)",
        "rule": "weights_do_not_fit",
        "remedies": [
            "use a checkpoint quantized to 4 bits (35 GiB), which fits both GPUs",
            "use a host with at least 4 GPUs of 48 GiB",
        ],
    }
    small = {
        "memory": account(24.0, 22.1, 15.0, 0.6, 0.3, 0.5, 5.7),
        "kv_cache_tokens": 46_694,
        "max_concurrency": 1.4,
        "reasons": ["One GPU holds it; PCIe between the GPUs would cost more than the second one gives."],
    }
    instances = [
        layout("llama-70b", "meta-llama/Llama-3.3-70B", {}, rejected=too_large, dtype=None),
        layout("qwen3-8b", "Qwen/Qwen3-8B", {"ws1": [0]}, **small),
    ]
    return report.build({"ws1": {"gpu_facts": facts, "instances": instances}})


def two_hosts() -> dict[str, Any]:
    """One engine over two hosts, expert parallel in two replicas of the attention."""
    names = {"big01": list(range(8)), "big02": list(range(8))}
    one = layout(
        "deepseek-v3",
        "deepseek-ai/DeepSeek-V3.1",
        names,
        tensor_parallel_size=8,
        pipeline_parallel_size=2,
        enable_expert_parallel=True,
        dtype="bfloat16 (fp8)",
        max_model_len=163_840,
        memory=account(79.6, 73.3, 41.9, 3.4, 1.3, 3.1, 23.6),
        kv_cache_tokens=681_574,
        max_concurrency=4.2,
        reasons=["The weights need 16 GPUs: 8 of each host, joined by NVSwitch, are one stage."],
        warnings=["The stages talk over eno1 at 100 Gbit/s; InfiniBand is not configured."],
    )
    facts = facts_from_profile(H100)
    return report.build(
        {host: {"gpu_facts": facts, "instances": [{**one, "node_rank": rank}]} for rank, host in enumerate(names)}
    )


def fleet() -> dict[str, Any]:
    """Everything above in one report, with a host that could not be reached and one whose instances share a GPU."""
    unreached = {**build_facts({}), "state": "unreachable", "message": "The host could not be read: no route to host"}
    cut = {"reason": "the GPUs of this host cannot be used: no route to host", "rule": "host_not_ready", "remedies": []}
    lost = layout("llama-70b", "meta-llama/Llama-3.3-70B", {}, rejected=cut)
    shared = [
        layout(f"embed-{number}", "BAAI/bge-m3", {"edge": [0]}, memory=account(22.5, 9.0, 1.1, 0.4, 0.0, 0.3, 7.2))
        for number in range(2)
    ]
    hosts: dict[str, Any] = {}
    for one in (eight_h100(), pairs(), refused(), two_hosts()):
        hosts.update(one["hosts"])
    hosts["gone"] = {"gpu_facts": unreached, "instances": [lost]}
    hosts["edge"] = {"gpu_facts": facts_from_profile({"name": "L4"}), "instances": shared}
    hosts["numa"] = {"gpu_facts": recording("h100-nvswitch"), "instances": []}
    hosts["workstation"] = {"gpu_facts": recording("rtx4090-pcie"), "instances": []}
    return {"schema_version": report.SCHEMA_VERSION, "hosts": hosts}


SAMPLES = {"eight_h100": eight_h100, "pairs": pairs, "refused": refused, "two_hosts": two_hosts, "fleet": fleet}
