# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""When an alert is raised: the thresholds, their defaults with the source of each, and what a person wrote of them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.errors import InputError


@dataclass(frozen=True)
class Thresholds:
    """What ``monitoring_thresholds`` may say. Shares are from 0 to 1, times in the unit of their name."""

    # Loading takes minutes, and until it is done nothing listens (entrypoints/launchers/launcher.py:364-379 of 0.33).
    down_minutes: int = 10
    # systemd gives up after serve_start_limit_burst, 5 starts within 30 minutes; this is to come before.
    restarts_per_hour: int = 2
    # The engine ends itself when a step takes longer (VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS, 300 s).
    stuck_minutes: int = 5
    # Heuristic: a queue that a step or two do not empty.
    waiting_requests: int = 10
    # Heuristic: above it the next long prompt evicts a running request.
    kv_cache_usage: float = 0.95
    # Heuristic: preempted requests compute their prompt again (v1/core/sched/scheduler.py).
    preemptions_per_request: float = 0.05
    # Heuristic; a bound of a bucket of the histogram (v1/metrics/loggers.py), so the quantile is exact there.
    first_token_seconds: float = 5.0
    # A person reads about 240 words a minute, 5 tokens a second; a bound of a bucket as well.
    token_seconds: float = 0.2
    # Heuristics: of a server that is well no request fails, and it aborts none but when it is stopped. A client that
    # hangs up is not counted (v1/engine/output_processor.py:552-607 of 0.32 makes no statistics of it).
    error_share: float = 0.01
    abort_share: float = 0.2
    # Requests within 10 minutes below which shares and quantiles say nothing.
    least_requests: int = 20
    # Lowest "GPU Max Operating Temp" of recorded nvidia-smi -q of data centre GPUs (85 to 93; slowdown from 89).
    gpu_celsius: int = 85
    # "Memory Max Operating Temp" of those that say it (95).
    gpu_memory_celsius: int = 95
    # Xids that NVIDIA's catalogue answers with "restart the application": 13 graphics engine exception, 31 MMU fault,
    # 43 GPU stopped processing, 45 preemptive cleanup.
    ignored_xids: tuple[int, ...] = (13, 31, 43, 45)


NAMES = tuple(field.name for field in fields(Thresholds))
SHARES = frozenset({"kv_cache_usage", "error_share", "abort_share"})


def read(said: Mapping[str, Any]) -> Thresholds:
    """Put what a person wrote in place of the defaults; raises InputError with a sentence for each fault."""
    problems = []
    values: dict[str, Any] = {}
    for name, value in said.items():
        if name not in NAMES:
            near = difflib.get_close_matches(str(name), NAMES, n=1)
            remedy = f"did you mean '{near[0]}'?" if near else f"they are {', '.join(NAMES)}."
            problems.append(f"monitoring_thresholds has the unknown threshold '{name}': {remedy}")
            continue
        if value is None:
            continue
        problem = _problem(name, value)
        if problem:
            problems.append(f"monitoring_thresholds: {name} is {value!r}; write {problem}.")
        else:
            values[name] = tuple(value) if name == "ignored_xids" else value
    if problems:
        raise InputError("\n".join(problems))
    return Thresholds(**values)


def _problem(name: str, value: object) -> str | None:
    if name == "ignored_xids":
        good = isinstance(value, (list, tuple)) and all(_whole(one) and one > 0 for one in value)
        return None if good else "a list of Xid numbers, such as [13, 31]"
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if name in SHARES:
        return None if number and 0 < value <= 1 else "a share above 0 and up to 1, such as 0.05"  # type: ignore[operator]
    if isinstance(getattr(Thresholds, name), int):
        return None if _whole(value) and value >= 1 else "a whole number from 1"  # type: ignore[operator]
    return None if number and value > 0 else "a number above 0"  # type: ignore[operator]


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
