# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Plan a whole fleet: the layouts of every host, from what is known of hosts and models. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import calibration, layout
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instances import Instance, instances
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.refusal import Refused

HostInput = Mapping[str, Any]
MODEL_ROOT = "/var/lib/vllm/models"


def plan_hosts(hosts: Mapping[str, HostInput]) -> dict[str, dict[str, Any]]:
    """Decide the layouts of every host; hosts with equal inputs are decided once.

    ``hosts`` maps a host's name to ``{"gpu_facts", "models" (checked entries of vllm_models), "model_facts" (by the
    name of the instance), "engine_version", "network_interface", "calibration"}``. Returns, by host, ``gpu_facts`` and
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
            model = hosts[host]["model_facts"].get(one.name, {})
            for node, made in zip(nodes, _spread(one, model, hosts, nodes, free)):
                if node in hosts:
                    found.setdefault(node, {})[one.name] = asdict(made)
    return found


def _spread(
    one: Instance, model: Mapping[str, Any], hosts: Mapping[str, HostInput], nodes: Sequence[str], free: layout.Free
) -> list[layout.Layout]:
    missing = [node for node in nodes if node not in hosts]
    facts = {node: hosts[node]["gpu_facts"] for node in nodes if node in hosts}
    if not missing:
        return layout.one_layout(one, model, facts, free)
    refused = layout.one_layout(one, {"problem": ""}, facts or {"": {}}, free)[0]
    refused.reject(
        Refused(
            f"'nodes' names {', '.join(missing)}, which this run has not looked at",
            "node_unknown",
            ("name hosts of the inventory as it spells them", "include them in vllm_hosts"),
        )
    )
    return [refused] * len(nodes)


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
