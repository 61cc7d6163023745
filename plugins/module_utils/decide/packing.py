# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Picks groups of positions out of a link matrix so that the best possible rest is left. Pure.

Positions are 0 to n-1; sets of them are bit masks. A threshold is a rank of links: at each one the positions fall
into domains, sets whose members all reach one another by links that good.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple, Optional

from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import links
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.links import Rank

Cells = tuple[tuple[Optional[str], ...], ...]

# So many groups of one quality are compared; on regular hosts there are far fewer once GPUs that are in the same
# place are taken for equal. 16 GPUs without any regularity have C(16, 8) = 12870 groups of 8.
MOST_COMPARED = 500


class _Level(NamedTuple):
    """One threshold: ``near`` has a mask of neighbours per position."""

    limit: Rank
    near: tuple[int, ...]
    domains: tuple[int, ...]


class Ground:
    """Links and NUMA nodes of the positions, and everything that follows from them alone."""

    def __init__(self, matrix: Cells, nodes: tuple[int | None, ...]) -> None:
        self.size = len(matrix)
        self.everything = (1 << self.size) - 1
        self.matrix = matrix
        self.nodes = nodes
        self.ranks = [[links.rank(link) for link in row] for row in matrix]
        limits = sorted({self.ranks[i][j] for i in range(self.size) for j in range(self.size) if i != j})
        self.levels = [self._level(limit) for limit in limits]
        self.node_masks = [
            sum(1 << position for position in range(self.size) if nodes[position] == node)
            for node in sorted(set(nodes), key=lambda node: -1 if node is None else node)
        ]
        self.twins = self._twins()

    def worst(self, mask: int) -> Rank:
        """The rank of the worst link inside a group; better than any link where there is none."""
        places = members(mask)
        return max((self.ranks[i][j] for n, i in enumerate(places) for j in places[n + 1 :]), default=Rank(-1, 0))

    def is_nested(self) -> bool:
        """Whether domains lie inside one another like boxes, as on every host without a partial NVLink mesh."""
        return all(
            level.near[position] | 1 << position == domain
            for level in self.levels
            for domain in level.domains
            for position in members(domain)
        )

    def _level(self, limit: Rank) -> _Level:
        near = tuple(
            sum(1 << j for j in range(self.size) if i != j and self.ranks[i][j] <= limit) for i in range(self.size)
        )
        return _Level(limit, near, tuple(self._domains(near)))

    def _domains(self, near: Sequence[int]) -> list[int]:
        """A partition into as few sets as possible whose members are all near one another."""
        boxes = {near[position] | 1 << position for position in range(self.size)}
        if sum(bin(box).count("1") for box in boxes) == self.size:
            return sorted(boxes)
        cells = [["PIX" if near[i] >> j & 1 else None for j in range(self.size)] for i in range(self.size)]
        found = [sum(1 << position for position in group) for group in links.link_groups(cells, None, self.nodes)]
        alone = self.everything & ~sum(found)
        return sorted([*found, *(1 << position for position in members(alone))])

    def _twins(self) -> list[int]:
        """For every position the mask of those that could stand in for it: same links, node and domains."""
        marks = [
            (self.nodes[i], tuple(level.domains.index(_holder(level.domains, i)) for level in self.levels))
            for i in range(self.size)
        ]
        return [
            sum(1 << j for j in range(self.size) if marks[i] == marks[j] and self._same_links(i, j))
            for i in range(self.size)
        ]

    def _same_links(self, i: int, j: int) -> bool:
        return all(self.ranks[i][k] == self.ranks[j][k] for k in range(self.size) if k not in (i, j))


@lru_cache(maxsize=64)
def ground(matrix: Cells, nodes: tuple[int | None, ...]) -> Ground:
    """The ground of a symmetric matrix; ``nodes`` are NUMA nodes, None where not known."""
    return Ground(matrix, nodes)


def members(mask: int) -> list[int]:
    """The positions in a mask, ascending."""
    return [position for position in range(mask.bit_length()) if mask >> position & 1]


def pick(place: Ground, size: int, count: int = 1) -> list[list[int]]:
    """``count`` disjoint groups of ``size`` positions, the best first. There must be count * size positions.

    Groups are judged by their worst link, then by the NUMA nodes that they span; among equals the one is taken
    that breaks the fewest domains, tighter domains counting more, so that later groups find whole ones.
    """
    free = place.everything
    found: list[int] = []
    for _ in range(count):
        found.append(_best(place, free, size))
        free &= ~found[-1]
    if count > 1 and size > 1 and not place.is_nested():
        found = _better_packing(place, found, size)
    found.sort(key=lambda mask: (place.worst(mask), _spanned(place, mask), members(mask)))
    return [members(mask) for mask in found]


def _better_packing(place: Ground, found: list[int], size: int) -> list[int]:
    """Groups taken one by one can hinder one another in a partial mesh; a packing of all at once may be better."""
    packed = links.device_groups(place.matrix, None, place.nodes).get(size, [])[: len(found)]
    masks = [sum(1 << position for position in group) for group in packed]
    if len(masks) == len(found) and _worsts(place, masks) < _worsts(place, found):
        return masks
    return found


def _worsts(place: Ground, masks: Sequence[int]) -> list[Rank]:
    return sorted((place.worst(mask) for mask in masks), reverse=True)


def _best(place: Ground, free: int, size: int) -> int:
    if size == 1:
        return min((1 << position for position in members(free)), key=lambda mask: _cost(place, free, mask))
    for level in place.levels:
        fitting = islice(_cliques(place, level.near, free, size), MOST_COMPARED)
        best = min(fitting, key=lambda mask: _cost(place, free, mask), default=0)
        if best:
            return best
    raise ValueError(f"{size} positions are asked for and {bin(free).count('1')} are free")


def _cliques(place: Ground, near: Sequence[int], allowed: int, size: int) -> Iterator[int]:
    """Sets of ``size`` neighbours; of sets that differ only in twins the one with the lowest positions."""
    if size == 0:
        yield 0
        return
    left = allowed
    while bin(left).count("1") >= size:
        lowest = left & -left
        position = lowest.bit_length() - 1
        for rest in _cliques(place, near, left & near[position], size - 1):
            yield lowest | rest
        left &= ~place.twins[position]


def _cost(place: Ground, free: int, mask: int) -> tuple[int, list[int], int, int, list[int]]:
    """What speaks against a group: NUMA nodes spanned, domains broken, its links added up, its positions."""
    rest = free & ~mask
    broken = [-_wholeness(level.domains, rest) for level in place.levels]
    added = 0
    places = members(mask)
    for n, i in enumerate(places):
        for j in places[n + 1 :]:
            rank = place.ranks[i][j]
            added += 100 * rank.level + rank.detail
    return _spanned(place, mask), broken, -_wholeness(place.node_masks, rest), added, places


def _wholeness(domains: Sequence[int], rest: int) -> int:
    """More for a rest that lies in few large domains than for one scattered over many."""
    return sum(bin(domain & rest).count("1") ** 2 for domain in domains)


def _spanned(place: Ground, mask: int) -> int:
    return sum(1 for node in place.node_masks if node & mask)


def _holder(domains: Sequence[int], position: int) -> int:
    return next(domain for domain in domains if domain >> position & 1)
