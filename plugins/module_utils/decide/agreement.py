# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the hosts of one engine have to agree on before it can be decided. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instances import Instance
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.refusal import Refused

HostInput = Mapping[str, Any]
# Not a setting of the engine, or judged by itself.
NOT_COMPARED = frozenset({"corrections"})
# Of the facts of a model, what may differ between copies of it: where it lies and how it is stored there.
NOT_OF_THE_MODEL = frozenset({"files", "source", "warnings", "problem", "path"})


def check(one: Instance, hosts: Mapping[str, HostInput], wanted: Mapping[str, Sequence[Instance]]) -> None:
    """Raise Refused, with a sentence, unless all hosts of an engine are known and say the same of it.

    ``hosts`` are the inputs of plan.plan_hosts by host, ``wanted`` the entries of each. GPUs are compared where they
    are chosen (host_groups).
    """
    _known(one, hosts)
    _entries(one, wanted)
    _same(one, {node: hosts[node].get("release") for node in one.nodes}, "release of the engine", "unlike_releases")
    kinds = {node: hosts[node]["gpu_facts"].get("accelerator") for node in one.nodes}
    _same(one, kinds, "kind of accelerator", "unlike_hosts")
    _models(one, hosts)


def _known(one: Instance, hosts: Mapping[str, HostInput]) -> None:
    missing = [node for node in one.nodes if node not in hosts]
    if missing:
        raise Refused(
            f"'nodes' names {', '.join(missing)}, which this run has not looked at",
            "node_unknown",
            (
                "name hosts of the inventory as it spells them",
                "let the run include them (vllm_hosts, --limit) and reach them",
            ),
        )


def _entries(one: Instance, wanted: Mapping[str, Sequence[Instance]]) -> None:
    written = {node: next((other for other in wanted[node] if other.name == one.name), None) for node in one.nodes}
    without = [node for node, entry in written.items() if entry is None]
    if without:
        raise Refused(
            f"'nodes' names {', '.join(without)}, and vllm_models there has no such entry",
            "entry_missing",
            ("write the entry once, in the variables of a group that holds all its nodes",),
        )
    fields = {node: asdict(entry) for node, entry in written.items() if entry}
    first, *others = fields
    for other in others:
        unlike = sorted(key for key, value in fields[first].items() if fields[other][key] != value)
        unlike = [key for key in unlike if key not in NOT_COMPARED]
        if unlike:
            told = ", ".join(f"{key} is {fields[first][key]!r} and {fields[other][key]!r}" for key in unlike)
            raise Refused(
                f"its entries on {first} and {other} differ ({told})",
                "unlike_entries",
                ("write the entry once, in the variables of a group that holds all its nodes",),
            )


def _same(one: Instance, said: Mapping[str, Any], what: str, rule: str) -> None:
    if len(set(said.values())) > 1:
        told = ", ".join(f"{value} on {node}" for node, value in said.items())
        raise Refused(
            f"its hosts do not have the same {what}: {told}", rule, ("make the hosts alike", "choose other 'nodes'")
        )


def _models(one: Instance, hosts: Mapping[str, HostInput]) -> None:
    facts = {node: hosts[node]["model_facts"].get(one.name) or {} for node in one.nodes}
    problems = {node: str(found["problem"]).rstrip(".") for node, found in facts.items() if found.get("problem")}
    for node, problem in problems.items():
        raise Refused(f"on {node}: {problem}" if len(problems) < len(facts) else problem, "model_unreadable")
    first, *others = facts
    for other in others:
        keys = sorted((set(facts[first]) | set(facts[other])) - NOT_OF_THE_MODEL)
        unlike = [key for key in keys if facts[first].get(key) != facts[other].get(key)]
        if unlike:
            raise Refused(
                f"{one.model} is not the same model on {first} and {other}, which differ in {', '.join(unlike[:5])}",
                "unlike_models",
                ("put the same files on all hosts", "name the commit of a hub model in 'revision'"),
            )


def addresses(one: Instance, interfaces: Mapping[str, Mapping[str, Any] | None]) -> dict[str, str | None]:
    """The address of each node on the network between them; None where nothing is known of its interfaces.

    ``interfaces`` are those of each host as host_info returns them. Raises Refused where the interface is missing, or
    two hosts have one address.
    """
    found: dict[str, str | None] = {}
    for node in one.nodes:
        there = interfaces.get(node)
        if there is None:
            found[node] = None
            continue
        address = (there.get(str(one.network_interface)) or {}).get("address")
        if not address:
            listed = ", ".join(f"{name} ({of['address']})" for name, of in there.items() if of.get("address"))
            what = "has no IPv4 address" if one.network_interface in there else "is not"
            raise Refused(
                f"the interface {one.network_interface} {what} on {node}",
                "network_interface_unknown",
                (f"write one of these in network_interface: {listed}",) if listed else ("give it an address",),
            )
        found[node] = str(address)
    known = [address for address in found.values() if address]
    if len(set(known)) < len(known):
        raise Refused(
            f"two of its hosts have the same address on {one.network_interface}: "
            + ", ".join(f"{address} on {node}" for node, address in found.items()),
            "same_address",
            ("name the interface of the network between the hosts",),
        )
    return found


def digest(*parts: Any) -> str:
    """A digest of what has to be equal on all hosts when they start an engine together."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
