"""Layouts and runs of an all-reduce, for the tests of the check."""

from __future__ import annotations

from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.collective_check import Expectation, Wishes, job
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove.collective_report import Outcome

WISHES = Wishes(seconds=60)


def layout(devices: list[int], *, hosts: tuple[str, ...] = ("gpu1",), **more: Any) -> dict[str, Any]:
    """An instance with a rank on each of these GPUs of each host."""
    return {
        "name": "chat",
        "accelerator": "cuda",
        "tensor_parallel_size": len(devices) * len(hosts),
        "pipeline_parallel_size": 1,
        "devices": devices,
        "nodes": [{"host": host, "devices": devices} for host in hosts],
        "environment": {"NCCL_SOCKET_IFNAME": "eth1", "OTHER": "x"} if len(hosts) > 1 else {},
        **more,
    }


ADDRESSES = {"gpu1": "10.0.0.1", "gpu2": "10.0.0.2"}
FOUR = job(layout([0, 1, 2, 3]), {}, "0.33.0-cuda", Expectation(360.0, "H100 over NV18"), WISHES)
TWO_HOSTS = job(
    layout([0], hosts=("gpu1", "gpu2")), ADDRESSES, "0.33.0-cuda", Expectation(1.0, "TCP over 20000 Mbit/s"), WISHES
)


def event(name: str, rank: int = 0, at: float = 1.0, **more: Any) -> dict[str, Any]:
    """One event."""
    return {"event": name, "rank": rank, "host": "gpu1", "at": at, **more}


def begun(ranks: int) -> list[dict[str, Any]]:
    """A run in which all ranks have met."""
    events = [event("began", -1, 0.1)]
    for rank in range(ranks):
        events += [event("started", rank), event("joined", rank, 2.0)]
    return events


def size(count: int, gb_s: float) -> dict[str, Any]:
    """Rank 0's measurement of one size."""
    return event("size", 0, 5.0, bytes=count, seconds=[2e-05, 1.5e-05], bus_gb_s=gb_s)


def members(**of_last: Any) -> dict[str, Any]:
    """What rank 0 learned of two ranks; ``of_last`` is what differs on the second."""
    one = {
        "rank": 0,
        "host": "gpu1",
        "clock": 100.0,
        "torch": "2.13.0",
        "nccl": "2.29.7",
        "gpu": "H100",
        "release": "0.33.0-cuda",
    }
    return event("members", 0, 2.1, members=[one, {**one, "rank": 1, "host": "gpu2", **of_last}])


def finished(ranks: int) -> list[dict[str, Any]]:
    """The end of a good run."""
    return [
        *(event("finished", rank, 9.0) for rank in range(ranks)),
        event("ended", -1, 9.5, code=0, codes=[0] * ranks),
    ]


def outcome(job_: dict[str, Any], events: list[dict[str, Any]], **more: Any) -> Outcome:
    """What a host knows in the end."""
    expected = {"expected_gb_s": 360.0, "expected_reason": "H100 over NV18"}
    return Outcome(job=job_, place=0, events=events, **{**expected, **more})
