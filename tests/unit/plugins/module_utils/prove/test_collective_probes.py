"""How a failed all-reduce is narrowed down: runs played back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import collective_probes, collective_report
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.collective_probes import Probe, Search

from tests.unit.collective_samples import FOUR, TWO_HOSTS, begun, event, finished, outcome, size

MIB = 1024**2
GONE = event("reached", -1, to="gpu2", address="10.0.0.2", port=29401, problem="timed out")
ENDED_LATE = event("ended", -1, 60.0, code=1, codes=[-9] * 4, late=True)
Works = Callable[[Probe], bool]


def hung(job: dict[str, Any], **more: Any) -> collective_report.Outcome:
    ranks = job["nodes"][0]["ranks"]
    stuck = [event("size_begin", rank, 6.0, bytes=64 * 1024) for rank in range(ranks)]
    return outcome(job, [*begun(ranks), *stuck, ENDED_LATE], result="exit-code", **more)


def good(job: dict[str, Any], gb_s: float = 21.0) -> collective_report.Outcome:
    ranks = job["nodes"][0]["ranks"]
    return outcome(job, [*begun(ranks), size(32 * MIB, gb_s), *finished(ranks)])


def searched(first: collective_report.Outcome, works: Works) -> Search:
    search = Search(first, collective_report.findings(first))
    while probe := search.next():
        job = dict(probe.job)
        search.done.append(collective_probes.tried(probe, good(job) if works(probe) else hung(job)))
        assert len(search.done) < 12
    return search


def transport(probe: Probe) -> tuple[str | None, str | None]:
    environment = probe.job["environment"]
    return environment.get("NCCL_P2P_DISABLE"), environment.get("NCCL_SHM_DISABLE")


@pytest.mark.parametrize(
    ("works", "kinds", "words", "first_remedy"),
    [
        (
            lambda probe: transport(probe) == ("1", None) or probe.pair in ((1, 2), (3, 0)),
            ["p2p_off", *["pair"] * 4],
            "(P2P) is what is broken: it fails between GPU 0 and GPU 1, GPU 2 and GPU 3",
            "turn off ACS",
        ),
        (
            lambda probe: transport(probe) == ("1", None) or probe.pair in ((0, 1), (3, 0)),
            ["p2p_off", *["pair"] * 4],
            "(P2P) is what is broken: GPU 2 is in all that fails",
            "turn off ACS",
        ),
        (
            lambda probe: transport(probe) == ("1", "1"),
            ["p2p_off", "sockets"],
            "shared memory is what is broken",
            "make /dev/shm larger",
        ),
        (
            lambda probe: probe.pair is not None and 3 not in probe.pair,
            ["p2p_off", "sockets", *["pair"] * 4],
            "whatever the transport; GPU 3 is in all that fails",
            "turn off ACS",
        ),
        (
            lambda probe: probe.pair is not None,
            ["p2p_off", "sockets", *["pair"] * 4],
            "every two neighbours work alone, all together do not",
            "turn off ACS",
        ),
        (lambda _probe: False, ["p2p_off", "sockets", *["pair"] * 4], "no two neighbours work", "turn off ACS"),
    ],
)
def test_on_the_gpus_of_a_host(works: Works, kinds: list[str], words: str, first_remedy: str) -> None:
    search = searched(hung(FOUR), works)
    assert [one.probe.kind for one in search.done] == kinds
    (found,) = search.concluded()
    assert found["id"] == "collective_hangs"
    assert words in found["cause"]
    assert found["remedies"][0].startswith(first_remedy)
    assert len(found["evidence"]) >= len(kinds)


def test_what_was_tried_is_evidence() -> None:
    (found,) = searched(hung(FOUR), lambda probe: transport(probe) == ("1", None)).concluded()
    assert "with P2P off it works, with 21 GB/s." in found["evidence"]
    assert any(
        line.startswith("GPU 0 and GPU 1 alone: it fails too: the all-reduce hangs") for line in found["evidence"]
    )


def test_every_probe_ends_in_time_and_runs_on_what_it_names() -> None:
    search = searched(hung(FOUR), lambda _probe: False)
    jobs = [one.probe.job for one in search.done]
    assert [job["seconds"] for job in jobs] == [30, 30, 20, 20, 20, 20]
    assert [job["nodes"][0]["devices"] for job in jobs[2:]] == [[0, 1], [1, 2], [2, 3], [3, 0]]
    assert all(job["nodes"][0]["ranks"] == 2 for job in jobs[2:])
    assert search.outcome.job == FOUR


def test_the_facts_say_what_breaks_p2p() -> None:
    first = hung(FOUR, surroundings={"iommu_translates": True, "acs_redirects": False, "shm_mib": 64})
    (found,) = searched(first, lambda probe: transport(probe) == ("1", None)).concluded()
    assert found["remedies"][0].startswith("this host's IOMMU translates")
    assert not any("ACS" in remedy for remedy in found["remedies"])
    assert any("/dev/shm (64 MiB)" in remedy for remedy in found["remedies"])
    neither = hung(FOUR, surroundings={"iommu_translates": False, "acs_redirects": False})
    assert collective_report.p2p_advice(neither) == ["set NCCL_P2P_DISABLE: 1 in 'environment' and live with the loss"]


def test_slow_links_are_tried_with_p2p_off_and_no_further() -> None:
    slow = good(FOUR, gb_s=10.0)
    search = searched(slow, lambda _probe: True)
    assert [one.probe.kind for one in search.done] == ["p2p_off"]
    (found,) = search.concluded()
    assert found["id"] == "slow_links"
    assert found["evidence"][-1] == "with P2P off it works, with 21 GB/s."


@pytest.mark.parametrize(
    ("works", "words"), [(True, "RDMA between the hosts is what is broken"), (False, "the all-reduce hangs")]
)
def test_between_hosts_rdma_is_switched_off(works: bool, words: str) -> None:
    search = searched(hung(TWO_HOSTS), lambda _probe: works)
    assert [one.probe.job["environment"]["NCCL_IB_DISABLE"] for one in search.done] == ["1"]
    (found,) = search.concluded()
    assert words in found["cause"]
    assert ("name those that serve in NCCL_IB_HCA" in found["remedies"][0]) is works


def test_a_host_that_takes_no_part_says_nothing_of_rdma() -> None:
    first = hung(TWO_HOSTS)
    search = Search(first, collective_report.findings(first))
    probe = search.next()
    assert probe
    search.done.append(collective_probes.tried(probe, outcome(dict(probe.job), [event("began", -1), GONE])))
    (found,) = search.concluded()
    assert "could not be tried" in found["evidence"][-1]
    assert "RDMA between" not in found["cause"]


@pytest.mark.parametrize(
    "first",
    [
        good(FOUR, gb_s=371.0),
        good(FOUR, gb_s=250.0),
        hung({**FOUR, "backend": "gloo"}),
        hung({**TWO_HOSTS, "environment": {"NCCL_IB_DISABLE": "1"}}),
        outcome(TWO_HOSTS, [], result="exit-code"),
        outcome(TWO_HOSTS, [event("began", -1), GONE]),
    ],
    ids=["healthy", "only a warning", "gloo", "without RDMA already", "not started", "not reached"],
)
def test_no_probe_where_it_would_say_nothing(first: collective_report.Outcome) -> None:
    found = collective_report.findings(first)
    search = Search(first, found)
    assert search.next() is None
    assert search.concluded() == found


def test_two_gpus_have_no_pairs() -> None:
    two = {**FOUR, "nodes": [{**FOUR["nodes"][0], "devices": [0, 1], "ranks": 2}]}
    assert [one.probe.kind for one in searched(hung(two), lambda _probe: False).done] == ["p2p_off", "sockets"]
