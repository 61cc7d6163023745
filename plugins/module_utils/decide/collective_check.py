# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decide which all-reduce is run for an instance, and how fast its links ought to carry it. Pure.

Sizes are in bytes, bandwidths in 10**9 bytes per second as NCCL's tests define bus bandwidth: 2 (n - 1) / n times the
buffer, through the time (github.com/NVIDIA/nccl-tests, doc/PERFORMANCE.md).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import collectives, gpu_speed, placement

# Small ones show latency, as of decoding; large ones bandwidth, as of long prompts. Gloo copies through the host.
GPU_SIZES = (8, 64 * 1024, 1024**2, 32 * 1024**2, 256 * 1024**2, 1024**3)
CPU_SIZES = (8, 64 * 1024, 1024**2, 16 * 1024**2)
LOOPBACK = "127.0.0.1"
# Of what an interface says of itself, TCP between hosts reaches with gloo, one stream and one core for each rank.
SOCKET_SHARE = 0.4
ONE_GBIT_GB_S = 0.125


@dataclass(frozen=True)
class Wishes:
    """What a user may set. ``warn_below`` and ``fail_below`` are shares of the expected bandwidth."""

    when: str = "new"
    seconds: int = 120
    port: int = 29400
    warn_below: float = 0.75
    fail_below: float = 0.4
    expected_gb_s: float | None = None


@dataclass(frozen=True)
class Expectation:
    """Bus bandwidth that a large all-reduce should reach, and why; None where nothing says it."""

    gb_s: float | None
    reason: str


def ranks_by_node(layout: Mapping[str, Any]) -> list[int]:
    """Ranks on each node of an instance: one for each GPU, else equal shares of its sizes."""
    nodes = layout["nodes"]
    world = layout["tensor_parallel_size"] * layout["pipeline_parallel_size"] * layout.get("data_parallel_size", 1)
    return [len(node["devices"]) or world // len(nodes) for node in nodes]


def has_links(layout: Mapping[str, Any]) -> bool:
    """Whether an instance has more than one rank."""
    return sum(ranks_by_node(layout)) > 1


def interface_of(layout: Mapping[str, Any]) -> str | None:
    """The interface that the nodes of an instance talk over."""
    found = layout.get("environment") or {}
    return found.get("GLOO_SOCKET_IFNAME") or found.get("NCCL_SOCKET_IFNAME")


def expectation(
    layout: Mapping[str, Any], gpu_facts: Mapping[str, Any], speeds_mbit: Sequence[int | None], wishes: Wishes
) -> Expectation:
    """What the links of an instance should carry.

    ``gpu_facts`` are those of one host of it, ``speeds_mbit`` what the interfaces of its hosts say of themselves.
    """
    if wishes.expected_gb_s is not None:
        return Expectation(wishes.expected_gb_s, "nccl_check_expected_gb_s")
    nodes = layout["nodes"]
    if len(nodes) > 1:
        known = [speed for speed in speeds_mbit if speed]
        if len(known) < len(nodes) or gpu_facts.get("nics"):
            # RDMA adapters carry it beside the interface, and which of them do is NCCL's choice
            return Expectation(None, "the speed of the network between the hosts is not known")
        slowest = min(known)
        return Expectation(slowest / 1000 * ONE_GBIT_GB_S * SOCKET_SHARE, f"TCP over {slowest} Mbit/s")
    if layout["accelerator"] == "cpu":
        return Expectation(None, "ranks on one host's processor share its memory")
    group = placement.describe(gpu_facts, layout["devices"])
    names = {str(device["name"]) for device in gpu_facts["devices"] if device["index"] in layout["devices"]}
    known_gpu = gpu_speed.speeds_of(names.pop()) if len(names) == 1 else None
    if known_gpu is None:
        return Expectation(None, "these GPUs are not in the tables")
    wire = collectives.Wire(collectives.link_of(group), *known_gpu)
    path = group.worst_link or "an unknown link"
    return Expectation(round(wire.gb_s(), 1), f"{known_gpu[0].name} over {path}")


def key(layout: Mapping[str, Any], gpu_facts: Mapping[str, Any]) -> str:
    """A digest of what a measurement holds for: the GPUs, their driver, the nodes and the network between them."""
    chosen = [
        device.get("uuid") or device.get("pci_bus_id") or device.get("name")
        for device in gpu_facts.get("devices") or ()
        if device["index"] in layout["devices"]
    ]
    parts = [layout["nodes"], chosen, gpu_facts.get("driver_version"), interface_of(layout)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def job(
    layout: Mapping[str, Any], addresses: Mapping[str, str], release: str, expected: Expectation, wishes: Wishes
) -> dict[str, Any]:
    """What the program on the hosts is told. ``addresses`` are those of the nodes, by name; one host needs none."""
    several = len(layout["nodes"]) > 1
    on_gpu = layout["accelerator"] != "cpu"
    interface = interface_of(layout) if several else None if on_gpu else "lo"
    return {
        "name": layout["name"],
        "backend": "nccl" if on_gpu else "gloo",
        "nodes": [
            {
                "host": node["host"],
                "address": addresses[node["host"]] if several else LOOPBACK,
                "interface": interface,
                "devices": node["devices"],
                "ranks": ranks,
            }
            for node, ranks in zip(layout["nodes"], ranks_by_node(layout))
        ],
        "port": wishes.port,
        "sizes": list(GPU_SIZES if on_gpu else CPU_SIZES),
        "environment": _environment(layout),
        "release": release,
        # what its hosts compare; into a folder they look
        "model": layout.get("model"),
        "revision": layout.get("revision"),
        "seconds": wishes.seconds,
        # Of the whole time: for the hosts to find one another, and for one exchange.
        "meeting_seconds": max(5, wishes.seconds // 4),
        "step_seconds": max(5, wishes.seconds // 4),
        "narrow_below_gb_s": expected.gb_s * wishes.warn_below if expected.gb_s else None,
    }


def _environment(layout: Mapping[str, Any]) -> dict[str, str]:
    """Of an instance's environment, what changes how its ranks talk."""
    return {
        name: value
        for name, value in (layout.get("environment") or {}).items()
        if name.startswith(("NCCL_", "GLOO_", "UCX_", "RCCL_", "HSA_"))
    }
