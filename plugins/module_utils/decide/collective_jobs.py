# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which all-reduces a host takes part in now, and what stands in their way. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import collective_check
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.collective_check import Wishes

NEW, ALWAYS, NEVER = "new", "always", "never"
# What a host calls its release before there is one, as in check mode: the link itself.
NOT_INSTALLED = "current"
CHOICES = (NEW, ALWAYS, NEVER)


def collective_jobs(
    instances: Sequence[Mapping[str, Any]],
    host: str,
    seen: Mapping[str, Mapping[str, Any]],
    gpu_facts: Mapping[str, Any],
    wishes: Wishes,
) -> dict[str, Any]:
    """Decide what is run on ``host``: ``jobs``, in order, and ``problems``, sentences that forbid all of them.

    ``seen`` maps each host of an instance to what the module nccl_check observed there (``release``, ``interfaces``,
    ``due``, ``active``). The hosts of one instance come to the same answer, each from the observations of all.
    """
    jobs, problems = [], []
    for layout in instances:
        if wishes.when == NEVER or not collective_check.has_links(layout):
            continue
        hosts = [node["host"] for node in layout["nodes"]]
        found = _problems(layout, hosts, seen)
        problems.extend(found)
        if found:
            continue
        interface = collective_check.interface_of(layout)
        known = {name: (seen[name].get("interfaces") or {}).get(interface) or {} for name in hosts if name in seen}
        expected = collective_check.expectation(
            layout, gpu_facts, [known.get(name, {}).get("speed_mbit") for name in hosts], wishes
        )
        addresses = {name: str(facts.get("address")) for name, facts in known.items()}
        if wishes.when != ALWAYS and not any(seen[name]["due"].get(layout["name"]) for name in hosts):
            continue
        jobs.append(
            {
                "name": layout["name"],
                "place": hosts.index(host),
                "key": collective_check.key(layout, gpu_facts),
                "job": collective_check.job(layout, addresses, str(seen[host]["release"]), expected, wishes),
                "expected_gb_s": expected.gb_s,
                "expected_reason": expected.reason,
                "surroundings": surroundings(gpu_facts),
                "busy": any(seen[name].get("active", {}).get(layout["name"]) for name in hosts if name in seen),
            }
        )
    return {"jobs": jobs, "problems": problems}


def surroundings(gpu_facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the facts say of the host that can break the links of its GPUs; ``shm_mib`` is the size of /dev/shm."""
    iommu = gpu_facts.get("iommu") or {}
    return {
        "iommu_translates": iommu.get("translates"),
        "acs_redirects": iommu.get("acs_redirects"),
        "shm_mib": gpu_facts.get("shm_total_mib"),
    }


def keys(instances: Sequence[Mapping[str, Any]], gpu_facts: Mapping[str, Any]) -> dict[str, str]:
    """By the name of each instance of several ranks, what a measurement of it has to hold for."""
    return {
        layout["name"]: collective_check.key(layout, gpu_facts)
        for layout in instances
        if collective_check.has_links(layout)
    }


def _problems(layout: Mapping[str, Any], hosts: Sequence[str], seen: Mapping[str, Mapping[str, Any]]) -> list[str]:
    name, interface = layout["name"], collective_check.interface_of(layout)
    missing = [host for host in hosts if host not in seen]
    if missing:
        return [
            f"{name}: {', '.join(missing)} belongs to this engine and is not part of this run, or could not be "
            "reached; run it on all hosts of 'nodes' together."
        ]
    if len(hosts) == 1:
        return []
    releases = {str(seen[host]["release"]): host for host in hosts if seen[host]["release"] != NOT_INSTALLED}
    if len(releases) > 1:
        listed = ", ".join(f"{release} on {host}" for release, host in sorted(releases.items()))
        return [
            f"{name}: the hosts of this engine do not run the same release of vLLM: {listed}; deploy the same "
            "engine_version to all of them."
        ]
    if not interface:
        return [f"{name}: an engine over several hosts has to name the network between them: write network_interface."]
    found = []
    for host in hosts:
        there = seen[host].get("interfaces") or {}
        if not (there.get(interface) or {}).get("address"):
            listed = ", ".join(f"{one} ({facts['address']})" for one, facts in there.items() if facts.get("address"))
            what = "has no IPv4 address" if interface in there else "is not"
            found.append(
                f"{name}: the interface {interface} {what} on {host}; write one of these in network_interface: "
                f"{listed or 'none has an address'}."
            )
    return found
