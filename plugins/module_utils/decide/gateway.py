# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decide which servers a gateway has for each model, from what the inventory says of the hosts. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import instances
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instance_problems import DEFAULT_PORT

# What a host is reached at, the first that is written.
ADDRESSES = ("gateway_address", "ansible_host")
VARIABLES = ("vllm_models", *ADDRESSES)
EVERY_INTERFACE = frozenset({"0.0.0.0", "::", ""})  # noqa: S104
LOOPBACK = re.compile(r"127\.|localhost$|::1$")
# What HAProxy takes as the name of a server (invalid_char() of src/tools.c); inventories allow more.
SERVER_NAME = re.compile(r"[A-Za-z0-9_:.-]+")
# First parts of paths that are not the name of a model.
RESERVED = frozenset({"v1", "v2", "health", "ping", "metrics"})
DEFAULT_HOST = "127.0.0.1"


def backends(
    hosts: Mapping[str, Mapping[str, Any]], gateway: str, requests: int | Literal["auto"] = 0
) -> dict[str, Any]:
    """Return the backends by name of the model, with their servers by name of the host, and what is wrong.

    ``hosts`` has what was written for each host in the variables :data:`VARIABLES`. ``gateway`` is the inventory name
    of the gateway; empty for a load balancer on none of the hosts, for which addresses are given as they are.
    ``requests`` is how many a server gets at once: 0 for no limit, "auto" for its ``max_num_seqs``.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    problems: list[str] = []
    for host, said in hosts.items():
        models: Any = said.get("vllm_models") or []
        wanted = _present(models) if _is_list(models) else models
        wrong = instances.problems(wanted) if wanted else []
        if wrong:
            problems.extend(f"{host}: {sentence}" for sentence in wrong)
            continue
        for entry in wanted:
            nodes = entry.get("nodes") or [host]
            if nodes[0] != host:
                continue
            server = _server(host, said, entry, gateway)
            server["limit"] = _sequences(entry) if requests == "auto" else requests
            problems.extend(_problems(server, entry, gateway))
            found.setdefault(entry["name"], []).append(server)
    ordered: list[dict[str, Any]] = [
        {"name": name, "servers": sorted(found[name], key=_name)} for name in sorted(found)
    ]
    if not found and not problems:
        problems.append(
            f"None of the hosts ({', '.join(hosts) or 'there are none'}) has a model in vllm_models, so there is "
            "nothing to put a gateway in front of. Name the hosts that have in vllm_hosts."
        )
    return {"backends": ordered, "problems": problems}


def _name(server: dict[str, Any]) -> str:
    return str(server["name"])


def _present(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leave out what is to be removed."""
    return [
        {key: value for key, value in one.items() if key != "state"} for one in models if one.get("state") != "absent"
    ]


def _is_list(models: Any) -> bool:
    return isinstance(models, list) and all(isinstance(one, dict) for one in models)


def _server(host: str, said: Mapping[str, Any], entry: Mapping[str, Any], gateway: str) -> dict[str, Any]:
    listens = str(entry.get("host", DEFAULT_HOST))
    if host == gateway and (LOOPBACK.match(listens) or listens in EVERY_INTERFACE):
        address = DEFAULT_HOST if listens in EVERY_INTERFACE else listens
    elif listens in EVERY_INTERFACE or LOOPBACK.match(listens):
        address = next((str(said[name]) for name in ADDRESSES if said.get(name)), host)
    else:
        address = listens
    return {
        "name": host,
        "address": f"[{address}]" if ":" in address else address,
        "port": int(entry.get("port", DEFAULT_PORT)),
    }


def _sequences(entry: Mapping[str, Any]) -> int:
    """How many sequences all replicas behind the port compute at once; 0 where the entry does not say it."""
    replicas = entry.get("data_parallel_size")
    return int(entry.get("max_num_seqs") or 0) * (replicas if isinstance(replicas, int) else 1)


def _problems(server: Mapping[str, Any], entry: Mapping[str, Any], gateway: str) -> Iterator[str]:
    name, host = entry["name"], server["name"]
    listens = str(entry.get("host", DEFAULT_HOST))
    if gateway and host != gateway and LOOPBACK.match(listens):
        yield (
            f"{host}: {name} listens on {listens}, where the gateway {gateway} cannot reach it. Write 'host: 0.0.0.0', "
            "or the address of an interface, in its entry of vllm_models, in a network that only the gateways reach."
        )
    if not SERVER_NAME.fullmatch(host):
        yield (
            f"{host}: HAProxy does not take this inventory name for a server; use letters, digits, '.', '-', '_' and "
            "':' only."
        )
    if name in RESERVED:
        yield f"{host}: a model named {name} cannot be told from a path of the gateway; give it another 'name'."
