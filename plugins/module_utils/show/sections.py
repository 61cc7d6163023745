# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Cuts a plan into what is shown once: hosts that are alike, and hosts that run an engine together. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.show import names

# What of the facts makes hosts differ. The rest (identities, free memory) is not shown, or shown host by host: notes
# and driver versions.
SHOWN_FACTS = ("source", "state", "accelerator", "interconnect", "link_matrix")
SHOWN_DEVICE_FACTS = ("index", "name", "memory_total_mib", "numa_node", "mig_devices", "lost")


@dataclass(frozen=True)
class Section:
    """What is shown once.

    ``hosts`` has the entries of all hosts it speaks for, ``shown`` those that are drawn (one of many equal ones, or all
    that share an engine), ``instances`` the layouts, each once.
    """

    hosts: Mapping[str, Mapping[str, Any]]
    shown: Mapping[str, Mapping[str, Any]]
    instances: Sequence[Mapping[str, Any]]

    @property
    def title(self) -> str:
        """The names of its hosts, folded."""
        return names.fold(self.hosts)

    @property
    def weight(self) -> int:
        """How many hosts each of its instances runs on by itself; 1 for hosts that run engines together."""
        return len(self.hosts) if len(self.shown) == 1 else 1

    def told(self, tell: Callable[[Mapping[str, Any]], Iterable[str]]) -> list[str]:
        """What ``tell`` says of the facts of its hosts, each text once, with the hosts where not all are meant."""
        where: dict[str, list[str]] = {}
        for host, entry in self.hosts.items():
            for text in dict.fromkeys(tell(entry["gpu_facts"])):
                where.setdefault(text, []).append(host)
        everybody = len(self.hosts)
        return [text if len(on) == everybody else f"{text} ({names.fold(on)})" for text, on in where.items()]


def sections(report: Mapping[str, Any]) -> list[Section]:
    """The sections of a report, in the order of their first hosts."""
    hosts: Mapping[str, Mapping[str, Any]] = report["hosts"]
    found: dict[str, list[str]] = {}
    texts: dict[int, str] = {}
    joined: set[str] = set()
    for group in _joined(hosts):
        if len(group) > 1:
            joined.update(group)
            found["\n".join(group)] = group
        else:
            found.setdefault(_likeness(group[0], hosts[group[0]], texts), []).append(group[0])
    return [_section(group, group if group[0] in joined else group[:1], hosts) for group in found.values()]


def _section(group: Sequence[str], shown: Sequence[str], hosts: Mapping[str, Mapping[str, Any]]) -> Section:
    instances: dict[str, Mapping[str, Any]] = {}
    for host in shown:
        for one in hosts[host]["instances"]:
            many = len(one.get("nodes") or ()) > 1
            instances.setdefault(json.dumps([one["name"], one["nodes"] if many else host]), one)
    return Section(
        {host: hosts[host] for host in group}, {host: hosts[host] for host in shown}, list(instances.values())
    )


def _partners(host: str, entry: Mapping[str, Any]) -> list[str]:
    """The other hosts of its engines, as far as the engines run."""
    return [
        node["host"]
        for one in entry["instances"]
        if not one.get("rejected")
        for node in one.get("nodes") or ()
        if node["host"] != host
    ]


def _joined(hosts: Mapping[str, Mapping[str, Any]]) -> list[list[str]]:
    """Hosts in groups: those that share an engine together, each other one alone."""
    group_of: dict[str, list[str]] = {host: [host] for host in hosts}
    for host, entry in hosts.items():
        for partner in _partners(host, entry):
            if partner in group_of and group_of[partner] is not group_of[host]:
                merged = group_of[host] + group_of[partner]
                group_of.update(dict.fromkeys(merged, merged))
    order = {host: place for place, host in enumerate(hosts)}
    groups = {id(group): sorted(group, key=order.__getitem__) for group in group_of.values()}
    return sorted(groups.values(), key=lambda group: order[group[0]])


def _likeness(host: str, entry: Mapping[str, Any], texts: dict[int, str]) -> str:
    """A text that is the same for hosts that are shown the same; ``texts`` keeps those of shared facts."""
    facts = entry["gpu_facts"]
    if id(facts) not in texts:
        devices = [[device.get(key) for key in SHOWN_DEVICE_FACTS] for device in facts.get("devices") or ()]
        shown = [facts.get(key) for key in SHOWN_FACTS]
        message = None if facts.get("state") == "ready" else facts.get("message")
        texts[id(facts)] = json.dumps([shown, message, devices], sort_keys=True)
    instances = [
        {**one, "nodes": [{**node, "host": ""} for node in one["nodes"]]}
        if [node["host"] for node in one.get("nodes") or ()] == [host]
        else one
        for one in entry["instances"]
    ]
    return texts[id(facts)] + json.dumps(instances, sort_keys=True)


def findings(gpu_facts: Mapping[str, Any]) -> list[str]:
    """What stands in the way on a host, with the remedy: the checks that did not pass."""
    found = []
    for check in gpu_facts.get("readiness") or ():
        if check.get("state") in ("fail", "warn"):
            found.append(" ".join(str(check[key]) for key in ("message", "remedy") if check.get(key)))
    return found


def warnings(gpu_facts: Mapping[str, Any]) -> list[str]:
    """What could not be read on a host, or had to be assumed."""
    return [str(text) for text in gpu_facts.get("warnings") or ()]
