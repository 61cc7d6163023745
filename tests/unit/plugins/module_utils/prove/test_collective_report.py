"""What is said of an all-reduce, by what its ranks wrote."""

from __future__ import annotations

import json
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import collective_events, collective_report

from tests.unit.collective_samples import FOUR, TWO_HOSTS, begun, event, finished, members, outcome, size

MIB = 1024**2
GOOD = [size(8, 0.001), size(MIB, 90.0), size(256 * MIB, 371.5)]
PEER_GONE = (
    "[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:547] Connection closed by peer [10.0.0.2]:14237. "
    "This may indicate a remote process crash"
)
GLOO_WAITED = "Timed out waiting 15000ms for recv operation to complete"


def reached(problem: str | None, port: int = 29400) -> dict[str, Any]:
    return event("reached", -1, to="gpu2", address="10.0.0.2", port=port, problem=problem)


def failed(rank: int, said: str, kind: str = "RuntimeError") -> dict[str, Any]:
    return event("failed", rank, 20.0, kind=kind, said=said)


def pair(first: int, second: int, gb_s: float) -> dict[str, Any]:
    return event("pair", first, 7.0, pair=[first, second], bytes=8 * MIB, seconds=[0.1], bus_gb_s=gb_s)


def test_nothing_is_said_of_a_good_run() -> None:
    found = outcome(FOUR, [*begun(4), *GOOD, *finished(4)])
    assert collective_report.findings(found) == []
    measured = collective_report.measured(found)
    assert measured
    assert (measured["bus_gb_s"], measured["latency_us"]) == (371.5, 15.0)
    assert collective_report.summary(measured) == "372 GB/s of 360 expected, latency 15 us"


STUCK = [*begun(4), size(8, 0.001), *(event("size_begin", rank, 6.0, bytes=64 * 1024) for rank in range(4))]


@pytest.mark.parametrize(
    ("job", "events", "more", "name", "words"),
    [
        (
            TWO_HOSTS,
            [event("began", -1), reached("timed out")],
            {},
            "host_not_reached",
            ["gpu1 cannot reach gpu2 (10.0.0.2) on TCP port 29400 over eth1: timed out", "open TCP between the hosts"],
        ),
        (
            TWO_HOSTS,
            [event("began", -1), reached("Connection refused", 29401)],
            {},
            "host_not_reached",
            ["on TCP port 29401 over eth1: Connection refused", "see why gpu2 did not start its part"],
        ),
        (
            TWO_HOSTS,
            [event("began", -1), reached("No route to host")],
            {},
            "host_not_reached",
            ["correct network_interface: gpu1 has no route over eth1 to 10.0.0.2"],
        ),
        (
            FOUR,
            [],
            {"result": "exit-code"},
            "check_not_started",
            ["did not start on gpu1 (its unit ended with exit-code)"],
        ),
        (
            TWO_HOSTS,
            [*begun(1), event("size_begin", 0, 3.0, bytes=MIB), failed(0, PEER_GONE)],
            {},
            "rank_lost",
            ["gpu2 stopped answering in the middle of the exchange"],
        ),
        (
            TWO_HOSTS,
            [event("began", -1), event("started"), event("ended", -1, 60.0, code=1, codes=[-9], late=True)],
            {},
            "ranks_did_not_meet",
            ["the ranks on gpu1 and those on gpu2 did not find one another"],
        ),
        (
            TWO_HOSTS,
            [event("began", -1), event("started"), failed(0, "The client socket has timed out after 10000ms")],
            {},
            "ranks_did_not_meet",
            ["see what the check says on the other hosts"],
        ),
        (
            FOUR,
            [*STUCK, event("ended", -1, 60.0, code=1, codes=[-9] * 4, late=True)],
            {"result": "exit-code"},
            "collective_hangs",
            ["the all-reduce hangs: no progress within 60 s (at 64 KiB)", "turn off ACS"],
        ),
        (FOUR, [*STUCK, failed(2, GLOO_WAITED)], {}, "collective_hangs", ["no progress within 15 s"]),
        (
            FOUR,
            [*begun(4), failed(1, "CUDA error: system not yet initialized", "AcceleratorError")],
            {},
            "collective_failed",
            ["rank 1 (GPU 1) failed: AcceleratorError: CUDA error: system not yet initialized"],
        ),
        (
            FOUR,
            [*STUCK, event("ended", -1, 30.0, code=1, codes=[0, -11, -9, -9], late=False)],
            {},
            "rank_died",
            ["a rank on gpu1 died of signal 11"],
        ),
        (
            FOUR,
            [*begun(4), event("wrong", 3, bytes=MIB), *GOOD, *finished(4)],
            {},
            "wrong_sum",
            ["the sum is wrong on rank 3 (GPU 3) at 1 MiB", "NCCL_P2P_DISABLE: 1"],
        ),
        (
            TWO_HOSTS,
            [*begun(1), members(release="0.32.0-cuda"), *GOOD, *finished(1)],
            {},
            "not_the_same",
            ["do not run the same release of vLLM: 0.32.0-cuda on gpu2, 0.33.0-cuda on gpu1"],
        ),
        (
            TWO_HOSTS,
            [*begun(1), members(nccl="2.27.3"), *GOOD, *finished(1)],
            {},
            "not_the_same",
            ["do not run the same NCCL: 2.27.3 on gpu2, 2.29.7 on gpu1"],
        ),
        (
            FOUR,
            [*begun(4), size(256 * MIB, 100.0), *finished(4)],
            {},
            "slow_links",
            ["the links carry 100 GB/s, 28% of the 360 GB/s that H100 over NV18 should", "nvidia-smi nvlink -e"],
        ),
        (
            FOUR,
            [*begun(4), size(256 * MIB, 100.0), pair(0, 1, 40.0), pair(0, 2, 350.0), pair(1, 2, 41.0), *finished(4)],
            {},
            "slow_links",
            ["the weak link is between rank 0 (GPU 0) and rank 1 (GPU 1)", "0, 2: 350 GB/s"],
        ),
        (
            TWO_HOSTS,
            [*begun(1), size(16 * MIB, 0.01), *finished(1)],
            {"expected_gb_s": 1.0, "expected_reason": "TCP over 20000 Mbit/s"},
            "slow_links",
            ["ethtool eth1"],
        ),
    ],
)
def test_failures(
    job: dict[str, Any], events: list[dict[str, Any]], more: dict[str, Any], name: str, words: list[str]
) -> None:
    found = collective_report.findings(outcome(job, events, **more))
    assert [(one["id"], one["severity"]) for one in found] == [(name, "fail")]
    said = collective_report.sentence(found[0])
    for part in words:
        assert part in said


@pytest.mark.parametrize(
    ("events", "more", "name"),
    [
        ([*begun(4), size(256 * MIB, 250.0), *finished(4)], {}, "slow_links"),
        ([*begun(4), size(256 * MIB, 10.0), *finished(4)], {"busy": True}, "slow_links"),
        ([*begun(4), members(clock=103.5), *GOOD, *finished(4)], {}, "clocks_differ"),
    ],
)
def test_warnings(events: list[dict[str, Any]], more: dict[str, Any], name: str) -> None:
    found = collective_report.findings(outcome(FOUR, events, **more))
    assert [(one["id"], one["severity"]) for one in found] == [(name, "warn")]


def test_without_an_expectation_bandwidth_is_not_judged() -> None:
    found = outcome(FOUR, [*begun(4), size(256 * MIB, 0.1), *finished(4)], expected_gb_s=None, expected_reason="none")
    assert collective_report.findings(found) == []


def test_fail_below_zero_never_fails_for_bandwidth() -> None:
    found = collective_report.findings(outcome(FOUR, [*begun(4), size(MIB, 0.1), *finished(4)], fail_below=0.0))
    assert [one["severity"] for one in found] == ["warn"]


def test_parse_leaves_out_what_is_cut_off_and_what_is_not_an_event() -> None:
    text = json.dumps(event("began", -1)) + "\nWarning: something\n[1]\n{}\n" + '{"event": "star'
    assert [one["event"] for one in collective_events.parse(text)] == ["began"]


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([], "starting"),
        ([event("began", -1)], "the hosts look for one another"),
        ([event("began", -1), event("started")], "the ranks meet"),
        (begun(2), "exchanging"),
        ([*begun(4), *GOOD], "256 MiB: 371.5 GB/s"),
        ([*begun(4), *GOOD, pair(0, 1, 3.0)], "measured 1 pairs"),
    ],
)
def test_stage(events: list[dict[str, Any]], words: str) -> None:
    assert collective_events.stage(events) == words


SHM_FULL = [
    # pytorch/ci-infra pull 490
    "host:202016:202235 [0] misc/shmutils.cc:88 NCCL WARN Error: failed to extend /dev/shm/nccl-WU88OE to 9637892 "
    "bytes, error: No space left on device (28)",
    "host:202016:202235 [0] misc/shmutils.cc:132 NCCL WARN Error while creating shared memory segment "
    "/dev/shm/nccl-WU88OE (size 9637888), error: No space left on device (28)",
]
SYSTEM_ERROR = "NCCL error in: ProcessGroupNCCL.cpp:3690, unhandled system error (run with NCCL_DEBUG=INFO for details)"


@pytest.mark.parametrize(
    "errors",
    [
        SHM_FULL[:1],
        SHM_FULL[1:],
        # NVIDIA/nccl issue 290
        ["gpu2-ru7:2143:2561 [1] include/shm.h:28 NCCL WARN Call to posix_fallocate failed : No space left on device"],
    ],
)
def test_shared_memory_that_is_full(errors: list[str]) -> None:
    events = [*begun(4), failed(1, SYSTEM_ERROR, "DistBackendError")]
    (found,) = collective_report.findings(outcome(FOUR, events, errors=errors, surroundings={"shm_mib": 64}))
    assert found["id"] == "shm_too_small"
    assert found["cause"].startswith("the shared memory (64 MiB) in /dev/shm has no room")
    assert any("NCCL WARN" in line for line in found["evidence"])
    assert "larger" in found["remedies"][0]


def test_attaching_is_no_matter_of_size() -> None:
    line = "NCCL WARN Error while attaching to shared memory segment /dev/shm/nccl- (size 0), error: No such file (2)"
    (found,) = collective_report.findings(outcome(FOUR, [*begun(4), failed(1, SYSTEM_ERROR)], errors=[line]))
    assert found["id"] == "collective_failed"


def test_hosts_that_differ_are_named_before_what_came_of_it() -> None:
    events = [*begun(1), members(nccl="2.27.3", clock=103.5), failed(0, SYSTEM_ERROR)]
    found = collective_report.findings(outcome(TWO_HOSTS, events))
    assert [one["id"] for one in found] == ["not_the_same", "collective_failed", "clocks_differ"]


def test_another_model_on_one_host() -> None:
    event_ = members(model="/srv/m (b2)")
    event_["members"][0]["model"] = "/srv/m (a1)"
    (found,) = collective_report.findings(outcome(TWO_HOSTS, [*begun(1), event_, *GOOD, *finished(1)]))
    assert "do not run the same model: /srv/m (a1) on gpu1, /srv/m (b2) on gpu2" in found["cause"]
    assert found["remedies"] == ["write the same model and revision for all of them"]


def test_a_host_that_does_not_know_its_name() -> None:
    named = event("named", -1, hostname="gpu1", address=None, problem="Name or service not known")
    (found,) = collective_report.findings(outcome(TWO_HOSTS, [named, *begun(1), *GOOD, *finished(1)]))
    assert (found["id"], found["severity"]) == ("own_name_unknown", "warn")
    assert "10.0.0.1 gpu1" in found["remedies"][0]
