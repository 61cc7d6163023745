"""Hosts with GPUs and links between them, for tests of placement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tests.unit.samples import gpu, nvidia_host

A100: dict[str, Any] = {"name": "NVIDIA A100 80GB PCIe", "mib": 81920, "compute_capability": "8.0"}
RTX_4090: dict[str, Any] = {"name": "NVIDIA GeForce RTX 4090", "mib": 24564, "compute_capability": "8.9"}

Matrix = list[list[str | None]]


def matrix_of(size: int, *layers: tuple[str, Sequence[Sequence[int]]]) -> Matrix:
    """A matrix in which later layers overwrite earlier ones: (link, groups of positions that it joins)."""
    matrix: Matrix = [["X" if i == j else None for j in range(size)] for i in range(size)]
    for link, groups in layers:
        for group in groups:
            for i in group:
                for j in group:
                    if i != j:
                        matrix[i][j] = link
    return matrix


def pairs_of(*numbers: int) -> list[list[int]]:
    """The numbers two by two."""
    return [[first, second] for first, second in zip(numbers[::2], numbers[1::2], strict=True)]


def linked(matrix: Matrix | None, nodes: Sequence[int | None] | None = None, **more: Any) -> dict[str, Any]:
    """A host whose GPUs have these links; ``nodes`` are their NUMA nodes, ``more`` goes into every device."""
    count = len(matrix) if matrix is not None else len(nodes or ())
    places = nodes or [0] * count
    devices = [gpu(index, **more, numa_node=node) for index, node in zip(range(count), places, strict=True)]
    return {**nvidia_host(*devices), "link_matrix": matrix, "p2p_matrix": None}


HALVES = [0, 0, 0, 0, 1, 1, 1, 1]
NVSWITCH_8 = linked(matrix_of(8, ("NV18", [range(8)])), HALVES)
NVLINK_PAIRS_4 = linked(matrix_of(4, ("SYS", [range(4)]), ("NV12", [[0, 2], [1, 3]])), [0, 1, 0, 1], **A100)
PIX_PAIRS_8 = linked(
    matrix_of(8, ("SYS", [range(8)]), ("NODE", [range(4), range(4, 8)]), ("PIX", pairs_of(*range(8)))),
    HALVES,
    **A100,
)
# A DGX-1 with V100s, shown with a GPU that vLLM still runs on: two quads in which some pairs have two NVLinks.
CUBE_MESH_8 = linked(
    matrix_of(
        8,
        ("SYS", [range(8)]),
        ("NV1", [*pairs_of(0, 1, 0, 2, 1, 3, 4, 5, 4, 6, 5, 7, 2, 6, 3, 7)]),
        ("NV2", [*pairs_of(0, 3, 1, 2, 2, 3, 4, 7, 5, 6, 6, 7, 0, 4, 1, 5)]),
    ),
    HALVES,
)
# Four GPUs with NVLink between all, and two more with a bridge.
ISLAND_AND_PAIR = linked(matrix_of(6, ("NODE", [range(6)]), ("NV4", [range(4), [4, 5]])), [0] * 6, **A100)


def shuffled(facts: dict[str, Any], order: Sequence[int]) -> dict[str, Any]:
    """The same host with its devices listed in another order."""
    moved = {**facts, "devices": [facts["devices"][place] for place in order]}
    for key in ("link_matrix", "p2p_matrix"):
        if facts.get(key):
            moved[key] = [[facts[key][i][j] for j in order] for i in order]
    return moved
