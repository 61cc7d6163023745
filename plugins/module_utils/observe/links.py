# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Order, class and grouping of links between GPUs. Pure: matrices in, groups out.

A matrix is a square list of rows; a cell is a link as the driver prints it (``NV12``, ``PIX``, ...), ``X`` on
the diagonal, or None where it is not known. Matrices given here are symmetric.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Optional

Matrix = Sequence[Sequence[Optional[str]]]

_NVLINK = re.compile(r"^NV(\d{1,2})$")
# Best first. Source: the legend that nvidia-smi topo -m prints; SOC is what drivers before 390 call SYS.
_PCIE_ORDER = {"PIX": 1, "PXB": 2, "PHB": 3, "NODE": 4, "SYS": 5, "SOC": 5, "PCIE": 6}
NVLINK_CLASS = 0
XGMI = "XGMI"
# A PCIe path of unknown length: AMD tools that print no hops. Taken to be worse than any known one.
PCIE = "PCIE"
UNKNOWN_RANK = (9, 0)
# NVLinks of a GPU at most (H100, B200: 18). Source: NVIDIA H100 and Blackwell architecture white papers.
MOST_LINKS_PER_GPU = 18
# Above this many GPUs in one connected, incomplete part the best packing is no longer searched for.
EXACT_SEARCH_LIMIT = 12


class Rank(NamedTuple):
    """How good a link is; smaller is better. ``detail`` is minus the number of bonded NVLinks."""

    level: int
    detail: int


@lru_cache(maxsize=256)
def rank(link: str | None) -> Rank:
    """Place of a link in the order NV# (wider first), XGMI, PIX, PXB, PHB, NODE, SYS, PCIE, unknown."""
    if link is None:
        return Rank(*UNKNOWN_RANK)
    match = _NVLINK.match(link)
    if match:
        return Rank(NVLINK_CLASS, -int(match[1]))
    if link == XGMI:
        return Rank(NVLINK_CLASS, 0)
    return Rank(_PCIE_ORDER.get(link, UNKNOWN_RANK[0]), 0)


def worse(first: str | None, second: str | None) -> str | None:
    """The worse of two statements about one link; a statement counts more than silence."""
    if first is None or second is None:
        return first if second is None else second
    return max(first, second, key=rank)


def pairs(matrix: Matrix) -> list[tuple[int, int, str | None]]:
    """Every pair of positions once, with its link."""
    size = len(matrix)
    return [(i, j, matrix[i][j]) for i in range(size) for j in range(i + 1, size)]


def through_switch(matrix: Matrix, links_per_gpu: int | None = None) -> Matrix:
    """Fill in unknown pairs that an NVSwitch must join; else return the matrix as it is.

    A GPU whose links to all others are known, equally wide and more than it has NVLinks for, reaches them
    through a switch, and so do they one another. Only pairs about which nothing was read are filled in.
    """
    size = len(matrix)
    for place, row in enumerate(matrix):
        others = {link for position, link in enumerate(row) if position != place}
        link = next(iter(others), None)
        width = -rank(link).detail
        if len(others) == 1 and link and width * (size - 1) > (links_per_gpu or MOST_LINKS_PER_GPU):
            return [[link if cell is None else cell for cell in cells] for cells in matrix]
    return matrix


def classify(matrix: Matrix, links_per_gpu: int | None = None, switch_seen: bool = False) -> str | None:
    """Name the class of a host by the best link between any two of its GPUs.

    ``links_per_gpu`` is how many NVLinks one GPU has (None: not known, taken as the most that exists);
    ``switch_seen`` says that an NVSwitch was seen elsewhere (PCI, /proc, fabric state). Returns None where a
    pair is unknown, because that pair could be the best one.

    nvswitch: all pairs NV# of equal width, and more links than a GPU has would be needed without a switch;
    nvlink_full: all pairs NV# otherwise; nvlink_pairs: NVLink in disjoint pairs only; nvlink_partial: any
    other mix of NVLink; xgmi; pcie_switch: best is PIX or PXB; pcie_host: PHB or NODE; pcie_cross_numa: only
    SYS; none: fewer than two GPUs.
    """
    if len(matrix) < 2:
        return "none"
    matrix = through_switch(matrix, links_per_gpu)
    found = [link for _, _, link in pairs(matrix)]
    if XGMI in found:
        return "xgmi"
    if None in found:
        return None
    best = min(rank(link) for link in found)
    if best.level == NVLINK_CLASS:
        return _nvlink_class(matrix, links_per_gpu, switch_seen)
    names = {1: "pcie_switch", 2: "pcie_switch", 3: "pcie_host", 4: "pcie_host", 5: "pcie_cross_numa"}
    return names.get(best.level)


def _nvlink_class(matrix: Matrix, links_per_gpu: int | None, switch_seen: bool) -> str:
    joined = [(i, j, link) for i, j, link in pairs(matrix) if rank(link).level == NVLINK_CLASS]
    size = len(matrix)
    if len(joined) == size * (size - 1) // 2:
        widths = {-rank(link).detail for _, _, link in joined}
        needed = max(widths) * (size - 1)
        one_width = len(widths) == 1
        if one_width and (switch_seen or needed > (links_per_gpu or MOST_LINKS_PER_GPU)):
            return "nvswitch"
        return "nvlink_full"
    ends = [end for i, j, _ in joined for end in (i, j)]
    return "nvlink_pairs" if len(ends) == len(set(ends)) else "nvlink_partial"


def link_groups(
    matrix: Matrix, kinds: Sequence[Any] | None = None, nodes: Sequence[int | None] | None = None
) -> list[list[int]]:
    """Partition positions into groups whose members all share the best class of link on the host.

    NV# of any width is one class; PIX and PXB are two. Positions in no such group are left out. ``kinds``
    (one hashable per position) keeps unlike GPUs apart; ``nodes`` are NUMA nodes, which break ties.
    """
    size = len(matrix)
    kinds = list(kinds) if kinds is not None else [None] * size
    like = [(i, j, rank(link)) for i, j, link in pairs(matrix) if link not in (None, PCIE) and kinds[i] == kinds[j]]
    if not like:
        return []
    best = min(found.level for _, _, found in like)
    edges = [(i, j) for i, j, found in like if found.level == best]
    return sorted(_pack(range(size), edges, range(2, size + 1), _Ground(matrix, nodes)))


def device_groups(
    matrix: Matrix, kinds: Sequence[Any] | None = None, nodes: Sequence[int | None] | None = None
) -> dict[int, list[list[int]]]:
    """For each group size the disjoint groups, the best first.

    Groups are ranked by their worst link, then by the number of NUMA nodes they span, then by position. Every
    size for which one group of like GPUs exists is there; unknown links count as the worst.
    """
    size = len(matrix)
    kinds = list(kinds) if kinds is not None else [None] * size
    most = max((kinds.count(kind) for kind in kinds), default=0)
    ground = _Ground(matrix, nodes)
    return {wanted: _groups_of(wanted, ground, kinds) for wanted in range(1, most + 1)}


def worst_link(matrix: Matrix, group: Sequence[int]) -> str | None:
    """The worst link inside a group; None for one GPU alone or where a link is unknown."""
    found = [matrix[i][j] for n, i in enumerate(group) for j in group[n + 1 :]]
    return max(found, key=rank) if found and None not in found else None


class _Ground:
    """Ranks of all pairs and NUMA nodes of all positions, worked out once."""

    def __init__(self, matrix: Matrix, nodes: Sequence[int | None] | None) -> None:
        self.places = [[rank(link) for link in row] for row in matrix]
        self.nodes = list(nodes) if nodes else [0] * len(matrix)

    def cost(self, group: Sequence[int]) -> tuple[Rank, int, int]:
        """What is wrong with a group: worst link, NUMA nodes spanned, and all its links added up."""
        places = [self.places[i][j] for n, i in enumerate(group) for j in group[n + 1 :]]
        spanned = len({self.nodes[position] for position in group})
        return max(places), spanned, sum(100 * place.level + place.detail for place in places)

    def distance(self, position: int, group: Sequence[int]) -> tuple[Rank, bool, int, int]:
        """What is wrong with adding a position to a group; the position itself breaks ties."""
        places = [self.places[position][member] for member in group]
        far = self.nodes[position] not in {self.nodes[member] for member in group}
        return max(places), far, sum(100 * place.level + place.detail for place in places), position


def _groups_of(wanted: int, ground: _Ground, kinds: Sequence[Any]) -> list[list[int]]:
    size = len(kinds)
    left = set(range(size))
    if wanted == 1:
        return [[position] for position in range(size)]
    like = [(i, j, ground.places[i][j]) for i in range(size) for j in range(i + 1, size) if kinds[i] == kinds[j]]
    found: list[list[int]] = []
    for limit in sorted({place for _, _, place in like}):
        edges = [(i, j) for i, j, place in like if place <= limit and i in left and j in left]
        packed = _pack(sorted(left), edges, [wanted], ground)
        found.extend(sorted(packed, key=lambda group: (ground.cost(group), group)))
        left.difference_update(position for group in packed for position in group)
    return found


def _pack(
    positions: Iterable[int], edges: Sequence[tuple[int, int]], sizes: Sequence[int], ground: _Ground
) -> list[list[int]]:
    """Disjoint cliques of the given sizes that cover as many positions as can be, with few groups."""
    near: dict[int, set[int]] = {position: set() for position in positions}
    for i, j in edges:
        near[i].add(j)
        near[j].add(i)
    groups: list[list[int]] = []
    for part in _components(near):
        if len(part) < min(sizes):
            continue
        if all(len(near[position]) == len(part) - 1 for position in part):
            groups.extend(_cut(part, max(size for size in sizes if size <= len(part)), ground))
        elif len(part) <= EXACT_SEARCH_LIMIT:
            groups.extend(_search(part, near, sizes, ground))
        else:
            groups.extend(_grow(part, near, sizes))
    return groups


def _components(near: dict[int, set[int]]) -> list[list[int]]:
    left = set(near)
    parts: list[list[int]] = []
    while left:
        part: set[int] = set()
        reach = [min(left)]
        while reach:
            position = reach.pop()
            if position not in part:
                part.add(position)
                reach.extend(near[position] - part)
        left -= part
        parts.append(sorted(part))
    return parts


def _cut(part: Sequence[int], size: int, ground: _Ground) -> list[list[int]]:
    """Cut a clique into groups of one size, near ones together, each from the lowest position left."""
    left = list(part)
    groups: list[list[int]] = []
    while len(left) >= size:
        group = [left.pop(0)]
        while len(group) < size:
            nearest = min(ground.distance(position, group) for position in left)[-1]
            left.remove(nearest)
            group.append(nearest)
        groups.append(sorted(group))
    return groups


def _search(part: Sequence[int], near: dict[int, set[int]], sizes: Sequence[int], ground: _Ground) -> list[list[int]]:
    """The best packing of an incomplete part, by trying all of them once."""
    known: dict[tuple[int, ...], tuple[tuple[Any, ...], list[list[int]]]] = {}

    def best(left: tuple[int, ...]) -> tuple[tuple[Any, ...], list[list[int]]]:
        if len(left) < min(sizes):
            return (0, 0, []), []
        if left in known:
            return known[left]
        score, groups = best(left[1:])
        for clique in _cliques(left[0], left[1:], near, sizes):
            rest = tuple(position for position in left if position not in clique)
            (uncovered, count, costs), others = best(rest)
            cost = sorted([*costs, ground.cost(clique)])
            candidate = (uncovered - len(clique), count + 1, cost)
            if (candidate, [clique, *others]) < (score, groups):
                score, groups = candidate, [clique, *others]
        known[left] = score, groups
        return known[left]

    return best(tuple(part))[1]


def _cliques(first: int, others: Sequence[int], near: dict[int, set[int]], sizes: Sequence[int]) -> Iterable[list[int]]:
    """All cliques of an allowed size that contain ``first`` and otherwise only ``others``."""
    largest, allowed = max(sizes), set(sizes)
    stack: list[tuple[list[int], list[int]]] = [([first], [other for other in others if other in near[first]])]
    while stack:
        clique, candidates = stack.pop()
        if len(clique) in allowed:
            yield clique
        if len(clique) < largest:
            for n, candidate in enumerate(candidates):
                rest = [other for other in candidates[n + 1 :] if other in near[candidate]]
                stack.append(([*clique, candidate], rest))


def _grow(part: Sequence[int], near: dict[int, set[int]], sizes: Sequence[int]) -> list[list[int]]:
    """Cliques taken one after another from the lowest position, for parts too large to search."""
    left = list(part)
    groups: list[list[int]] = []
    while left:
        group = [left.pop(0)]
        for position in list(left):
            if len(group) < max(sizes) and all(position in near[member] for member in group):
                group.append(position)
        fitting = [size for size in sizes if size <= len(group)]
        if fitting:
            group = group[: max(fitting)]
            groups.append(group)
            left = [position for position in left if position not in group]
    return groups
