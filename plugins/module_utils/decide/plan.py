# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Plan a whole fleet: the layouts of every host, from what is known of hosts and models. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import agreement, calibration, layout
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instances import Instance, instances
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.refusal import Refused

HostInput = Mapping[str, Any]
MODEL_ROOT = "/var/lib/vllm/models"


def plan_hosts(hosts: Mapping[str, HostInput]) -> dict[str, dict[str, Any]]:
    """Decide the layouts of every host; hosts with equal inputs are decided once.

    ``hosts`` maps a host's name to ``{"gpu_facts", "models" (checked entries of vllm_models), "model_facts" (by the
    name of the instance), "engine_version", "network_interface", "calibration"}``, and, where the host was asked,
    "interfaces" (as host_info returns them) and "release" (what will be installed). Returns, by host, ``gpu_facts`` and
    ``instances``, the layouts in the order of the models. Engines over several hosts choose their GPUs first; each of
    their hosts shows them.
    """
    wanted = {host: _instances(given) for host, given in hosts.items()}
    free = layout.Free()
    spread = _over_several(hosts, wanted, free)
    known: dict[str, str] = {}
    result = {}
    for host, given in hosts.items():
        own = [one for one in wanted[host] if not one.nodes]
        taken = sorted(free.taken.get(host, ()))
        key = json.dumps(
            [given["gpu_facts"], given["models"], given["model_facts"], _defaults(given), taken], sort_keys=True
        )
        if key not in known:
            left = layout.Free({"": set(taken)})
            known[key] = json.dumps(layout.layouts(own, given["gpu_facts"], given["model_facts"], "", left))
        decided = {one["name"]: one for one in json.loads(known[key])}
        for one in decided.values():
            one["nodes"] = [{**node, "host": host} for node in one["nodes"]]
        decided.update(spread.get(host, {}))
        result[host] = {
            "gpu_facts": given["gpu_facts"],
            "instances": [decided[one.name] for one in wanted[host] if one.name in decided],
        }
    return result


def _defaults(given: HostInput) -> list[Any]:
    return [given.get("engine_version"), given.get("network_interface"), given.get("calibration")]


def _instances(given: HostInput) -> list[Instance]:
    """Read a host's entries; what the host says for all of them holds where an entry says nothing."""
    corrections = calibration.rows(given.get("calibration") or ())
    return [
        replace(
            one,
            corrections=corrections,
            engine_version=one.engine_version or given.get("engine_version"),
            network_interface=one.network_interface or given.get("network_interface"),
        )
        for one in instances(given["models"], given.get("model_root") or MODEL_ROOT)
    ]


def _over_several(
    hosts: Mapping[str, HostInput], wanted: Mapping[str, Sequence[Instance]], free: layout.Free
) -> dict[str, dict[str, dict[str, Any]]]:
    """Decide the engines that run on several hosts: host -> name -> layout."""
    found: dict[str, dict[str, dict[str, Any]]] = {}
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for host, own in wanted.items():
        for one in own:
            nodes = tuple(one.nodes or ())
            if nodes and host not in nodes:
                found.setdefault(host, {})[one.name] = asdict(_elsewhere(one, host, nodes))
            if not nodes or (one.name, nodes) in seen:
                continue
            seen.add((one.name, nodes))
            for node, made in zip(nodes, _spread(one, hosts, wanted, free)):
                if node in hosts:
                    found.setdefault(node, {})[one.name] = asdict(made)
    return found


def _spread(
    one: Instance, hosts: Mapping[str, HostInput], wanted: Mapping[str, Sequence[Instance]], free: layout.Free
) -> list[layout.Layout]:
    try:
        agreement.check(one, hosts, wanted)
        addresses = agreement.addresses(one, {node: hosts[node].get("interfaces") for node in one.nodes})
    except Refused as no:
        refused = layout.one_layout(one, {"problem": ""}, {node: {} for node in one.nodes}, free)[0]
        refused.reject(no)
        return [refused] * len(one.nodes)
    facts = {node: hosts[node]["gpu_facts"] for node in one.nodes}
    peers = max(len(wanted[node]) for node in one.nodes)
    model = hosts[one.nodes[0]]["model_facts"].get(one.name, {})
    return layout.one_layout(one, model, facts, free, peers, addresses=addresses)


def _elsewhere(one: Instance, host: str, nodes: Sequence[str]) -> layout.Layout:
    refused = layout.one_layout(one, {"problem": ""}, {host: {}}, layout.Free())[0]
    refused.reject(
        Refused(
            f"{host} has this entry and is not among its 'nodes' ({', '.join(nodes)})",
            "not_a_node",
            ("add the host to 'nodes'", "take the entry out of this host's vllm_models"),
        )
    )
    return refused
