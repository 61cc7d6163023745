"""The control node's part of an all-reduce; the host's part is played by runs."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.gpufleet.vllm.plugins.action import nccl_check
from ansible_collections.gpufleet.vllm.plugins.plugin_utils import terminal

from tests.unit.collective_samples import FOUR, begun, event, finished, size

MIB = 1024**2
GOOD = [*begun(4), size(256 * MIB, 21.0), *finished(4)]
HUNG = [*begun(4), *(event("size_begin", rank, 6.0, bytes=8) for rank in range(4))]
CHECK: dict[str, Any] = {
    "name": "chat",
    "place": 0,
    "key": "k",
    "job": FOUR,
    "expected_gb_s": 20.0,
    "expected_reason": "H100 over PHB",
    "surroundings": {"iommu_translates": True, "acs_redirects": None, "shm_mib": 64},
    "busy": False,
}


class Host:
    """Runs what it is told: each start takes the next run, each look gives all of it."""

    def __init__(self, *runs: list[dict[str, Any]]) -> None:
        self.runs, self.jobs = list(runs), [FOUR]
        self.record: dict[str, Any] = {}

    def __call__(self, module_args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
        if module_args["state"] == "started":
            self.jobs.append(module_args["check"]["job"])
            self.runs.pop(0)
        elif module_args["state"] == "recorded":
            self.record = module_args["record"]
        elif module_args["state"] == "read":
            text = "\n".join(map(json.dumps, self.runs[0]))
            good = self.runs[0][-1]["event"] == "ended"
            return {"events": text, "errors": [], "running": False, "result": "success" if good else "exit-code"}
        return {}


def finish(host: Host) -> dict[str, Any]:
    """Let the action wait and judge."""
    made = nccl_check.ActionModule.__new__(nccl_check.ActionModule)
    made._task = SimpleNamespace(args={"state": "finished", "check": CHECK}, check_mode=False)
    made._execute_module = host
    made.vars, made.host, made.check = {}, "gpu1", dict(CHECK)
    return made.finish()


def test_a_good_run_is_written_down() -> None:
    host = Host(GOOD)
    told = finish(host)
    assert (told["msg"], told["warnings"]) == ("21 GB/s of 20 expected, latency 15 us", [])
    assert (host.record["state"], len(host.jobs)) == ("ok", 1)


def test_a_hang_is_narrowed_down_to_a_pair() -> None:
    """P2P off works; of the four pairs of neighbours the one of GPU 1 and GPU 2 hangs."""
    host = Host(HUNG, GOOD, GOOD, HUNG, GOOD, GOOD)
    told = finish(host)
    assert told["failed"]
    assert "(P2P) is what is broken: it fails between GPU 1 and GPU 2" in told["msg"]
    assert "1. this host's IOMMU translates" in told["msg"]
    assert [job["nodes"][0]["devices"] for job in host.jobs[2:]] == [[0, 1], [1, 2], [2, 3], [3, 0]]
    assert host.jobs[1]["environment"] == {"NCCL_P2P_DISABLE": "1"}
    assert host.record["state"] == "fail"


def test_a_line_moves_while_it_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    now = iter(range(0, 10**6, 6))
    monkeypatch.setattr(terminal, "show", lines.append)
    clock = SimpleNamespace(monotonic=lambda: float(next(now)), sleep=lambda _seconds: None)
    monkeypatch.setattr(nccl_check, "time", clock)
    looks = iter([*[HUNG] * 5, GOOD])

    class Slow(Host):
        def __call__(self, module_args: dict[str, Any], task_vars: dict[str, Any]) -> dict[str, Any]:
            if module_args["state"] == "read":
                self.runs = [next(looks)]
                return {**super().__call__(module_args, task_vars), "running": self.runs[0] is HUNG}
            return super().__call__(module_args, task_vars)

    finish(Slow())
    waiting = [line for line in lines if "exchanging" in line]
    assert waiting[0] == "gpu1: chat: all-reduce: exchanging (6 s)"
    assert len(waiting) > 1
