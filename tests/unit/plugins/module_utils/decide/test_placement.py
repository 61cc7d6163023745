"""Groups of GPUs and stages of pipelines, by the links between them."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import packing
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.placement import (
    Group,
    describe,
    groups,
    link_class,
    pools,
    staged_groups,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.refusal import Refused
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe import links, sources
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.facts import build_facts
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.sources import ToolOutput
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.linked_hosts import (
    A100,
    CUBE_MESH_8,
    ISLAND_AND_PAIR,
    NVLINK_PAIRS_4,
    NVSWITCH_8,
    PIX_PAIRS_8,
    RTX_4090,
    linked,
    matrix_of,
    pairs_of,
    shuffled,
)
from tests.unit.samples import shared, shared_json

UNKNOWN_4 = linked(None, [0, 1, 0, 1])
PCIE_4 = linked(matrix_of(4, ("NODE", [range(4)])), **RTX_4090)
LONE_GPU = linked(matrix_of(5, ("NODE", [range(5)]), ("NV4", pairs_of(0, 1, 3, 4))), **A100)
BOX_AND_SYS = linked(matrix_of(6, ("SYS", [range(6)]), ("PIX", [[0, 1, 2], [3, 4]])), [0, 0, 0, 1, 1, 1], **A100)
DGX2 = linked(matrix_of(16, ("NV6", [range(16)])), [0] * 8 + [1] * 8, name="Tesla V100-SXM3-32GB-H")
XGMI_8 = {**linked(matrix_of(8, ("XGMI", [range(8)]))), "accelerator": "rocm"}
PIX_PAIRS_16 = linked(
    matrix_of(16, ("SYS", [range(16)]), ("NODE", [range(8), range(8, 16)]), ("PIX", pairs_of(*range(16)))),
    [0] * 8 + [1] * 8,
    **A100,
)


def devices_of(facts: dict[str, Any], size: int, count: int = 1, taken: tuple[int, ...] = ()) -> list[tuple[int, ...]]:
    return [group.devices for group in groups(facts, pools(facts, taken)[0], size, count)]


@pytest.mark.parametrize(
    ("facts", "size", "count", "taken", "expected"),
    [
        # a node's half, and the half of a later instance
        (NVSWITCH_8, 4, 1, (), [(0, 1, 2, 3)]),
        (NVSWITCH_8, 4, 2, (), [(0, 1, 2, 3), (4, 5, 6, 7)]),
        (NVSWITCH_8, 4, 1, (0,), [(4, 5, 6, 7)]),
        (NVSWITCH_8, 2, 1, (0, 1), [(2, 3)]),
        (NVSWITCH_8, 8, 1, (), [tuple(range(8))]),
        # bridges join 0 with 2 and 1 with 3
        (NVLINK_PAIRS_4, 2, 2, (), [(0, 2), (1, 3)]),
        (NVLINK_PAIRS_4, 2, 1, (0,), [(1, 3)]),
        (NVLINK_PAIRS_4, 1, 1, (1,), [(3,)]),
        # whole switches first, then within a node
        (PIX_PAIRS_8, 2, 4, (), [(0, 1), (2, 3), (4, 5), (6, 7)]),
        (PIX_PAIRS_8, 4, 2, (), [(0, 1, 2, 3), (4, 5, 6, 7)]),
        (PIX_PAIRS_8, 2, 1, (6, 7), [(4, 5)]),
        (PIX_PAIRS_8, 1, 1, (2,), [(3,)]),
        (PIX_PAIRS_8, 3, 1, (2,), [(0, 1, 3)]),
        # crosses nodes in any case, so a whole switch is left
        (PIX_PAIRS_8, 4, 1, (0, 7), [(1, 2, 3, 6)]),
        # the island of four stays whole while there is a pair, and a GPU without NVLink is taken alone
        (ISLAND_AND_PAIR, 2, 1, (), [(4, 5)]),
        (ISLAND_AND_PAIR, 2, 3, (), [(0, 1), (2, 3), (4, 5)]),
        (ISLAND_AND_PAIR, 4, 1, (), [(0, 1, 2, 3)]),
        (ISLAND_AND_PAIR, 1, 1, (), [(4,)]),
        (LONE_GPU, 1, 1, (), [(2,)]),
        (LONE_GPU, 2, 2, (), [(0, 1), (3, 4)]),
        (BOX_AND_SYS, 2, 1, (), [(3, 4)]),
        (BOX_AND_SYS, 1, 1, (), [(5,)]),
        # a partial mesh: quads, and pairs with two NVLinks that break no quad
        (CUBE_MESH_8, 4, 2, (), [(0, 1, 2, 3), (4, 5, 6, 7)]),
        (CUBE_MESH_8, 2, 1, (), [(0, 3)]),
        (CUBE_MESH_8, 2, 4, (), [(0, 3), (1, 2), (4, 7), (5, 6)]),
        (CUBE_MESH_8, 4, 1, (2,), [(4, 5, 6, 7)]),
        (DGX2, 8, 2, (), [tuple(range(8)), tuple(range(8, 16))]),
        (DGX2, 4, 1, (0, 1, 2, 3), [(4, 5, 6, 7)]),
        (PIX_PAIRS_16, 4, 1, (0, 1), [(2, 3, 4, 5)]),
        (UNKNOWN_4, 2, 1, (), [(0, 2)]),
    ],
)
def test_the_best_group_that_leaves_the_best_rest(
    facts: dict[str, Any], size: int, count: int, taken: tuple[int, ...], expected: list[tuple[int, ...]]
) -> None:
    assert devices_of(facts, size, count, taken) == expected


P2P_OFF = {**PCIE_4, "p2p_matrix": [["X" if i == j else "CNS" for j in range(4)] for i in range(4)]}
P2P_ON = {**PCIE_4, "p2p_matrix": [["X" if i == j else "OK" for j in range(4)] for i in range(4)]}


@pytest.mark.parametrize(
    ("facts", "devices", "expected", "custom_all_reduce"),
    [
        (NVSWITCH_8, (0, 1, 2, 3), Group((0, 1, 2, 3), "NV18", "nvlink", 18, (0,), True), True),
        (NVSWITCH_8, (3, 4), Group((3, 4), "NV18", "nvlink", 18, (0, 1), True), True),
        (NVSWITCH_8, (0, 1, 2), Group((0, 1, 2), "NV18", "nvlink", 18, (0,), True), False),
        (NVSWITCH_8, (5,), Group((5,), None, "none", 0, (1,), True), False),
        (CUBE_MESH_8, (0, 1, 2, 3), Group((0, 1, 2, 3), "NV1", "nvlink", 4, (0,), True), True),
        (DGX2, (0, 1, 2, 3), Group((0, 1, 2, 3), "NV6", "nvlink", 6, (0,), True), True),
        (PIX_PAIRS_8, (0, 1), Group((0, 1), "PIX", "pcie_switch", 0, (0,), False), True),
        (PIX_PAIRS_8, (0, 1, 2, 3), Group((0, 1, 2, 3), "NODE", "pcie_host", 0, (0,), False), False),
        (P2P_OFF, (0, 1), Group((0, 1), "NODE", "pcie_host", 0, (0,), False, p2p=False), False),
        (P2P_ON, (0, 1), Group((0, 1), "NODE", "pcie_host", 0, (0,), False, p2p=True), True),
        (XGMI_8, tuple(range(8)), Group(tuple(range(8)), "XGMI", "xgmi", 0, (0,), True), True),
    ],
)
def test_what_a_group_says(
    facts: dict[str, Any], devices: tuple[int, ...], expected: Group, custom_all_reduce: bool
) -> None:
    found = describe(facts, devices)
    assert found == expected
    assert found.custom_all_reduce is custom_all_reduce
    assert found.crosses_numa is (len(expected.numa_nodes) > 1)


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        ("NV4", "nvlink"),
        ("XGMI", "xgmi"),
        ("PIX", "pcie_switch"),
        ("PXB", "pcie_switch"),
        ("PHB", "pcie_host"),
        ("NODE", "pcie_host"),
        ("SYS", "pcie_cross_numa"),
        ("PCIE", "pcie"),
        (None, "pcie"),
    ],
)
def test_link_class(link: str | None, expected: str) -> None:
    assert link_class(link) == expected


def test_unknown_links_are_taken_for_pcie_and_said() -> None:
    found = groups(UNKNOWN_4, pools(UNKNOWN_4)[0], 2)[0]
    assert (found.worst_link, found.link_class, found.fully_connected, found.p2p) == (None, "pcie", False, None)
    assert found.warnings == ("How GPUs 0, 2 are linked is not known: PCIe was assumed.",)


def test_crossing_numa_nodes_is_said_where_the_processors_carry_the_traffic() -> None:
    found = groups(PIX_PAIRS_8, pools(PIX_PAIRS_8)[0], 8)[0]
    assert (found.link_class, found.crosses_numa) == ("pcie_cross_numa", True)
    assert "NUMA nodes 0, 1" in found.warnings[0]
    assert groups(NVSWITCH_8, pools(NVSWITCH_8)[0], 8)[0].warnings == ()


def test_pairs_that_an_nvswitch_must_join_are_filled_in() -> None:
    matrix = matrix_of(8, ("NV18", [range(8)]))
    matrix[5][6] = matrix[6][5] = None
    facts = linked(matrix)
    found = groups(facts, pools(facts, {0, 1, 2, 3, 4, 7})[0], 2)[0]
    assert (found.devices, found.worst_link) == ((5, 6), "NV18")


@pytest.mark.parametrize(
    ("facts", "tensor_parallel_size", "stages", "expected", "between"),
    [
        (NVLINK_PAIRS_4, 2, 2, [(0, 2), (1, 3)], "pcie_cross_numa"),
        (PIX_PAIRS_8, 2, 4, [(0, 1), (2, 3), (4, 5), (6, 7)], "pcie_cross_numa"),
        (PIX_PAIRS_8, 2, 2, [(0, 1), (2, 3)], "pcie_host"),
        (PIX_PAIRS_8, 4, 1, [(0, 1, 2, 3)], "none"),
        (PCIE_4, 1, 3, [(0,), (1,), (2,)], "pcie_host"),
        (UNKNOWN_4, 2, 2, [(0, 2), (1, 3)], "pcie"),
        # from 0-1 over the switch that 2 shares with 1 to the far ones
        (
            linked(matrix_of(6, ("SYS", [range(6)]), ("NODE", [[0, 1, 4, 5]]), ("PIX", pairs_of(*range(6)))), **A100),
            2,
            3,
            [(0, 1), (4, 5), (2, 3)],
            "pcie_cross_numa",
        ),
    ],
)
def test_stages_lie_in_link_domains_and_follow_near_ones(
    facts: dict[str, Any], tensor_parallel_size: int, stages: int, expected: list[tuple[int, ...]], between: str
) -> None:
    found = staged_groups(facts, pools(facts)[0], tensor_parallel_size, stages)
    assert [stage.devices for stage in found.stages] == expected
    assert found.devices == tuple(device for stage in expected for device in stage)
    assert found.stage_link_class == between


def test_a_warning_of_several_stages_is_said_once_each() -> None:
    found = staged_groups(UNKNOWN_4, pools(UNKNOWN_4)[0], 2, 2)
    assert len(found.warnings) == len(set(found.warnings)) == 2


@pytest.mark.parametrize(("size", "count", "needed"), [(9, 1, 9), (4, 3, 12), (3, 3, 9)])
def test_too_few_gpus_are_a_sentence(size: int, count: int, needed: int) -> None:
    facts = {**NVSWITCH_8, "devices": [{**device, "lost": device["index"] == 7} for device in NVSWITCH_8["devices"]]}
    with pytest.raises(Refused) as refused:
        groups(facts, pools(facts)[0], size, count)
    assert refused.value.rule == "too_few_gpus"
    assert f"{needed} GPUs are needed and 7 GPUs of one kind" in refused.value.reason
    assert "GPU 7: does not answer its driver (lost)" in refused.value.reason
    with pytest.raises(Refused):
        staged_groups(facts, pools(facts)[0], size, count)


LINKS = ["NV18", "NV12", "NV4", "NV2", "NV1", "PIX", "PXB", "PHB", "NODE", "SYS", None]


def boxes(draw: Any, places: list[int], matrix: list[list[str | None]], left: list[str | None]) -> None:
    """Fill a matrix as real hosts are built: boxes with ever better links inside one another."""
    link, better = left[-1], left[:-1]
    for i in places:
        for j in places:
            if i != j:
                matrix[i][j] = link
    if len(places) < 2 or not better:
        return
    cut = draw(st.integers(0, len(places) - 1))
    for part in (places[:cut], places[cut:]):
        if len(part) < len(places):
            boxes(draw, part, matrix, better)


@st.composite
def nested_hosts(draw: Any) -> dict[str, Any]:
    size = draw(st.integers(2, 8))
    matrix = matrix_of(size)
    boxes(draw, draw(st.permutations(range(size))), matrix, ["NV12", "PIX", "NODE", "SYS"])
    return linked(matrix, draw(st.lists(st.sampled_from([0, 1, None]), min_size=size, max_size=size)))


@st.composite
def any_hosts(draw: Any) -> dict[str, Any]:
    size = draw(st.integers(1, 8))
    matrix = matrix_of(size)
    for i in range(size):
        for j in range(i + 1, size):
            matrix[i][j] = matrix[j][i] = draw(st.sampled_from(LINKS))
    return linked(
        draw(st.sampled_from([matrix, matrix, None])),
        draw(st.lists(st.sampled_from([0, 1, None]), min_size=size, max_size=size)),
    )


@given(st.one_of(nested_hosts(), any_hosts()), st.data())
def test_groups_are_disjoint_and_independent_of_the_order_of_devices(facts: dict[str, Any], data: Any) -> None:
    pool = pools(facts)[0]
    size = data.draw(st.integers(1, len(pool.devices)))
    count = data.draw(st.integers(1, len(pool.devices) // size))
    found = groups(facts, pool, size, count)
    used = [device for group in found for device in group.devices]
    assert len(used) == len(set(used)) == size * count
    assert set(used) <= set(pool.devices)
    assert all(group == describe(facts, group.devices) for group in found)
    mixed = shuffled(facts, data.draw(st.permutations(range(len(pool.devices)))))
    assert groups(mixed, pools(mixed)[0], size, count) == found
    staged = staged_groups(facts, pool, size, count)
    assert sorted(staged.devices) == sorted(used)
    assert staged_groups(mixed, pools(mixed)[0], size, count) == staged


@given(st.one_of(nested_hosts(), any_hosts()), st.data())
def test_no_group_has_a_worse_link_than_it_must(facts: dict[str, Any], data: Any) -> None:
    """Against the packing of links.device_groups, which looks at all groups of a size at once."""
    pool = pools(facts)[0]
    size = data.draw(st.integers(2, max(2, len(pool.devices))))
    count = len(pool.devices) // size
    if facts["link_matrix"] is None or not count:
        return
    found = groups(facts, pool, size, count)
    ranks = sorted((links.rank(group.worst_link) for group in found), reverse=True)
    filled = links.through_switch(facts["link_matrix"], 18)
    nodes = [device["numa_node"] for device in facts["devices"]]
    packed = links.device_groups(filled, None, nodes)[size][:count]
    best = sorted((links.rank(links.worst_link(filled, group)) for group in packed), reverse=True)
    assert ranks <= best


@given(nested_hosts(), st.data())
def test_one_instance_after_another_does_as_well_as_all_at_once(facts: dict[str, Any], data: Any) -> None:
    """Where domains lie inside one another, a group never spoils what the next one of its size could have had."""
    size = data.draw(st.integers(1, 4))
    count = len(facts["devices"]) // size
    if not count:
        return
    together = sorted(links.rank(group.worst_link) for group in groups(facts, pools(facts)[0], size, count))
    taken: set[int] = set()
    ranks = []
    for _ in range(count):
        group = groups(facts, pools(facts, taken)[0], size)[0]
        taken.update(group.devices)
        ranks.append(links.rank(group.worst_link))
    assert sorted(ranks) == together


def test_groups_of_recorded_hosts_are_as_good_as_their_links_allow() -> None:
    checked = 0
    for entry in shared_json("corpus/index.json")["files"]:
        if entry["kind"] != "topo":
            continue
        text = shared(f"corpus/{entry['file']}").read_text(encoding="utf-8", errors="replace")
        facts = build_facts({sources.NVIDIA_TOPOLOGY: ToolOutput(sources.OK, text)}, "recorded")
        pool = pools(facts)[0]
        for packed in facts["device_groups"] or ():
            found = groups(facts, pool, packed["size"], len(packed["groups"]))
            ranks = sorted((links.rank(group.worst_link) for group in found), reverse=True)
            best = sorted((links.rank(group["worst_link"]) for group in packed["groups"]), reverse=True)
            assert ranks <= best, (entry["file"], packed["size"])
            checked += 1
    assert checked > 100


def random_host(size: int) -> dict[str, Any]:
    chance = random.Random(7)
    matrix = matrix_of(size)
    for i in range(size):
        for j in range(i + 1, size):
            matrix[i][j] = matrix[j][i] = chance.choice(LINKS)
    return linked(matrix, [chance.choice([0, 1]) for _ in range(size)])


@pytest.mark.parametrize(
    ("facts", "limit_ms"),
    [(NVSWITCH_8, 2), (PIX_PAIRS_8, 2), (CUBE_MESH_8, 2), (DGX2, 5), (PIX_PAIRS_16, 15), (random_host(16), 30)],
    ids=["nvswitch-8", "pix-pairs-8", "cube-mesh-8", "dgx-2", "pix-pairs-16", "random-16"],
)
def test_it_is_fast(facts: dict[str, Any], limit_ms: float) -> None:
    """The mean over all sizes of a fresh host, in the best of five rounds; limits leave room for a slow machine."""
    pool = pools(facts)[0]
    size = len(pool.devices)
    rounds = []
    for _ in range(5):
        packing.ground.cache_clear()
        start = time.perf_counter()
        for wanted in range(1, size + 1):
            groups(facts, pool, wanted)
        rounds.append((time.perf_counter() - start) * 1000 / size)
    print(f"{min(rounds):.2f} ms")
    assert min(rounds) < limit_ms
