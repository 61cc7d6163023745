# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where the GPUs, NUMA nodes and links of a drawn host lie. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Units of the drawing's viewBox; they are pixels where the screen has room.
GPU_WIDTH, GPU_HEIGHT, GAP = 112, 72, 36
PER_ROW = 4
LEFT = 14
RAIL, RAIL_GAP = 22, 16
_HEAD, _FOOT, _BETWEEN = 26, 12, 20


@dataclass(frozen=True)
class Row:
    """GPUs side by side: their places in the facts, the row's top, and the top of the rail that they hang on.

    Rows without a rail (of a single GPU) have None.
    """

    members: tuple[int, ...]
    top: int
    rail: int | None


@dataclass(frozen=True)
class Box:
    """The frame of a NUMA node; one whose ``node`` is None is not drawn."""

    node: int | None
    top: int
    bottom: int


@dataclass(frozen=True)
class Plan:
    """All of a drawing: frames, rows, and the height of the whole."""

    boxes: tuple[Box, ...]
    rows: tuple[Row, ...]
    height: int

    @property
    def right(self) -> int:
        """The right edge of the GPUs in the longest row."""
        return right(max(len(row.members) for row in self.rows) - 1)

    @property
    def width(self) -> int:
        """The width of the whole."""
        return self.right + LEFT

    def spots(self) -> dict[int, tuple[int, int]]:
        """Left and top of each GPU, by its place in the facts."""
        return {member: (left(place), row.top) for row in self.rows for place, member in enumerate(row.members)}


def left(place: int) -> int:
    """The left edge of a GPU by its place in its row."""
    return LEFT + place * (GPU_WIDTH + GAP)


def right(place: int) -> int:
    """The right edge of a GPU by its place in its row."""
    return left(place) + GPU_WIDTH


def plan(devices: Sequence[Mapping[str, Any]], matrix: Any, one_bus: bool) -> Plan:
    """Lay out the GPUs, four in a row and each NUMA node in a frame.

    With ``one_bus`` two rows share the rail between them, else each row has its own below it.
    """
    cut = _rows(devices, matrix)
    rows: list[Row] = []
    boxes: list[Box] = []
    several = len(devices) > 1
    height, begun, rail = 2, 0, None
    for number, (node, members, first, last) in enumerate(cut):
        if first:
            begun = height
            height += _HEAD if node is not None else 0
        top = height
        height += GPU_HEIGHT
        shares = one_bus and number % 2 == 1
        if several and not one_bus:
            rail = height + RAIL_GAP
            height = rail + RAIL
        if last:
            height += _FOOT if node is not None else 0
            boxes.append(Box(node, begun, height))
        if several and one_bus and not shares:
            rail = height + RAIL_GAP
            height = rail + RAIL
        rows.append(Row(members, top, rail))
        if number + 1 < len(cut):
            height += RAIL_GAP if one_bus and not shares else _BETWEEN
    return Plan(tuple(boxes), tuple(rows), height + 2)


def _rows(devices: Sequence[Mapping[str, Any]], matrix: Any) -> list[tuple[int | None, tuple[int, ...], bool, bool]]:
    """NUMA node, members, and whether the row is the first and the last of its node."""
    nodes: dict[int | None, list[int]] = {}
    for place, device in enumerate(devices):
        nodes.setdefault(device.get("numa_node"), []).append(place)
    found: list[tuple[int | None, tuple[int, ...], bool, bool]] = []
    for node in sorted(nodes, key=lambda node: (node is None, node or 0)):
        members = _neighbours(nodes[node], matrix)
        pieces = [tuple(members[begin : begin + PER_ROW]) for begin in range(0, len(members), PER_ROW)]
        found.extend((node, piece, number == 0, number == len(pieces) - 1) for number, piece in enumerate(pieces))
    return found


def _neighbours(members: Sequence[int], matrix: Any) -> list[int]:
    """Places in an order in which two that NVLink joins to nobody else stand side by side."""
    if not matrix:
        return list(members)
    left, found = list(members), []
    while left:
        first = left.pop(0)
        found.append(first)
        joined = [other for other in left if nvlink(matrix[first][other])]
        if len(joined) == 1:
            left.remove(joined[0])
            found.append(joined[0])
    return found


def nvlink(cell: Any) -> bool:
    """Whether a cell of the link matrix is a bond of NVLinks."""
    return str(cell or "").startswith("NV")
