"""Class and groups of links."""

from __future__ import annotations

import random

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.links import (
    classify,
    device_groups,
    link_groups,
    rank,
    through_switch,
    worse,
    worst_link,
)
from hypothesis import given, settings
from hypothesis import strategies as st

LINKS = ("NV2", "NV12", "PIX", "PXB", "PHB", "NODE", "SYS")


def full(size: int, link: str) -> list[list[str | None]]:
    return [["X" if i == j else link for j in range(size)] for i in range(size)]


def joined(size: int, default: str, **links: str) -> list[list[str | None]]:
    """A matrix with some links set by name: joined(4, "SYS", _01="NV4")."""
    matrix = full(size, default)
    for key, link in links.items():
        i, j = int(key[1]), int(key[2])
        matrix[i][j] = matrix[j][i] = link
    return matrix


CUBE_MESH = joined(
    8, "SYS",
    _01="NV1", _02="NV1", _03="NV2", _12="NV2", _13="NV1", _23="NV2", _45="NV1", _46="NV1", _47="NV2",
    _56="NV2", _57="NV1", _67="NV2", _04="NV2", _15="NV2", _26="NV1", _37="NV1",
)  # fmt: skip


def test_order_of_links() -> None:
    ordered = ["NV18", "NV12", "NV1", "PIX", "PXB", "PHB", "NODE", "SYS", "PCIE", None]
    assert sorted(ordered, key=rank) == ordered
    assert rank("SOC") == rank("SYS")


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [("PIX", "SYS", "SYS"), ("NV12", "NV4", "NV4"), (None, "PIX", "PIX"), (None, None, None)],
)
def test_worse(first: str | None, second: str | None, expected: str | None) -> None:
    assert worse(first, second) == worse(second, first) == expected


@pytest.mark.parametrize(
    ("matrix", "links_per_gpu", "switch_seen", "expected"),
    [
        ([], None, False, "none"),
        ([["X"]], None, False, "none"),
        (full(8, "NV18"), 18, False, "nvswitch"),
        (full(8, "NV12"), None, False, "nvswitch"),
        (full(2, "NV18"), 18, False, "nvlink_full"),
        (full(2, "NV18"), 18, True, "nvswitch"),
        (full(4, "NV6"), 18, False, "nvlink_full"),
        (full(4, "NV4"), 12, False, "nvlink_full"),
        (joined(4, "NV1", _01="NV2"), None, True, "nvlink_full"),
        (joined(4, "SYS", _01="NV4", _23="NV4"), None, True, "nvlink_pairs"),
        (joined(3, "NODE", _01="NV4"), None, False, "nvlink_pairs"),
        (joined(4, "NODE", _01="NV2", _02="NV1", _13="NV2"), None, False, "nvlink_partial"),
        (CUBE_MESH, 6, False, "nvlink_partial"),
        (joined(4, "SYS", _01="PIX"), None, False, "pcie_switch"),
        (full(4, "PXB"), None, False, "pcie_switch"),
        (joined(4, "SYS", _01="PHB"), None, False, "pcie_host"),
        (full(3, "NODE"), None, False, "pcie_host"),
        (full(3, "SYS"), None, False, "pcie_cross_numa"),
        (full(2, "SOC"), None, False, "pcie_cross_numa"),
        (full(8, "XGMI"), None, False, "xgmi"),
        (full(2, "PCIE"), None, False, None),
        ([["X", None], [None, "X"]], None, False, None),
    ],
)
def test_class_of_a_host(
    matrix: list[list[str | None]], links_per_gpu: int | None, switch_seen: bool, expected: str | None
) -> None:
    assert classify(matrix, links_per_gpu, switch_seen) == expected


def test_unknown_pairs_behind_a_switch_are_known() -> None:
    matrix = full(8, "NV18")
    matrix[5][6] = matrix[6][5] = None
    assert classify(matrix, 18) == "nvswitch"
    assert link_groups(through_switch(matrix, 18)) == [[0, 1, 2, 3, 4, 5, 6, 7]]
    small = full(3, "NV4")
    small[1][2] = small[2][1] = None
    assert through_switch(small, 12) == small
    assert classify(small, 12) is None


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (full(8, "NV18"), [[0, 1, 2, 3, 4, 5, 6, 7]]),
        (CUBE_MESH, [[0, 1, 2, 3], [4, 5, 6, 7]]),
        (joined(4, "SYS", _03="NV4", _12="NV4"), [[0, 3], [1, 2]]),
        (joined(3, "NODE", _01="NV4"), [[0, 1]]),
        (joined(4, "PXB", _01="PIX", _23="PIX"), [[0, 1], [2, 3]]),
        (joined(4, "NODE", _01="NV2", _02="NV1", _13="NV2", _23="NV2"), [[0, 1], [2, 3]]),
        (joined(4, "SYS", _02="PIX", _01="PIX", _13="PIX"), [[0, 2], [1, 3]]),
        (full(2, "PCIE"), []),
        ([["X"]], []),
    ],
)
def test_link_groups(matrix: list[list[str | None]], expected: list[list[int]]) -> None:
    assert link_groups(matrix) == expected


def test_kinds_are_never_mixed() -> None:
    kinds = ["A", "B", "A", "B"]
    assert link_groups(full(4, "PIX"), kinds) == [[0, 2], [1, 3]]
    assert device_groups(full(4, "PIX"), kinds) == {1: [[0], [1], [2], [3]], 2: [[0, 2], [1, 3]]}


def test_groups_of_a_size_stay_close() -> None:
    matrix = joined(8, "SYS")
    for half in (range(4), range(4, 8)):
        for i in half:
            for j in half:
                if i != j:
                    matrix[i][j] = "PIX" if i // 2 == j // 2 else "NODE"
    groups = device_groups(matrix)
    assert groups[2] == [[0, 1], [2, 3], [4, 5], [6, 7]]
    assert groups[4] == [[0, 1, 2, 3], [4, 5, 6, 7]]
    assert groups[3][:2] == [[0, 1, 2], [4, 5, 6]]
    assert worst_link(matrix, groups[4][0]) == "NODE"


def test_numa_breaks_ties() -> None:
    assert device_groups(full(4, "SYS"), nodes=[0, 1, 0, 1])[2] == [[0, 2], [1, 3]]


@st.composite
def hosts(draw: st.DrawFn) -> tuple[list[list[str | None]], list[str], list[int]]:
    size = draw(st.integers(2, 8))
    matrix = full(size, "SYS")
    for i in range(size):
        for j in range(i + 1, size):
            matrix[i][j] = matrix[j][i] = draw(st.sampled_from(LINKS))
    kinds = draw(st.lists(st.sampled_from("AB"), min_size=size, max_size=size))
    nodes = draw(st.lists(st.integers(0, 1), min_size=size, max_size=size))
    return matrix, kinds, nodes


def best_level(matrix: list[list[str | None]], kinds: list[str]) -> int:
    """The best class of link between two GPUs of one kind."""
    size = len(kinds)
    same = [(i, j) for i in range(size) for j in range(i) if kinds[i] == kinds[j]]
    return min((rank(matrix[i][j]).level for i, j in same), default=9)


@given(host=hosts())
@settings(max_examples=80, deadline=None)
def test_groups_are_disjoint_of_one_kind_and_cover_what_they_can(
    host: tuple[list[list[str | None]], list[str], list[int]],
) -> None:
    matrix, kinds, nodes = host
    for size, groups in device_groups(matrix, kinds, nodes).items():
        members = [position for group in groups for position in group]
        assert len(members) == len(set(members))
        assert all(len(group) == size and len({kinds[position] for position in group}) == 1 for group in groups)
        for kind in set(kinds):
            assert sum(kinds[group[0]] == kind for group in groups) == kinds.count(kind) // size
    best = best_level(matrix, kinds)
    for group in link_groups(matrix, kinds, nodes):
        assert len({kinds[position] for position in group}) == 1
        assert all(rank(matrix[i][j]).level == best for i in group for j in group if i != j)


@given(host=hosts())
@settings(max_examples=50, deadline=None)
def test_a_pair_of_the_best_class_is_left_out_only_where_it_must_be(
    host: tuple[list[list[str | None]], list[str], list[int]],
) -> None:
    matrix, kinds, nodes = host
    grouped = {position for group in link_groups(matrix, kinds, nodes) for position in group}
    left = [position for position in range(len(kinds)) if position not in grouped]
    best = best_level(matrix, kinds)
    for i in left:
        for j in left:
            assert i == j or kinds[i] != kinds[j] or rank(matrix[i][j]).level != best


def test_large_incomplete_parts_end_in_time() -> None:
    dice = random.Random(7)
    matrix = full(16, "SYS")
    for i in range(16):
        for j in range(i):
            matrix[i][j] = matrix[j][i] = dice.choice(["PIX", "SYS"])
    for size, groups in device_groups(matrix).items():
        assert len(groups) == 16 // size
