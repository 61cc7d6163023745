# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which GPUs work together: groups for tensor parallelism, stages of a pipeline. Pure.

Everything here depends on what the host has, not on the order in which the facts list it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import packing
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.kept import kept
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.pools import (
    Device,
    Pool,
    devices_of,
    explicit,
    pools,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.refusal import Refused
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import links
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.findings import gpus_named
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.profiles import profile_of

__all__ = ["Group", "Pool", "StagedGroup", "describe", "explicit", "groups", "link_class", "pools", "staged_groups"]

# distributed/device_communicators/custom_all_reduce.py:118 of vLLM 0.33.0
CUSTOM_ALL_REDUCE_SIZES = (2, 4, 6, 8, 16)

Cells = tuple[tuple[Optional[str], ...], ...]


@dataclass(frozen=True)
class Group:
    """GPUs that work together, by index, in the order of their ranks.

    ``worst_link`` is the worst link between any two as the driver names it, None for one GPU alone or where a
    link is not known. ``link_class`` says the same in words: none (one GPU), nvlink, xgmi, pcie_switch,
    pcie_host, pcie_cross_numa, or pcie for a path that is not known. ``nvlinks`` is how many NVLinks every GPU
    has into the group (0: none, or not known). ``fully_connected``: every pair has a direct NVLink or XGMI.
    ``p2p``: whether every pair can reach one another's memory; None where no tool told.
    """

    devices: tuple[int, ...]
    worst_link: str | None = None
    link_class: str = "none"
    nvlinks: int = 0
    numa_nodes: tuple[int, ...] = ()
    fully_connected: bool = True
    p2p: bool | None = None
    warnings: tuple[str, ...] = ()

    @property
    def crosses_numa(self) -> bool:
        """Whether the GPUs are known to sit on several NUMA nodes."""
        return len(self.numa_nodes) > 1

    @property
    def custom_all_reduce(self) -> bool:
        """Whether vLLM uses its own all-reduce kernel here instead of NCCL's.

        It does for some sizes, where GPUs reach one another's memory, and beyond two of them only when all are
        directly linked (custom_all_reduce.py:163-290, platforms/cuda.py:818-838 of vLLM 0.33.0).
        """
        size = len(self.devices)
        return size in CUSTOM_ALL_REDUCE_SIZES and self.p2p is not False and (size == 2 or self.fully_connected)


@dataclass(frozen=True)
class StagedGroup:
    """A pipeline: one group per stage, in order. ``stage_link`` is the worst link that a hand-over goes through."""

    stages: tuple[Group, ...]
    stage_link: str | None = None
    stage_link_class: str = "none"

    @property
    def devices(self) -> tuple[int, ...]:
        """All GPUs in the order of vLLM's ranks: stage by stage (distributed/parallel_state.py)."""
        return tuple(device for stage in self.stages for device in stage.devices)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is to be said of the stages, once."""
        return tuple(dict.fromkeys(warning for stage in self.stages for warning in stage.warnings))


def groups(gpu_facts: Mapping[str, Any], pool: Pool, size: int, count: int = 1) -> list[Group]:
    """``count`` disjoint groups of ``size`` GPUs of a pool, the best first.

    A group is judged by its worst link, then by the NUMA nodes it spans; of equally good ones the one is taken
    that leaves the most whole link domains to later instances. Raises Refused where the pool is too small.
    """
    _check_room(pool, size, count)
    known = _Known(gpu_facts, pool.devices)
    return [known.group(found) for found in packing.pick(known.ground, size, count)]


@kept
def staged_groups(gpu_facts: Mapping[str, Any], pool: Pool, tensor_parallel_size: int, stages: int) -> StagedGroup:
    """GPUs for a pipeline: each stage is as good a group as there is, near stages follow one another.

    Only a hidden state goes from stage to stage, so stages may lie in different link domains. Raises Refused
    where the pool is too small.
    """
    _check_room(pool, tensor_parallel_size, stages)
    known = _Known(gpu_facts, pool.devices)
    ordered = _in_line(known, packing.pick(known.ground, tensor_parallel_size, stages))
    hops = [_hop(known, first, second) for first, second in zip(ordered, ordered[1:])]
    worst = None if None in hops else max(hops, key=links.rank, default=None)
    between = link_class(worst) if hops else "none"
    return StagedGroup(tuple(known.group(found) for found in ordered), worst, between)


@kept
def describe(gpu_facts: Mapping[str, Any], devices: Sequence[int]) -> Group:
    """The group that these GPUs make, in the order given. Every one must be in the facts."""
    known = _Known(gpu_facts, tuple(sorted(devices)))
    place = {index: position for position, index in enumerate(sorted(devices))}
    return known.group([place[index] for index in devices])


def link_class(link: str | None) -> str:
    """The class of one link by the driver's name for it; pcie where it is not known."""
    if link == links.XGMI:
        return "xgmi"
    level = links.rank(link).level
    if level == links.NVLINK_CLASS:
        return "nvlink"
    names = {1: "pcie_switch", 2: "pcie_switch", 3: "pcie_host", 4: "pcie_host", 5: "pcie_cross_numa"}
    return names.get(level, "pcie")


class _Known:
    """What the facts say of some devices; positions are places in ``indexes``, which ascend."""

    def __init__(self, gpu_facts: Mapping[str, Any], indexes: Sequence[int]) -> None:
        by_index: dict[int, Device] = {device["index"]: device for device in devices_of(gpu_facts)}
        self.indexes = tuple(indexes)
        self.devices = [by_index[index] for index in indexes]
        self.ground = packing.ground(
            _matrix(gpu_facts, indexes), tuple(device.get("numa_node") for device in self.devices)
        )
        self.p2p = _square(gpu_facts, "p2p_matrix", indexes)

    def group(self, positions: Sequence[int]) -> Group:
        devices = tuple(self.indexes[position] for position in positions)
        nodes = {self.ground.nodes[position] for position in positions}
        if len(devices) == 1:
            return Group(devices, numa_nodes=_numbers(nodes))
        worst = links.worst_link(self.ground.matrix, positions)
        found = link_class(worst)
        return Group(
            devices=devices,
            worst_link=worst,
            link_class=found,
            nvlinks=min(self._nvlinks(position, positions) for position in positions),
            numa_nodes=_numbers(nodes),
            fully_connected=found in ("nvlink", "xgmi"),
            p2p=self._peers(positions),
            warnings=self._doubts(devices, worst, nodes),
        )

    def _nvlinks(self, position: int, positions: Sequence[int]) -> int:
        """NVLinks from one GPU into a group. Behind a switch every pair shows all of a GPU's links."""
        widths = [-self.ground.ranks[position][other].detail for other in positions if other != position]
        own = nvlinks_of(self.devices[position])
        if own is None and sum(widths) > links.MOST_LINKS_PER_GPU:
            own = max(widths)
        return sum(widths) if own is None else min(sum(widths), max(own, *widths))

    def _peers(self, positions: Sequence[int]) -> bool | None:
        states = {self.p2p[i][j] for n, i in enumerate(positions) for j in positions[n + 1 :]}
        if states - {"OK", None}:
            return False
        return None if None in states else True

    def _doubts(self, devices: tuple[int, ...], worst: str | None, nodes: set[int | None]) -> tuple[str, ...]:
        found = []
        if worst is None:
            found.append(f"How {gpus_named(devices)} are linked is not known: PCIe was assumed.")
        if len(nodes - {None}) > 1 and worst is not None and not worst.startswith("NV") and worst != links.XGMI:
            found.append(
                f"{gpus_named(devices)} are on NUMA nodes {', '.join(map(str, _numbers(nodes)))}: "
                "what they say to one another goes through the link between the processors."
            )
        return tuple(found)


def nvlinks_of(device: Device) -> int | None:
    """NVLinks of one GPU: what the driver counted as active, else what the product has; None where not known."""
    active = (device.get("nvlink") or {}).get("active")
    profile = profile_of(device.get("name"))
    return active or (profile.nvlinks if profile and profile.nvlinks else None)


def _check_room(pool: Pool, size: int, count: int) -> None:
    if size < 1 or count < 1:
        raise ValueError(f"{count} groups of {size} GPUs: both numbers are at least 1")
    wanted, free = size * count, len(pool.devices)
    if wanted > free:
        kind = f"GPU{'' if free == 1 else 's'} of one kind ({pool.name or 'unnamed'})"
        left_out = f"; not counted: {'; '.join(pool.left_out)}" if pool.left_out else ""
        raise Refused(
            f"{wanted} {'GPU is' if wanted == 1 else 'GPUs are'} needed and {free} {kind} "
            f"{'is' if free == 1 else 'are'} free{left_out}",
            "too_few_gpus",
            (f"use at most {free}", "choose a host with more GPUs"),
        )


def _matrix(gpu_facts: Mapping[str, Any], indexes: Sequence[int]) -> Cells:
    """Links of these devices; what an NVSwitch must join is filled in from the whole host first."""
    devices = devices_of(gpu_facts)
    everyone = [device["index"] for device in devices]
    whole = _square(gpu_facts, "link_matrix", everyone)
    counts = [count for count in map(nvlinks_of, devices) if count]
    filled = links.through_switch(whole, max(counts, default=None))
    place = {index: position for position, index in enumerate(everyone)}
    return tuple(tuple(filled[place[i]][place[j]] for j in indexes) for i in indexes)


def _square(gpu_facts: Mapping[str, Any], key: str, indexes: Sequence[int]) -> Cells:
    """A matrix of the facts in the order of ``indexes``; None in every pair that it does not tell."""
    rows = gpu_facts.get(key)
    place = {device["index"]: position for position, device in enumerate(gpu_facts.get("devices") or ())}
    return tuple(tuple("X" if i == j else rows[place[i]][place[j]] if rows else None for j in indexes) for i in indexes)


def _in_line(known: _Known, found: Sequence[Sequence[int]]) -> list[list[int]]:
    """Stages in an order in which each is followed by the nearest one left, from the lowest position on."""
    left = sorted(list(group) for group in found)
    ordered = [left.pop(0)]
    while left:
        nearest = min(left, key=lambda group: (links.rank(_hop(known, ordered[-1], group)), group))
        left.remove(nearest)
        ordered.append(nearest)
    return ordered


def _hop(known: _Known, first: Sequence[int], second: Sequence[int]) -> str | None:
    """The worst link that a hand-over uses: each rank sends to the rank of the same place in the next stage."""
    used = [known.ground.matrix[i][j] for i, j in zip(first, second)]
    return None if None in used else max(used, key=links.rank)


def _numbers(nodes: set[int | None]) -> tuple[int, ...]:
    return tuple(sorted(node for node in nodes if node is not None))
