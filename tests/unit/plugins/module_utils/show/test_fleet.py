"""The status of a fleet, as data and as a table."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.module_utils.prove import status
from ansible_collections.gpufleet.vllm.plugins.module_utils.show import fleet

PROCESS = {"invocation": "a", "pid": 7, "digest": "d", "started": 1000.0}
RECEIPT: dict[str, Any] = {
    "time": "2026-11-24T04:10:11+00:00",
    "process": PROCESS,
    "engine": {"release": "0.32.0-cpu"},
    "layout": {"tensor_parallel_size": 2, "accelerator": "cuda", "nodes": [{"host": "gpu01", "devices": [0, 1]}]},
    "comparison": [
        {"quantity": "kv_cache_tokens", "predicted": 1100, "actual": 1000, "ratio": 1.1, "beyond": True},
    ],
    "warmup": {"first_token_seconds": 0.05, "tokens_per_second": 100.0},
}
SETTINGS = "# Written\nhost: 127.0.0.1\nmodel: org/model\nport: 8001\nserved-model-name:\n- chat\nrevision: 'abc'\n"
SERVING = {"active_state": "active", "sub_state": "running", "restarts": 0}
TOLD = {"now": 1000.0 + 3 * 3600 + 20 * 60, "healthy": True, "running": 3, "waiting": 1, "kv_cache_usage": 0.256}


def one(**how: Any) -> dict[str, Any]:
    """Put an instance together of the samples, changed."""
    given = {
        "name": "chat",
        "written": status.settings(SETTINGS),
        "unit": SERVING,
        "process": PROCESS,
        "told": TOLD,
        "old": RECEIPT,
    }
    return status.instance(**{**given, **how})


def test_settings() -> None:
    assert status.settings(SETTINGS) == {
        "host": "127.0.0.1",
        "model": "org/model",
        "port": "8001",
        "revision": "abc",
    }
    assert status.settings("") == {}


@pytest.mark.parametrize(
    ("unit", "healthy", "state"),
    [
        (SERVING, True, "serving"),
        (SERVING, False, "loading"),
        ({**SERVING, "status": "waiting for gpu02 (10.0.0.2)"}, True, "waiting"),
        ({**SERVING, "status": "runs as rank 0 of gpu01, gpu02"}, True, "serving"),
        ({"active_state": "activating", "sub_state": "start"}, False, "loading"),
        ({"active_state": "activating", "sub_state": "auto-restart"}, False, "restarting"),
        ({"active_state": "failed", "sub_state": "failed"}, False, "failed"),
        ({"active_state": "inactive", "sub_state": "dead"}, False, "stopped"),
        ({"active_state": "deactivating", "sub_state": "stop-sigterm"}, False, "stopped"),
        ({}, False, "stopped"),
    ],
)
def test_state(unit: dict[str, Any], healthy: bool, state: str) -> None:
    assert status.state(unit, healthy) == state


def test_an_instance() -> None:
    found = one()
    assert (found["uptime_seconds"], found["port"], found["warm"]) == (12000, 8001, True)
    assert one(process={**PROCESS, "invocation": "b"})["warm"] is False
    bare = one(process=None, old=None, unit={}, told={"now": 5.0})
    assert (bare["uptime_seconds"], bare["warm"], bare["layout"], bare["release"]) == (None, False, None, None)


ANSWERS: dict[str, Any] = {
    "gpu01": {"instances": [one(), one(name="other", process=None, unit={"active_state": "failed"}, old=None)]},
    "gpu02": {"unreachable": True, "msg": "Failed to connect to the host via ssh:\nno route"},
    "gpu03": {"instances": []},
    "gpu04": {},
    "gpu05": {"failed": True, "msg": "systemctl did not answer"},
}


def test_a_report() -> None:
    found = fleet.report(ANSWERS)
    assert found["schema_version"] == 1
    assert {host: (entry["state"], entry["problem"]) for host, entry in found["hosts"].items()} == {
        "gpu01": ("reached", None),
        "gpu02": ("unreachable", "Failed to connect to the host via ssh: no route"),
        "gpu03": ("reached", None),
        "gpu04": ("unknown", "it was not asked"),
        "gpu05": ("unknown", "systemctl did not answer"),
    }


def test_a_table() -> None:
    assert fleet.table(fleet.report(ANSWERS)).splitlines() == [
        "  HOST   INSTANCE  MODEL      RELEASE     LAYOUT   STATE             UP  RUN  WAIT  KV USE  KV TOKENS"
        "  PREDICTED  WARMED UP",
        "  gpu01  chat      org/model  0.32.0-cpu  TP2 0-1  serving       3h 20m    3     1     26%      1,000"
        "     +10.0%  2026-11-24 04:10",
        "  gpu01  other     org/model  -           -        failed             -    3     1     26%          -"
        "          -  never",
        "  gpu02  -         -          -           -        unreachable        -    -     -       -          -"
        "          -  -",
        "  gpu03  -         -          -           -        no instances       -    -     -       -          -"
        "          -  -",
        "  gpu04  -         -          -           -        unknown            -    -     -       -          -"
        "          -  -",
        "  gpu05  -         -          -           -        unknown            -    -     -       -          -"
        "          -  -",
        "",
        "! gpu02: Failed to connect to the host via ssh: no route",
        "! gpu04: it was not asked",
        "! gpu05: systemctl did not answer",
        "! gpu01: chat: kv_cache_tokens was predicted as 1100 and is 1000.",
        "! gpu01: other is failed; see journalctl -u vllm@other.service there.",
        "",
        "5 hosts, 3 without an answer; 2 instances, 1 serving.",
        fleet.LEGEND,
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0s"), (59, "59s"), (60, "1m"), (3599, "59m"), (3600, "1h 0m"), (1051200, "12d 4h")],
)
def test_duration(seconds: int | None, text: str) -> None:
    assert fleet.duration(seconds) == text


def test_the_hosts_of_one_engine_are_told_apart() -> None:
    nodes = [{"host": "gpu01", "devices": [0, 1]}, {"host": "gpu02", "devices": [0, 1]}]
    hosts = {
        f"gpu0{rank + 1}": {"instances": [one(old={**RECEIPT, "layout": {**RECEIPT["layout"], **place}})]}
        for rank, place in enumerate({"nodes": nodes, "node_rank": rank} for rank in range(2))
    }
    shown = fleet.table(fleet.report(hosts))
    assert "TP2 0,1 +1 host, host 1 of 2" in shown or "TP2 0-1 +1 host, host 1 of 2" in shown, shown
    assert "host 2 of 2" in shown
