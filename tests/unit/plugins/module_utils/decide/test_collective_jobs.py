"""Which all-reduces are run, with which expectation."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import collective_check, collective_jobs
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.collective_check import Wishes

from tests.unit.collective_samples import layout
from tests.unit.linked_hosts import NVLINK_PAIRS_4, NVSWITCH_8, PIX_PAIRS_8

ONE = layout([0, 1])
BOTH = layout([0, 1], hosts=("gpu1", "gpu2"))


def seen(due: str | None = "it was not measured yet", **more: Any) -> dict[str, Any]:
    return {
        "release": "0.33.0-cuda",
        "interfaces": {
            "lo": {"address": "127.0.0.1", "speed_mbit": None},
            "eth0": {"address": "192.0.2.1", "speed_mbit": 1000},
            "eth1": {"address": "10.0.0.1", "speed_mbit": 25000},
        },
        "due": {"chat": due},
        "active": {"chat": False},
        **more,
    }


def decide(
    instances: list[dict[str, Any]], seen_: dict[str, Any], facts: dict[str, Any] = NVSWITCH_8, **wishes: Any
) -> dict[str, Any]:
    return collective_jobs.collective_jobs(instances, "gpu1", seen_, facts, Wishes(**wishes))


@pytest.mark.parametrize(
    ("layout_", "facts", "gb_s"),
    [
        # 450 GB/s in one direction, of which collectives reach 80 %
        (layout([0, 1]), NVSWITCH_8, 360.0),
        (layout([0, 2]), NVLINK_PAIRS_4, 240.0),
        # PCIe 4 x16 through a switch, and through the link of two processors
        (layout([0, 1]), PIX_PAIRS_8, 18.0),
        (layout([0, 7]), PIX_PAIRS_8, 11.0),
    ],
)
def test_expectations_follow_the_worst_link(layout_: dict[str, Any], facts: dict[str, Any], gb_s: float) -> None:
    found = collective_check.expectation(layout_, facts, [], Wishes())
    assert found.gb_s == pytest.approx(gb_s, abs=0.5)


@pytest.mark.parametrize(
    ("layout_", "speeds", "gb_s"),
    [
        (BOTH, [25000, 10000], 0.5),
        (BOTH, [25000, None], None),
        ({**ONE, "accelerator": "cpu"}, [], None),
    ],
)
def test_expectations_without_gpus_links(layout_: dict[str, Any], speeds: list[int | None], gb_s: float | None) -> None:
    found = collective_check.expectation(layout_, {**NVSWITCH_8, "nics": []}, speeds, Wishes())
    assert found.gb_s == gb_s
    assert collective_check.expectation(layout_, {}, speeds, Wishes(expected_gb_s=7.0)).gb_s == 7.0


def test_rdma_and_unknown_gpus_have_no_expectation() -> None:
    assert collective_check.expectation(BOTH, {"nics": [{"name": "mlx5_0"}]}, [25000, 25000], Wishes()).gb_s is None
    unknown = {**NVSWITCH_8, "devices": [{**one, "name": "NVIDIA X1"} for one in NVSWITCH_8["devices"]]}
    assert collective_check.expectation(ONE, unknown, [], Wishes()).gb_s is None


def test_one_host_runs_over_exactly_its_gpus() -> None:
    found = decide([ONE], {"gpu1": seen()}, seconds=80)
    assert found["problems"] == []
    (job,) = found["jobs"]
    assert (job["place"], job["expected_gb_s"], job["busy"]) == (0, 360.0, False)
    assert job["job"]["nodes"] == [
        {"host": "gpu1", "address": "127.0.0.1", "interface": None, "devices": [0, 1], "ranks": 2}
    ]
    assert (job["job"]["backend"], job["job"]["narrow_below_gb_s"]) == ("nccl", 270.0)
    assert (job["job"]["seconds"], job["job"]["meeting_seconds"]) == (80, 20)


def test_what_is_known_of_the_host_goes_along() -> None:
    facts = {**NVSWITCH_8, "iommu": {"translates": True, "acs_redirects": None}, "shm_total_mib": 64}
    (job,) = decide([{**ONE, "model": "a/b", "revision": "c0ffee"}], {"gpu1": seen()}, facts)["jobs"]
    assert job["surroundings"] == {"iommu_translates": True, "acs_redirects": None, "shm_mib": 64}
    assert (job["job"]["model"], job["job"]["revision"]) == ("a/b", "c0ffee")


def test_two_hosts_know_one_anothers_addresses() -> None:
    there = seen()
    there["interfaces"]["eth1"]["address"] = "10.0.0.2"
    found = decide([BOTH], {"gpu1": seen(), "gpu2": there})
    (job,) = found["jobs"]
    assert [(node["address"], node["interface"]) for node in job["job"]["nodes"]] == [
        ("10.0.0.1", "eth1"),
        ("10.0.0.2", "eth1"),
    ]
    assert job["job"]["environment"] == {"NCCL_SOCKET_IFNAME": "eth1"}


@pytest.mark.parametrize(
    ("when", "here", "there", "jobs"),
    [
        ("new", None, None, 0),
        ("new", "it failed the last time", None, 1),
        ("new", None, "it was not measured yet", 1),
        ("always", None, None, 1),
        ("never", "it was not measured yet", None, 0),
    ],
)
def test_both_hosts_come_to_the_same_answer(when: str, here: str | None, there: str | None, jobs: int) -> None:
    observed = {"gpu1": seen(here), "gpu2": seen(there)}
    for host in observed:
        found = collective_jobs.collective_jobs([BOTH], host, observed, NVSWITCH_8, Wishes(when=when))
        assert (len(found["jobs"]), found["problems"]) == (jobs, [])


def test_one_rank_has_nothing_to_measure() -> None:
    assert decide([layout([3])], {"gpu1": seen()}) == {"jobs": [], "problems": []}
    assert collective_jobs.keys([layout([3]), ONE | {"name": "two"}], NVSWITCH_8).keys() == {"two"}


@pytest.mark.parametrize(
    ("layout_", "observed", "words"),
    [
        (BOTH, {"gpu1": seen()}, "chat: gpu2 belongs to this engine and is not part of this run"),
        (
            BOTH,
            {"gpu1": seen(), "gpu2": seen(release="0.32.0-cuda")},
            "do not run the same release of vLLM: 0.32.0-cuda on gpu2, 0.33.0-cuda on gpu1; deploy the same",
        ),
        ({**BOTH, "environment": {}}, {"gpu1": seen(), "gpu2": seen()}, "write network_interface"),
        (
            BOTH,
            {"gpu1": seen(), "gpu2": seen(interfaces={"eth1": {"address": None}})},
            "chat: the interface eth1 has no IPv4 address on gpu2; write one of these in network_interface: none",
        ),
        (
            {**BOTH, "environment": {"GLOO_SOCKET_IFNAME": "ib0"}},
            {"gpu1": seen(), "gpu2": seen()},
            "the interface ib0 is not on gpu1; write one of these in network_interface: lo (127.0.0.1), eth0",
        ),
    ],
)
def test_problems(layout_: dict[str, Any], observed: dict[str, Any], words: str) -> None:
    found = decide([layout_], observed)
    assert found["jobs"] == []
    assert words in found["problems"][0]


def test_a_release_that_is_still_to_be_installed_is_no_problem() -> None:
    assert decide([BOTH], {"gpu1": seen(), "gpu2": seen(release="current")})["problems"] == []


def test_the_key_changes_with_what_was_measured() -> None:
    keys = {
        collective_check.key(layout_, facts)
        for layout_, facts in (
            (ONE, NVSWITCH_8),
            (layout([0, 2]), NVSWITCH_8),
            (ONE, {**NVSWITCH_8, "driver_version": "1.2.3"}),
            (BOTH, NVSWITCH_8),
            ({**BOTH, "environment": {"NCCL_SOCKET_IFNAME": "eth0"}}, NVSWITCH_8),
        )
    }
    assert len(keys) == 5
    assert collective_check.key(ONE, NVSWITCH_8) == collective_check.key({**ONE, "port": 1}, NVSWITCH_8)
