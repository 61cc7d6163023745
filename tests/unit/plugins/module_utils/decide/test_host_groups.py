"""Hosts that run one engine together."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.host_groups import across_hosts, has_rdma
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.refusal import Refused
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.linked_hosts import A100, NVSWITCH_8, PIX_PAIRS_8, linked, matrix_of
from tests.unit.samples import cpu_host

ONE_LOST = {**NVSWITCH_8, "devices": [{**device, "lost": device["index"] == 3} for device in NVSWITCH_8["devices"]]}
LESS_MEMORY = linked(matrix_of(8, ("NV18", [range(8)])), mib=65536)


def found(*arguments: Any, **more: Any) -> list[tuple[str, int, tuple[int, ...]]]:
    return [(part.host, part.node_rank, part.group.devices) for part in across_hosts(*arguments, **more)]


def test_hosts_by_name_with_as_many_gpus_each() -> None:
    hosts = {"gpu02": NVSWITCH_8, "gpu01": NVSWITCH_8, "gpu03": NVSWITCH_8}
    assert found(hosts, 2, 8) == [("gpu01", 0, tuple(range(8))), ("gpu02", 1, tuple(range(8)))]
    assert found(hosts, 3, 4, taken={"gpu02": {0, 1}}) == [
        ("gpu01", 0, (0, 1, 2, 3)),
        ("gpu02", 1, (4, 5, 6, 7)),
        ("gpu03", 2, (0, 1, 2, 3)),
    ]


def test_a_host_that_does_not_fit_is_passed_over_where_others_do() -> None:
    hosts = {"gpu01": ONE_LOST, "gpu02": NVSWITCH_8, "gpu03": cpu_host(), "gpu04": NVSWITCH_8}
    assert [host for host, *_ in found(hosts, 2, 8)] == ["gpu02", "gpu04"]
    assert [host for host, *_ in found(hosts, 2, 4)] == ["gpu01", "gpu02"]


@pytest.mark.parametrize(
    ("hosts", "nodes", "size", "rule", "reason"),
    [
        ({"a": NVSWITCH_8}, 2, 8, "too_few_hosts", "2 hosts are needed and 1 is given"),
        ({"a": NVSWITCH_8, "b": PIX_PAIRS_8}, 2, 8, "unlike_hosts", "1 of 2 do: b has 8 x NVIDIA A100 80GB PCIe"),
        ({"a": NVSWITCH_8, "b": LESS_MEMORY}, 2, 8, "unlike_hosts", "b has 8 x NVIDIA H100 80GB HBM3 with 65536 MiB"),
        ({"a": ONE_LOST, "b": NVSWITCH_8}, 2, 8, "unlike_hosts", "a has 7 x NVIDIA H100 80GB HBM3"),
        ({"a": cpu_host(), "b": NVSWITCH_8}, 2, 8, "unlike_hosts", "a cannot take part (this host has no GPU)"),
        ({"a": cpu_host(), "b": cpu_host()}, 2, 8, "unlike_hosts", "0 of 2 do: a cannot"),
    ],
)
def test_the_odd_host_is_named(hosts: dict[str, Any], nodes: int, size: int, rule: str, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        across_hosts(hosts, nodes, size)
    assert refused.value.rule == rule
    assert reason in refused.value.reason


@given(st.permutations(["a", "b", "c", "d"]), st.integers(1, 4), st.integers(1, 8))
def test_the_order_of_hosts_changes_nothing(order: list[str], nodes: int, size: int) -> None:
    hosts = {"a": NVSWITCH_8, "b": ONE_LOST, "c": PIX_PAIRS_8, "d": linked(matrix_of(8, ("NV12", [range(8)])), **A100)}
    mixed = {name: hosts[name] for name in order}

    def outcome(of: dict[str, Any]) -> Any:
        try:
            return found(of, nodes, size)
        except Refused as refused:
            return refused.reason

    assert outcome(mixed) == outcome(hosts)


def test_rdma_is_there_only_where_every_host_has_it() -> None:
    adapter = {**NVSWITCH_8, "nics": [{"name": "mlx5_0"}]}
    assert has_rdma({"a": adapter, "b": adapter})
    assert not has_rdma({"a": adapter, "b": NVSWITCH_8})
    assert not has_rdma({})
