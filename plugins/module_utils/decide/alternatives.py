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
    short, long = choice.context(option, wish), choice.context(taken, wish)
    if short < long:
        return f"holds {short} tokens only, and the layout taken holds {long}"
    if wish.targets and targets.order(option.goal) != targets.order(taken.goal):
        return _misses(option, taken)
    if option.full is None or taken.full is None or option.single is None or taken.single is None:
        held = [one.held * one.sizes.data_parallel_size * one.replicas for one in (option, taken)]
        return f"holds {held[0]} requests at once and the layout taken {held[1]}"
    if wish.objective == choice.LATENCY and option.single.request_ms > taken.single.request_ms:
        return (
            f"a request takes {option.single.request_ms:.0f} ms, and {taken.single.request_ms:.0f} ms in the layout "
            "taken (estimate)"
        )
    return (
        f"{option.tokens_per_second:.0f} tokens per second in all and {taken.tokens_per_second:.0f} in the layout "
        "taken (estimate)"
    )


def _misses(option: Option, taken: Option) -> str:
    if option.goal is None or taken.goal is None:
        return "its speed is not known"
    if option.goal.miss > 1:
        return f"misses a latency that is asked for by {option.goal.miss - 1:.0%} (estimate)"
    if (option.goal.hosts or 0) > (taken.goal.hosts or 0):
        return (
            f"needs {option.goal.hosts} hosts for the rate that is asked for, and the layout taken {taken.goal.hosts}"
        )
    return (
        f"{option.goal.per_second:.1f} requests per second within the targets and {taken.goal.per_second:.1f} in the "
        "layout taken (estimate)"
    )


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
