# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The links between a host's devices: matrix, class, groups, peer-to-peer access. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import links
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.devices import kind_of
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.profiles import profile_of

Matrix = list[list[Optional[str]]]
LINK_FACTS = ("link_matrix", "interconnect", "link_groups", "ungrouped", "device_groups")


def in_order_of(gpus: Sequence[int], matrix: Matrix, numbers: Sequence[int]) -> Matrix:
    """A matrix in the order of the devices; None where it has no word of a device."""
    place = {gpu: position for position, gpu in enumerate(gpus)}
    return [
        ["X" if i == j else matrix[place[i]][place[j]] if i in place and j in place else None for j in numbers]
        for i in numbers
    ]


def link_facts(
    devices: Sequence[Mapping[str, Any]], matrix: Matrix | None, switch_seen: bool, warnings: list[str]
) -> dict[str, Any]:
    """The matrix, its class and the groups of devices, in device numbers; all None where not known."""
    if matrix is None and len(devices) > 1:
        warnings.append("No tool told how the GPUs are linked: link_matrix, interconnect and groups are unknown.")
        return dict.fromkeys(LINK_FACTS)
    known = matrix if matrix is not None else [["X"] for _ in devices]
    numbers = [device["index"] for device in devices]
    kinds = [kind_of(device) for device in devices]
    nodes = [device["numa_node"] for device in devices]
    per_gpu = _links_per_gpu(devices)
    filled = links.through_switch(known, per_gpu)
    groups = links.link_groups(filled, kinds, nodes)
    grouped = {position for group in groups for position in group}
    return {
        "link_matrix": known,
        "interconnect": links.classify(known, per_gpu, switch_seen),
        "link_groups": [[numbers[position] for position in group] for group in groups],
        "ungrouped": [number for position, number in enumerate(numbers) if position not in grouped],
        "device_groups": [
            {
                "size": size,
                "groups": [
                    {
                        "devices": [numbers[position] for position in group],
                        "worst_link": links.worst_link(filled, group),
                        "numa_nodes": sorted({nodes[position] for position in group} - {None}),
                    }
                    for group in found
                ],
            }
            for size, found in links.device_groups(filled, kinds, nodes).items()
        ],
    }


def _links_per_gpu(devices: Sequence[Mapping[str, Any]]) -> int | None:
    """NVLinks of one GPU: what nvlink -s counted, else what the product has."""
    counted = max((device["nvlink"]["active"] for device in devices if device["nvlink"]), default=0)
    profile = profile_of(devices[0]["name"]) if devices else None
    return counted or (profile.nvlinks if profile and profile.nvlinks else None)


def p2p_summary(matrix: Matrix | None) -> str | None:
    """all, partial or none of the pairs can; None where a pair is unknown."""
    states = [cell for i, row in enumerate(matrix or ()) for cell in row[i + 1 :]]
    if not states or None in states:
        return None
    working = states.count("OK")
    return "all" if working == len(states) else "partial" if working else "none"
