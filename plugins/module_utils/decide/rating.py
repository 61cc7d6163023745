# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a layout gives for requests of one kind: the one number that layouts are ordered by. Pure.

For throughput: answer tokens per second of all replicas, each with as many requests at once as its KV cache holds. For
latency: milliseconds from a request to the end of its answer, on an engine that does nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import speed
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.serving import Limits
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.step import Step
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.workload import DEFAULT, Workload


@dataclass(frozen=True)
class Rate:
    """What one engine gives for a workload, without its replicas."""

    workload: Workload
    served: speed.Served

    @property
    def requests(self) -> int:
        """Requests that run at once."""
        return max(1, int(self.served.concurrency))

    @property
    def requests_per_second(self) -> float:
        """Requests that are answered in a second."""
        return self.served.requests_per_second

    @property
    def tokens_per_second(self) -> float:
        """Tokens of answers in a second, of prompts for pooling models, which answer none."""
        return self.requests_per_second * (self.workload.answer_tokens or self.workload.prompt_tokens)

    @property
    def request_ms(self) -> float:
        """From a request to the end of its answer."""
        return self.served.ttft_ms + self.served.tpot_ms * self.workload.answer_tokens


@dataclass(frozen=True)
class Runner:
    """An engine that can be rated. ``limits`` bound its sequences, ``measured`` is the correction of a fleet's own."""

    step: Step
    limits: Limits
    measured: float | None = None

    def rate(self, workload: Workload, held: int | None = None) -> Rate:
        """Rate it with ``held`` requests on each rank at most, as many as ``limits`` let run without it."""
        most = self.limits.max_num_seqs if held is None else max(1, min(held, self.limits.max_num_seqs))
        return Rate(workload, speed.served(self.step, workload, replace(self.limits, max_num_seqs=most), self.measured))

    def alone(self, workload: Workload) -> Rate:
        """Rate it with a single request."""
        return self.rate(replace(workload, concurrency=1))


def of(model: Mapping[str, Any], prompt_tokens: int | None = None, answer_tokens: int | None = None) -> Workload:
    """The workload of a model: what a person says of it, and the default for the rest."""
    answer = 0 if model.get("runner") == "pooling" else answer_tokens or DEFAULT.answer_tokens
    return Workload(prompt_tokens or DEFAULT.prompt_tokens, answer)


def within(workload: Workload, length: int) -> Workload:
    """The same requests, cut down to what an engine of ``length`` tokens takes."""
    if workload.tokens <= length:
        return workload
    answer = min(workload.answer_tokens, length // 2)
    return replace(workload, prompt_tokens=max(1, length - answer), answer_tokens=answer)


def finite(value: float, most: int) -> int:
    """A number of requests that is at most ``most``, at least 1, and ``most`` where there is no limit."""
    return most if math.isinf(value) else max(1, min(most, int(value)))
