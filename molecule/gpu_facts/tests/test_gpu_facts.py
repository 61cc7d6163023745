"""What gpu_info said of each node, and how long it took."""

from __future__ import annotations

import json
from typing import Any

import pytest
from testinfra.host import Host

# Name of the node: state, interconnect, link_groups, p2p, mixed_gpus, GPU indexes.
EXPECTED: dict[str, tuple[Any, ...]] = {
    "h100-nvswitch": ("ready", "nvswitch", [[0, 1, 2, 3, 4, 5, 6, 7]], "all", False, list(range(8))),
    "a100-pairs": ("ready", "nvlink_pairs", [[0, 1], [2, 3]], "partial", False, [0, 1, 2, 3]),
    "rtx4090-pcie": ("ready", "pcie_host", [[0, 1]], "none", False, [0, 1]),
    "mixed": ("ready", "nvlink_pairs", [[0, 2]], "partial", True, [0, 1, 2, 3]),
    "lost-gpu": ("gpu_lost", None, None, None, False, [0, 1, 3]),
    "hanging": ("tool_timeout", None, None, None, None, []),
}
OWN_SECONDS = 1.0


@pytest.fixture
def kept(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.file("/root/gpu_facts.json").content_string)
    return found


@pytest.fixture
def expected(host: Host) -> tuple[Any, ...]:
    return EXPECTED[host.check_output("hostname")]


def test_facts_are_right(kept: dict[str, Any], expected: tuple[Any, ...]) -> None:
    facts = kept["facts"]
    indexes = [device["index"] for device in facts["devices"]]
    found = (
        facts["state"],
        facts["interconnect"],
        facts["link_groups"],
        facts["p2p"],
        facts["mixed_gpus"],
        indexes,
    )
    assert found == expected
    assert facts["accelerator"] == "cuda"


def test_the_host_itself_is_described(host: Host, kept: dict[str, Any]) -> None:
    facts = kept["facts"]
    total_kib = int(host.check_output("awk '/^MemTotal:/ {print $2}' /proc/meminfo"))
    assert facts["memory_total_mib"] == total_kib // 1024
    assert facts["cpu"]["threads"] == int(host.check_output("nproc --all"))
    assert facts["numa_nodes"]


def test_nothing_was_changed(kept: dict[str, Any]) -> None:
    assert kept["changed"] is False


def test_it_takes_hardly_longer_than_the_tools(kept: dict[str, Any]) -> None:
    slowest = max(tool["seconds"] for tool in kept["facts"]["tools"].values())
    assert kept["seconds"] < slowest + OWN_SECONDS


def test_a_broken_host_is_told_what_to_do(kept: dict[str, Any]) -> None:
    if kept["facts"]["state"] == "ready":
        assert kept["required_says"] == ""
    else:
        assert kept["facts"]["message"] in kept["required_says"]
        assert "dmesg" in kept["required_says"] or "kernel log" in kept["required_says"]


def test_no_tool_was_left_behind(host: Host) -> None:
    assert host.run("pgrep -f 'bin/[n]vidia-smi'").rc == 1
