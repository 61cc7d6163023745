# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What requests an engine is sized for, and what a layout gives for them: the one number that layouts are ordered by.

For throughput: answer tokens per second of all replicas, each with as many requests at once as its KV cache holds. For
latency: milliseconds from a request to the end of its answer, on an engine that does nothing else. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import speed

# What is assumed where nobody says what requests look like: a question with some context, and a page of answer.
PROMPT_TOKENS = 1024
ANSWER_TOKENS = 256
# Stages wait for one another where steps differ in length, as they do with prompts among them: GPUStack's lab,
# gpt-oss-120b on 2 H100, has 11,199 tokens/s with two stages and 16,042 with two tensor parallel ranks.
STAGED = 0.75


@dataclass(frozen=True)
class Workload:
    """Requests of one kind, without answers for pooling models. ``assumed`` says that nobody wrote these lengths."""

    prompt_tokens: int = PROMPT_TOKENS
    answer_tokens: int = ANSWER_TOKENS
    assumed: bool = True

    @property
    def tokens(self) -> int:
        """What one request takes of the KV cache at its end."""
        return self.prompt_tokens + self.answer_tokens

    @property
    def context_tokens(self) -> int:
        """What a request has in the KV cache while it is answered, on the average."""
        return self.prompt_tokens + self.answer_tokens // 2

    @property
    def counted_tokens(self) -> int:
        """The tokens of a request that throughput counts: those of its answer, of its prompt where it has none."""
        return self.answer_tokens or self.prompt_tokens

    def within(self, length: int) -> Workload:
        """The same requests cut down to what an engine of ``length`` tokens takes."""
        if self.tokens <= length:
            return self
        answer = min(self.answer_tokens, length // 2)
        return replace(self, prompt_tokens=max(1, length - answer), answer_tokens=answer)


@dataclass(frozen=True)
class Engine:
    """What the speed of an engine is asked with: how many ranks share work, and how to ask.

    ``estimate`` takes a batch of the whole engine and the tokens that each of its sequences has in the cache.
    """

    ranks: int
    stages: int
    estimate: Callable[[int, int], speed.Estimate | None]


@dataclass(frozen=True)
class Rate:
    """What one engine gives for a workload with ``requests`` on their way all the time.

    ``token_ms`` is the time between two tokens of an answer, prompts of others that are read meanwhile included;
    ``prompt_ms`` that of reading a prompt; ``request_ms`` from a request to the end of its answer, without waiting.
    """

    requests: int
    workload: Workload
    token_ms: float
    prompt_ms: float
    request_ms: float
    estimate: speed.Estimate

    @property
    def requests_per_second(self) -> float:
        """Requests that are answered in a second."""
        return 1000 * self.requests / self.request_ms

    @property
    def tokens_per_second(self) -> float:
        """Tokens of answers in a second, of prompts for pooling models."""
        return self.requests_per_second * self.workload.counted_tokens


def rate(engine: Engine, workload: Workload, requests: int) -> Rate | None:
    """Rate an engine that always has ``requests`` on their way; None where its speed is not known.

    While one of them is answered the prompts of all others are read. Ranks and stages read the prompts of different
    requests at the same time.
    """
    found = engine.estimate(requests, workload.context_tokens)
    if found is None:
        return None
    waits = STAGED if engine.stages > 1 and requests > 1 else 1.0
    prompt_ms = found.prefill_ms_per_1k * workload.prompt_tokens / 1000
    reading = max(0, requests - engine.ranks) * prompt_ms / (engine.ranks * engine.stages) / waits
    decoding = workload.answer_tokens * found.decode_ms / waits
    token_ms = (decoding + reading) / workload.answer_tokens if workload.answer_tokens else 0.0
    return Rate(requests, workload, token_ms, prompt_ms, prompt_ms + reading + decoding, found)


def of(model: Mapping[str, Any], prompt_tokens: int | None = None, answer_tokens: int | None = None) -> Workload:
    """The workload of a model: what a person says of it, and the default for the rest."""
    written = prompt_tokens is not None or answer_tokens is not None
    answer = 0 if model.get("runner") == "pooling" else answer_tokens or ANSWER_TOKENS
    return Workload(prompt_tokens or PROMPT_TOKENS, answer, not written)


def finite(value: float, most: int) -> int:
    """A number of requests that is at most ``most``, at least 1, and ``most`` where there is no limit."""
    return most if math.isinf(value) else max(1, min(most, int(value)))
