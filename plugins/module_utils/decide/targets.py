# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Targets of an entry: whether a layout meets them, with how many requests at once, and on how many hosts. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rating import Rate, Runner
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.workload import Workload

TTFT, TPOT, RATE = "ttft_p95_ms", "tpot_p95_ms", "requests_per_second"
LENGTHS = ("prompt_tokens", "answer_tokens")
NAMES = (TTFT, TPOT, RATE, *LENGTHS)


@dataclass(frozen=True)
class Goal:
    """What one host with a layout gives of the targets.

    ``requests`` run at once on each data parallel rank of each replica: as many as keep the latencies that are asked
    for, one where not even that does. ``per_second`` are those that all replicas of the host answer. ``hosts`` is how
    many such hosts answer what is asked, None where no rate is asked for or a latency is missed. ``miss`` is the worst
    latency over its target.
    """

    rate: Rate
    requests: int
    per_second: float
    hosts: int | None
    miss: float

    @property
    def quick(self) -> bool:
        """Whether the latencies are kept."""
        return self.miss <= 1


def goal(asked: Mapping[str, Any], runner: Runner, workload: Workload, held: int, replicas: int) -> Goal:
    """Find with how many of the ``held`` requests on each rank an engine keeps the latencies that are asked for."""

    def miss(requests: int) -> float:
        return _miss(asked, runner.rate(workload, requests))

    low, high = 1, max(1, held)
    if miss(high) <= 1:
        low = high
    elif miss(1) <= 1:
        # the most that keep them: more requests at once never answer one sooner
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if miss(middle) <= 1 else (low, middle)
    found = runner.rate(workload, low)
    per_second = found.requests_per_second * replicas
    worst = _miss(asked, found)
    hosts = math.ceil(asked[RATE] / per_second) if RATE in asked and worst <= 1 else None
    return Goal(found, low, per_second, hosts, worst)


def _miss(asked: Mapping[str, Any], rate: Rate) -> float:
    seen = {TTFT: rate.served.ttft_p95_ms, TPOT: rate.served.tpot_p95_ms}
    return max((seen[name] / asked[name] for name in (TTFT, TPOT) if name in asked), default=0.0)


def order(found: Goal | None) -> tuple[Any, ...]:
    """Order goals, the best least: those that keep the latencies, on the fewest hosts, with the most to spare."""
    if found is None:
        return (2, 0.0, 0, 0.0)
    if not found.quick:
        return (1, float(f"{found.miss:.6g}"), 0, -float(f"{found.per_second:.6g}"))
    return (0, 0.0, found.hosts or 0, -float(f"{found.per_second:.6g}"))


def report(asked: Mapping[str, Any], found: Goal | None) -> dict[str, Any]:
    """Say of each target what is predicted of it, and whether it is met on one host or on how many."""
    if found is None:
        return {"met": None, "hosts": None, "each": {}}
    seen = {TTFT: found.rate.served.ttft_p95_ms, TPOT: found.rate.served.tpot_p95_ms, RATE: found.per_second}
    each = {}
    for name in (TTFT, TPOT, RATE):
        if name in asked:
            met = seen[name] >= asked[name] if name == RATE else seen[name] <= asked[name]
            each[name] = {"asked": asked[name], "predicted": round(seen[name], 2), "met": met}
    return {"met": all(one["met"] for one in each.values()), "hosts": found.hosts, "each": each}


def sentences(asked: Mapping[str, Any], found: Goal | None) -> tuple[list[str], list[str]]:
    """Say which targets are met and which are missed by how much, as reasons and as warnings."""
    if found is None:
        return [], ["Nothing is known of the speed of these GPUs, so the targets were not looked at."]
    reasons, warnings = [], []
    for name, one in report(asked, found)["each"].items():
        unit = " requests per second of one host" if name == RATE else " ms"
        text = f"{name} {one['asked']:g}: {one['predicted']:g}{unit} (estimate)"
        if one["met"]:
            reasons.append(f"Target met: {text}.")
        elif name != RATE:
            warnings.append(
                f"Target missed: {text}, {one['predicted'] / one['asked'] - 1:.0%} too much, even with one request at "
                f"once on each rank; of all layouts on these GPUs this one comes closest. Write {name}: "
                f"{math.ceil(one['predicted'])} or more."
            )
        elif found.hosts:
            warnings.append(f"Target missed on one host: {text}; {found.hosts} hosts with this layout meet it.")
        else:
            warnings.append(f"Target missed: {text}, and no number of hosts keeps the latencies that are asked for.")
    return reasons, warnings
