# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Plans of fleets: hosts that are alike, engines over several hosts."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import layout, plan
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import facts
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import model as model_files

from tests.unit.model_samples import QWEN3_8B_FP8
from tests.unit.samples import LLAMA_70B, QWEN25_7B

NODES = {"name": "big", "nodes": ["a", "b"], "network_interface": "ib0"}
H100 = {"name": "H100", "count": 4}


def host(profile: dict[str, Any], *entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    models = [{"model": "/m", "port": 8000 + place, **entry} for place, entry in enumerate(entries)]
    return {
        "gpu_facts": facts.facts_from_profile(profile),
        "models": models,
        "model_facts": {entry["name"]: LLAMA_70B if entry["name"] == "big" else QWEN25_7B for entry in models},
        **more,
    }


def planned(hosts: dict[str, Any]) -> dict[str, dict[str, dict[str, Any]]]:
    return {name: {one["name"]: one for one in found["instances"]} for name, found in plan.plan_hosts(hosts).items()}


def test_equal_hosts_are_decided_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = layout.layouts

    def counted(*args: Any) -> list[dict[str, Any]]:
        calls.append(args)
        return real(*args)

    monkeypatch.setattr(layout, "layouts", counted)
    found = planned({name: host(H100, {"name": "chat"}) for name in ("a", "b", "c")})
    assert len(calls) == 1
    assert [found[name]["chat"]["nodes"][0]["host"] for name in "abc"] == ["a", "b", "c"]


def test_another_release_is_another_plan() -> None:
    hosts = {name: host(H100, {"name": "chat"}, engine_version=name) for name in ("0.19.0", "0.33.0")}
    found = planned(hosts)
    assert found["0.19.0"]["chat"]["memory"]["budget_gib"] < found["0.33.0"]["chat"]["memory"]["budget_gib"]


def test_stages_are_no_choice_where_the_speed_of_a_gpu_is_not_known() -> None:
    given = host({"name": "Radeon RX 7900 XTX", "count": 2, "memory_mib": 24560}, {"name": "chat"})
    given["model_facts"] = {"chat": model_files.facts(QWEN3_8B_FP8)}
    chat = planned({"a": given})["a"]["chat"]
    assert chat["estimate"] is None
    assert chat["pipeline_parallel_size"] == 1
    assert chat["tensor_parallel_size"] * chat["data_parallel_size"] == 2


def test_one_engine_over_two_hosts() -> None:
    found = planned({name: host({"name": "A100 40GB", "count": 4}, NODES, {"name": "chat"}) for name in "ab"})
    head, other = found["a"]["big"], found["b"]["big"]
    assert head["rejected"] is other["rejected"] is None
    assert head["nodes"] == other["nodes"]
    assert [node["host"] for node in head["nodes"]] == ["a", "b"]
    assert len({len(node["devices"]) for node in head["nodes"]}) == 1
    # tensor parallel groups stay in a host, stages span them
    assert head["pipeline_parallel_size"] == 2
    assert head["tensor_parallel_size"] == len(head["devices"])
    assert (head["serve_args"]["node-rank"], other["serve_args"]["node-rank"]) == (0, 1)
    assert ("headless" in head["serve_args"], "headless" in other["serve_args"]) == (False, True)
    assert head["serve_args"]["nnodes"] == 2
    assert head["serve_args"]["master-addr"] == other["serve_args"]["master-addr"] == "a"
    assert other["environment"]["NCCL_SOCKET_IFNAME"] == other["environment"]["GLOO_SOCKET_IFNAME"] == "ib0"


def test_what_is_left_goes_to_the_hosts_own_instances() -> None:
    entry = {**NODES, "gpus": 2, "max_model_len": 8192}
    found = planned({name: host(H100, entry, {"name": "chat", "gpus": 1}) for name in "ab"})
    for name in "ab":
        assert found[name]["chat"]["rejected"] is None
        assert not set(found[name]["chat"]["devices"]) & set(found[name]["big"]["devices"])


@pytest.mark.parametrize(
    ("hosts", "where", "rule", "reason"),
    [
        (
            {name: host(H100, {"name": "big", "nodes": ["a", "b"]}) for name in "ab"},
            "a",
            "network_interface_missing",
            "an engine over several hosts has to know the network interface that its ranks talk over",
        ),
        (
            {"a": host(H100, NODES)},
            "a",
            "node_unknown",
            "'nodes' names b, which this run has not looked at",
        ),
        (
            {"a": host(H100, NODES), "b": host(H100, NODES), "c": host(H100, NODES)},
            "c",
            "not_a_node",
            "c has this entry and is not among its 'nodes' (a, b)",
        ),
    ],
)
def test_refusals(hosts: dict[str, Any], where: str, rule: str, reason: str) -> None:
    rejected = planned(hosts)[where]["big"]["rejected"]
    assert (rejected["rule"], rejected["reason"]) == (rule, reason)
    assert rejected["remedies"]


def test_unequal_hosts_use_as_many_gpus_each() -> None:
    found = planned({"a": host({"name": "H100", "count": 8}, NODES), "b": host({"name": "H100", "count": 2}, NODES)})
    nodes = found["a"]["big"]["nodes"]
    assert found["a"]["big"]["rejected"] is None
    assert len({len(node["devices"]) for node in nodes}) == 1


def test_hosts_of_other_kinds_are_named() -> None:
    found = planned({"a": host(H100, NODES), "b": host({"name": "L40S", "count": 4}, NODES)})
    assert found["a"]["big"]["rejected"]
