# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the hosts of one engine have to agree on, and what each of them is then told."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import plan
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import facts

from tests.unit.samples import QWEN3_06B, QWEN25_7B

ENTRY = {"name": "big", "model": "/m", "nodes": ["b", "a"], "network_interface": "eth1", "tensor_parallel_size": 2}


def cpu(memory_mib: int = 32768) -> dict[str, Any]:
    return {
        "accelerator": "cpu",
        "state": "ready",
        "devices": [],
        "memory_total_mib": memory_mib,
        "numa_nodes": [{"cpus": [0, 1, 2, 3]}],
    }


def h100(count: int = 2) -> dict[str, Any]:
    return facts.facts_from_profile({"name": "H100", "count": count})


def hosts(gpu_facts: Callable[[], dict[str, Any]] = h100, **entry: Any) -> dict[str, Any]:
    """Two hosts that agree."""
    return {
        name: {
            "gpu_facts": gpu_facts(),
            "models": [{**ENTRY, **entry}],
            "model_facts": {"big": copy.deepcopy(QWEN25_7B)},
            "interfaces": {"lo": {"address": "127.0.0.1"}, "eth1": {"address": f"10.0.0.{place}"}},
            "engine_version": "0.33.0",
            "release": "0.33.0-cuda",
        }
        for place, name in enumerate("ab", start=1)
    }


def decided(given: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The one layout of each host."""
    return {name: found["instances"][0] for name, found in plan.plan_hosts(given).items() if found["instances"]}


def test_what_each_host_is_told() -> None:
    found = decided(hosts(master_port=29600, tensor_parallel_size=2, data_parallel_size=1))
    head, other = found["b"], found["a"]
    assert head["rejected"] is other["rejected"] is None
    shared = {"nnodes": 2, "master-addr": "10.0.0.2", "master-port": 29600, "tensor-parallel-size": 2}
    for one, rank, address in ((head, 0, "10.0.0.2"), (other, 1, "10.0.0.1")):
        assert {key: one["serve_args"][key] for key in shared} == shared
        assert one["serve_args"]["node-rank"] == one["node_rank"] == rank
        assert one["environment"]["VLLM_HOST_IP"] == address
        assert one["environment"]["NCCL_SOCKET_IFNAME"] == one["environment"]["GLOO_SOCKET_IFNAME"] == "eth1"
    assert ("headless" in head["serve_args"], other["serve_args"]["headless"]) == (False, True)
    assert head["nodes"] == other["nodes"]
    assert [(node["host"], node["address"]) for node in head["nodes"]] == [("b", "10.0.0.2"), ("a", "10.0.0.1")]
    assert head["together"] == other["together"]
    assert head["together"]["port"] == 29601
    assert (head["ports"], other["ports"]) == ([8000, 29600, 29601], [])


def test_one_host_has_nothing_to_agree_on() -> None:
    given = hosts()
    del given["b"]
    given["a"]["models"] = [{"name": "big", "model": "/m"}]
    found = decided(given)["a"]
    assert (found["together"], found["ports"], found["nodes"][0].get("address")) == (None, [8000], None)


@pytest.mark.parametrize(
    "entry",
    [{"max_model_len": 4096}, {"master_port": 29600}, {"environment": {"NCCL_DEBUG": "INFO"}}, {"enforce_eager": True}],
)
def test_the_agreement_changes_with_what_all_hosts_must_have(entry: dict[str, Any]) -> None:
    assert decided(hosts(**entry))["a"]["together"]["agreement"] != decided(hosts())["a"]["together"]["agreement"]


def test_replicas_are_spread_over_the_hosts() -> None:
    found = decided(hosts(data_parallel_size=4, tensor_parallel_size=1))
    for one in found.values():
        assert one["serve_args"]["data-parallel-size"] == 4
        assert one["serve_args"]["data-parallel-size-local"] == 2
        assert one["serve_args"]["data-parallel-address"] == "10.0.0.2"
    assert [one["serve_args"].get("data-parallel-start-rank") for one in (found["b"], found["a"])] == [None, 2]
    assert [one["serve_args"]["data-parallel-rpc-port"] for one in found.values()] == [29503, 29503]
    assert (found["b"]["ports"], found["a"]["ports"]) == ([8000, 29501, 29502, 29503], [])


def test_the_cores_of_several_hosts() -> None:
    given = hosts(cpu)
    given["a"]["gpu_facts"]["numa_nodes"] = [{"cpus": [4, 5, 6, 7]}]
    given["a"]["gpu_facts"]["memory_total_mib"] = 36864
    found = decided(given)
    assert found["b"]["rejected"] is None
    assert found["b"]["environment"]["VLLM_CPU_OMP_THREADS_BIND"] == "0,1,2,3"
    assert found["a"]["environment"]["VLLM_CPU_OMP_THREADS_BIND"] == "4,5,6,7"
    sizes = {one["serve_args"]["kv-cache-memory-bytes"] for one in found.values()}
    assert len(sizes) == 1
    assert "device-ids" not in found["a"]["serve_args"]


def test_cores_left_to_the_plan_are_a_rank_on_each_host() -> None:
    found = decided(hosts(cpu, tensor_parallel_size="auto"))
    assert {one["serve_args"]["tensor-parallel-size"] for one in found.values()} == {2}
    assert "tensor_parallel_size 2, a rank on each host." in found["a"]["reasons"]


def changed(given: dict[str, Any], host: str, **what: Any) -> dict[str, Any]:
    return {**given, host: {**given[host], **what}}


def without(given: dict[str, Any], host: str) -> dict[str, Any]:
    return {name: one for name, one in given.items() if name != host}


BOTH = {"lo": {"address": "127.0.0.1"}, "eth0": {"address": "192.0.2.9"}, "eth1": {"address": None}}


@pytest.mark.parametrize(
    ("given", "rule", "reason"),
    [
        (without(hosts(), "a"), "node_unknown", "'nodes' names a, which this run has not looked at"),
        (
            changed(hosts(), "a", models=[]),
            "entry_missing",
            "'nodes' names a, and vllm_models there has no such entry",
        ),
        (
            changed(hosts(), "a", models=[{**ENTRY, "max_model_len": 256}]),
            "unlike_entries",
            "its entries on b and a differ (max_model_len is None and 256)",
        ),
        (
            changed(hosts(), "a", engine_version="0.32.0"),
            "unlike_entries",
            "its entries on b and a differ (engine_version is '0.33.0' and '0.32.0')",
        ),
        (
            changed(hosts(), "a", release="0.33.0-cuda-1f"),
            "unlike_releases",
            "its hosts do not have the same release of the engine: 0.33.0-cuda on b, 0.33.0-cuda-1f on a",
        ),
        (
            changed(hosts(), "a", gpu_facts=cpu()),
            "unlike_hosts",
            "its hosts do not have the same kind of accelerator: cuda on b, cpu on a",
        ),
        (
            changed(hosts(), "a", gpu_facts=facts.facts_from_profile({"name": "L40S", "count": 2})),
            "unlike_hosts",
            "each of 2 hosts must have 1 free",
        ),
        (hosts(gpus=[0, 1]), "gpus_of_several_hosts", "a list of GPUs is that of one host"),
        (
            changed(hosts(), "a", model_facts={"big": QWEN3_06B}),
            "unlike_models",
            "/m is not the same model on b and a, which differ in ",
        ),
        (
            changed(hosts(), "a", model_facts={"big": {"problem": "The model path /m does not exist; put it there."}}),
            "model_unreadable",
            "on a: The model path /m does not exist; put it there",
        ),
        (changed(hosts(), "a", interfaces={}), "network_interface_unknown", "the interface eth1 is not on a"),
        (
            changed(hosts(), "a", interfaces=BOTH),
            "network_interface_unknown",
            "the interface eth1 has no IPv4 address on a",
        ),
        (
            changed(hosts(), "a", interfaces={"eth1": {"address": "10.0.0.2"}}),
            "same_address",
            "two of its hosts have the same address on eth1: 10.0.0.2 on b, 10.0.0.2 on a",
        ),
        (
            hosts(lambda: h100(3), data_parallel_size=3, tensor_parallel_size=2),
            "replica_over_hosts",
            "3 replicas (data_parallel_size) on 2 hosts would need one that spans hosts",
        ),
        (hosts(cpu, tensor_parallel_size=3), "uneven_hosts", "3 ranks cannot be spread evenly over 2 hosts"),
        (hosts(cpu, data_parallel_size=2), "data_parallel_on_cpu", "data_parallel_size over the cores of several"),
        (hosts(distributed_executor_backend="ray"), "ray_over_hosts", "an engine over several hosts is run by vLLM's"),
    ],
)
def test_hosts_that_do_not_agree(given: dict[str, Any], rule: str, reason: str) -> None:
    found = decided(given)
    refused = found["b"]["rejected"]
    assert refused["rule"] == rule
    assert refused["reason"].startswith(reason)
    assert refused["remedies"] or rule == "model_unreadable"
    # the others say the same
    assert all(one["rejected"] == refused for one in found.values())


def test_the_order_of_hosts_changes_nothing() -> None:
    given = hosts()
    assert decided(given) == decided(dict(reversed(given.items())))
