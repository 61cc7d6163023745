# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""List what else was possible, and why it was not taken. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import choice, speed, targets
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.choice import Option
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.reasons import account_of, capacity
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.space import Wish

MOST = 6


def alternatives(options: Sequence[Option], taken: Option, wish: Wish) -> list[dict[str, Any]]:
    """List what else was tried, the best first: what works, then what came closest to it."""
    works: dict[Sizes, Option] = {}
    for option in choice.ranked(wish, options):
        works.setdefault(option.sizes, option)
    fails: dict[Sizes, Option] = {}
    for option in sorted((one for one in options if not one.works), key=lambda one: (choice.missing(one), one.gpus)):
        if option.sizes not in works:
            fails.setdefault(option.sizes, option)
    found = [option for sizes, option in [*works.items(), *fails.items()] if sizes != taken.sizes]
    return [_alternative(option, taken, wish) for option in found[:MOST]]


def _alternative(option: Option, taken: Option, wish: Wish) -> dict[str, Any]:
    fit, sizes = option.fit, option.sizes
    tokens, concurrency = capacity(fit.cache) if fit else (None, None)
    return {
        "tensor_parallel_size": sizes.tensor_parallel_size,
        "pipeline_parallel_size": sizes.pipeline_parallel_size,
        "data_parallel_size": sizes.data_parallel_size * option.replicas,
        "enable_expert_parallel": sizes.enable_expert_parallel,
        "decode_context_parallel_size": sizes.decode_context_parallel_size,
        "devices_count": option.gpus,
        "max_model_len": fit.max_model_len if fit else None,
        "kv_cache_tokens": tokens,
        "max_concurrency": concurrency,
        "memory": account_of(fit) if fit else None,
        "estimate": estimate_of(option, wish),
        "targets": targets.report(wish.targets, option.goal) if wish.targets else None,
        "why_not": option.refusal or _worse(option, taken, wish),
    }


def _worse(option: Option, taken: Option, wish: Wish) -> str:
    """Say in which number the option is worse, in the order in which they count."""
    if wish.fewest and option.gpus > taken.gpus:
        return (
            f"takes {option.gpus} GPUs and the layout taken {taken.gpus}; an instance that shares GPUs gets as few as "
            "hold it"
        )
    short, long = choice.context(option, wish), choice.context(taken, wish)
    if short < long:
        return f"holds {short} tokens only, and the layout taken holds {long}"
    missed = _misses(option, taken) if wish.targets else None
    return missed or _slower(option, taken, wish) or _tie(option, taken)


def _slower(option: Option, taken: Option, wish: Wish) -> str | None:
    """Say that it gives less; None where it gives the same."""
    if option.full is None or taken.full is None or option.single is None or taken.single is None:
        held = [one.held * one.sizes.data_parallel_size * one.replicas for one in (option, taken)]
        if held[0] == held[1]:
            return None
        return f"holds {held[0]} requests at once and the layout taken {held[1]}"
    if wish.objective == choice.LATENCY:
        times = _apart(option.single.request_ms, taken.single.request_ms)
        if times:
            return f"a request takes {times[0]} ms, and {times[1]} ms in the layout taken (estimate)"
    rates = _apart(option.tokens_per_second or 0.0, taken.tokens_per_second or 0.0)
    if rates is None:
        return None
    return f"{rates[0]} tokens per second in all and {rates[1]} in the layout taken (estimate)"


def _apart(one: float, other: float, least: int = 0) -> tuple[str, str] | None:
    """Write two numbers with as few decimals, ``least`` or more, as tell them apart; None where three do not."""
    for decimals in range(least, 4):
        texts = f"{one:.{decimals}f}", f"{other:.{decimals}f}"
        if texts[0] != texts[1]:
            return texts
    return None


def _misses(option: Option, taken: Option) -> str | None:
    """Say which target it is further from; None where both are as good."""
    if targets.order(option.goal) == targets.order(taken.goal):
        return None
    if option.goal is None or taken.goal is None:
        return "its speed is not known"
    if option.goal.miss > 1:
        return f"misses a latency that is asked for by {option.goal.miss - 1:.0%} (estimate)"
    if (option.goal.hosts or 0) > (taken.goal.hosts or 0):
        return (
            f"needs {option.goal.hosts} hosts for the rate that is asked for, and the layout taken {taken.goal.hosts}"
        )
    rates = _apart(option.goal.per_second, taken.goal.per_second, 1)
    if rates is None:
        return None
    return f"{rates[0]} requests per second within the targets and {rates[1]} in the layout taken (estimate)"


def _tie(option: Option, taken: Option) -> str:
    """Say what decides between layouts that give the same, as :func:`choice.order` does."""
    mine, its = option.sizes, taken.sizes
    tokens = [(one.fit.cache.tokens if one.fit else 0) * one.replicas for one in (option, taken)]
    said = (
        (mine.pipeline_parallel_size, its.pipeline_parallel_size, "pipeline stages"),
        (option.gpus, taken.gpus, "GPUs"),
        (tokens[0], tokens[1], "tokens of KV cache"),
        (mine.decode_context_parallel_size, its.decode_context_parallel_size, "ranks for the tokens of a KV cache"),
        (mine.data_parallel_size, its.data_parallel_size, "data parallel ranks"),
        (mine.tensor_parallel_size, its.tensor_parallel_size, "tensor parallel ranks"),
    )
    first = next((f"it has {one} {what} and the layout taken {other}" for one, other, what in said if one != other), "")
    return f"gives no more than the layout taken (estimate){'; ' if first else ''}{first}"


def estimate_of(option: Option, wish: Wish) -> dict[str, Any] | None:
    """Give the estimate of speed as the report says it; None where the GPU is not known.

    ``decode`` is that of one request alone, ``throughput`` that of each replica at full load.
    """
    estimate = option.estimate
    if estimate is None or option.full is None or option.single is None:
        return None
    load = option.full.workload
    return {
        "decode_ms": round(estimate.decode_ms, 2),
        "decode_tokens_per_second": round(estimate.decode_tokens_per_second, 1),
        "throughput_tokens_per_second": round(option.full.tokens_per_second, 1),
        "total_tokens_per_second": round(option.full.tokens_per_second * option.replicas, 1),
        "requests_at_once": option.full.requests * option.replicas,
        "request_ms": round(option.single.request_ms, 1),
        "prefill_ms_per_1k": round(estimate.prefill_ms_per_1k, 2),
        "parts": {key: round(value, 3) for key, value in estimate.parts.items()},
        "workload": {
            "prompt_tokens": load.prompt_tokens,
            "answer_tokens": load.answer_tokens,
            "assumed": wish.assumed,
        },
        "label": "estimate",
        **speed.reported(estimate),
    }
