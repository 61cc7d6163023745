# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Choose the layout of one engine and its replicas: try every one, keep what vLLM accepts and what fits, take the best.

The best holds the longest context that any holds, and of those has the best score (``rating``): answer tokens per
second of all replicas, or the time of one request. GPUs that it leaves over cost nothing. Pure.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import (
    calibration,
    kv_cache,
    memory,
    rating,
    speed,
    targets,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.memory import Engine, Fit, Gpu
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules import Broken
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.serving import Limits, frontend_ms
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.space import Wish

# With max_model_len left open, a context shorter than this is not worth serving.
USEFUL_TOKENS = 8192
# A context that is cut to what fits is one of so many lengths from one power of two to the next.
ROUND_LENGTHS = 4
# Sequences at once that a full GPU falls back to when max_num_seqs was left open: the sampler and the CUDA graphs
# then leave more for the KV cache.
FEWER_SEQUENCES = (256, 128, 64, 32, 16)
# Requests may be shorter than the workload says, so max_num_seqs is lowered only where that gains this much.
SEQUENCES_GAIN = 0.10
# What requests held by an engine with stages count where its speed is not known
STAGES_SHARE = 0.8
THROUGHPUT, LATENCY = "throughput", "latency"
# Too little memory is what fewer sequences may mend.
TOO_LITTLE = ("kv_cache_too_small", "out_of_memory", "state_blocks")


@dataclass(frozen=True)
class Place:
    """Where an engine and its replicas would lie.

    ``link`` is the class of the worst link inside a tensor parallel group, ``stage_link`` that between stages.
    """

    devices: tuple[int, ...]
    link: str | None
    fast_links: bool
    warnings: tuple[str, ...] = ()
    stage_link: str = "none"


@dataclass(frozen=True)
class Option:
    """One way to run an engine, and why it cannot when ``refusal`` says so.

    ``replicas`` counts independent copies, all of them in ``place``. ``full`` rates one copy with as many requests as
    it holds, ``single`` with one. ``estimate`` has the parts of a step of one request.
    """

    sizes: Sizes
    place: Place | None = None
    engine: Engine | None = None
    fit: Fit | None = None
    full: rating.Rate | None = None
    single: rating.Rate | None = None
    estimate: speed.Estimate | None = None
    runner: rating.Runner | None = None
    goal: targets.Goal | None = None
    held: int = 0
    replicas: int = 1
    refusal: str | None = None
    rule: str = ""
    remedies: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    warned: frozenset[str] = frozenset()
    faults: tuple[Broken, ...] = ()

    @property
    def works(self) -> bool:
        """Whether vLLM would start it and hold the asked length."""
        return self.refusal is None

    @property
    def gpus(self) -> int:
        """GPUs of all replicas."""
        return self.sizes.gpus * self.replicas

    @property
    def tokens_per_second(self) -> float | None:
        """Answer tokens per second of all replicas, None where the speed is not known."""
        return self.full.tokens_per_second * self.replicas if self.full else None


Placing = Callable[[Sizes, int], Optional[Place]]
Checking = Callable[[Sizes, Engine, int], Sequence[Broken]]


def evaluate(
    wish: Wish, sizes: Sizes, engine: Engine, gpu: Gpu, place: Placing, check: Checking, name: str, replicas: int = 1
) -> Option:
    """Try one size with some replicas. ``name`` is the GPU's, for the estimate of speed."""
    broken = check(sizes, engine, replicas)
    refusals = tuple(one for one in broken if one.severity == "refuse")
    if refusals:
        return Option(
            sizes,
            refusal=" and ".join(dict.fromkeys(one.reason for one in refusals)),
            rule=refusals[0].rule_id,
            remedies=tuple(dict.fromkeys(remedy for one in refusals for remedy in one.remedies)),
            replicas=replicas,
            faults=refusals,
        )
    where = place(sizes, replicas)
    if where is None:
        return Option(sizes, refusal="there is no group of GPUs for it", rule="no_group", replicas=replicas)
    begun = Option(
        sizes,
        where,
        engine,
        warnings=tuple(one.reason for one in broken if one.severity != "refuse"),
        warned=frozenset(one.rule_id for one in broken),
        replicas=replicas,
    )
    there = replace(gpu, fast_links=where.fast_links)
    try:
        return _with_sequences(begun, wish, there, name)
    except kv_cache.Unknown as unknown:
        # sizes that a person wrote are taken without an account
        if not wish.sizes_written:
            raise
        said = (*begun.warnings, f"memory was not computed, and neither was speed: {unknown} is not known")
        return replace(begun, warnings=said)


def _with_sequences(begun: Option, wish: Wish, gpu: Gpu, name: str) -> Option:
    """Fit an engine as it stands, and with fewer sequences where those may be lowered and that does much."""
    best = _rated(_fitted(begun, wish, gpu), wish, gpu, name)
    for fewer in _fewer_sequences(wish, best):
        assert begun.engine is not None
        smaller = replace(begun, engine=replace(begun.engine, max_num_seqs=fewer))
        tried = _rated(_fitted(smaller, wish, gpu), wish, gpu, name)
        if tried.works and (not best.works or _much_better(tried, best, wish)):
            best = tried
            if not _is_short(best, wish):
                break
    return best


def _much_better(tried: Option, best: Option, wish: Wish) -> bool:
    longer = context(tried, wish) - context(best, wish)
    if longer or not tried.full or not best.full:
        return longer > 0
    return tried.full.tokens_per_second > best.full.tokens_per_second * (1 + SEQUENCES_GAIN)


def _is_short(tried: Option, wish: Wish) -> bool:
    """Whether it does not hold what is asked."""
    return not tried.works or context(tried, wish) < (wish.length or int(wish.model.get("max_model_len") or 0))


def _fewer_sequences(wish: Wish, tried: Option) -> Sequence[int]:
    """Give lower values of max_num_seqs to try: where the KV cache is what limits the engine.

    Where it holds what is asked, the one above what it holds and the one below are enough.
    """
    if not wish.may_lower_sequences or tried.engine is None or not (tried.works or tried.rule in TOO_LITTLE):
        return ()
    fewer = [size for size in FEWER_SEQUENCES if size < tried.engine.max_num_seqs]
    if _is_short(tried, wish):
        return fewer
    above = [size for size in fewer if size > tried.held]
    return above[-1:] if tried.held < tried.engine.max_num_seqs else ()


def _fitted(option: Option, wish: Wish, gpu: Gpu) -> Option:
    engine, sizes = option.engine, option.sizes
    assert engine is not None
    fit = memory.fit(wish.model, sizes, engine, gpu, wish.length, min_concurrency=wish.min_concurrency)
    if wish.length is None and fit.max_model_len < int(wish.model.get("max_model_len") or 0):
        least = min(USEFUL_TOKENS, int(wish.model["max_model_len"]))
        length = _round(fit.max_model_len) if fit.max_model_len > least else fit.max_model_len
        if length:
            fit = memory.fit(wish.model, sizes, engine, gpu, length, min_concurrency=wish.min_concurrency)
    option = replace(option, fit=fit)
    account = fit.account
    if account.kv_cache_gib <= 0:
        room = account.budget_gib if engine.kv_cache_memory_bytes is None else memory.room_gib(sizes, engine, gpu)
        return replace(
            option,
            rule="out_of_memory",
            refusal=(
                f"{account.weights_gib:.1f} GiB of weights and {memory.rest_gib(engine, account):.1f} GiB for the rest "
                f"do not fit the {room:.1f} GiB that vLLM may use of each GPU"
            ),
        )
    problem = memory.start_problem(wish.model, sizes, engine, gpu, account)
    if problem:
        return replace(option, refusal=problem.reason, rule=problem.rule, remedies=problem.remedies)
    if wish.length and (fit.cache.longest < wish.length or fit.cache.concurrency < wish.min_concurrency):
        times = f" {wish.min_concurrency:g} times" if wish.min_concurrency > 1 else ""
        return replace(
            option,
            rule="kv_cache_too_small",
            refusal=(
                f"the {account.kv_cache_gib:.1f} GiB left for the KV cache hold {max(0, fit.cache.tokens)} tokens, and "
                f"max_model_len {wish.length} has to fit{times}"
            ),
        )
    least = min(USEFUL_TOKENS, int(wish.model.get("max_model_len") or USEFUL_TOKENS))
    if not wish.length and fit.max_model_len < least:
        return replace(
            option,
            rule="kv_cache_too_small",
            refusal=(
                f"the {account.kv_cache_gib:.1f} GiB left for the KV cache hold a request of {fit.max_model_len} "
                f"tokens at most, and {least} are the least that is taken for useful"
            ),
        )
    return option


def _round(length: int) -> int:
    """A length that a person would write: one of ROUND_LENGTHS between a power of two and the next.

    Layouts that hold nearly the same are then ordered by what they give, not by a few tokens of context.
    """
    step = 1 << max(0, length.bit_length() - 1)
    return length // max(1, step // ROUND_LENGTHS) * max(1, step // ROUND_LENGTHS)


def _rated(option: Option, wish: Wish, gpu: Gpu, name: str) -> Option:
    """Add how many requests of the workload it holds, and what it gives then."""
    if not option.works or option.fit is None:
        return option
    engine, sizes = option.engine, option.sizes
    assert engine is not None and option.place is not None
    asked = rating.within(wish.workload, option.fit.max_model_len)
    cache = memory.fit(wish.model, sizes, engine, gpu, math.ceil(asked.held_tokens)).cache
    held = rating.finite(cache.concurrency, engine.max_num_seqs)
    runner = _runner(option, wish, gpu, name)
    if runner is None:
        return replace(option, held=held)
    return replace(
        option,
        held=held,
        runner=runner,
        full=runner.rate(asked, held),
        single=runner.alone(asked),
        estimate=_estimate(option, wish, runner, name),
    )


def _runner(option: Option, wish: Wish, gpu: Gpu, name: str) -> rating.Runner | None:
    """Say how the speed of an option is asked for; None where it is not known."""
    place, fit, engine, sizes = option.place, option.fit, option.engine, option.sizes
    assert place is not None and fit is not None and engine is not None
    step = speed.step_of(wish.model, sizes, name, place.link, **_settings(option, wish))
    if step is None:
        return None
    limits = Limits(engine.max_num_seqs, engine.max_num_batched_tokens, None, frontend_ms(engine.version.release, True))
    measured = calibration.speed_of(
        engine.corrections,
        engine.version.version,
        sizes.tensor_parallel_size,
        replace(gpu, fast_links=place.fast_links).measured_as,
        engine.model_runner,
    )
    return rating.Runner(step, limits, measured)


def _settings(option: Option, wish: Wish) -> dict[str, Any]:
    place, fit, engine = option.place, option.fit, option.engine
    assert place is not None and fit is not None and engine is not None
    return {
        "account": fit.account,
        "kv_bytes": engine.kv_bytes,
        "stage_link": place.stage_link,
        "enforce_eager": engine.enforce_eager,
        "async_scheduling": engine.version.async_scheduling,
        "release": engine.version.release,
        "offload_gib": sum(memory.offloaded_gib(wish.model, option.sizes, engine)),
    }


def _estimate(option: Option, wish: Wish, runner: rating.Runner, name: str) -> speed.Estimate | None:
    """The parts of a step of one request alone."""
    assert option.place is not None and option.fit is not None
    return speed.estimate(
        wish.model,
        option.sizes,
        name,
        option.place.link,
        context_tokens=math.ceil(rating.within(wish.workload, option.fit.max_model_len).held_tokens),
        measured=runner.measured,
        **_settings(option, wish),
    )


def context(option: Option, wish: Wish) -> int:
    """The length that an option holds, as far as it is asked for."""
    if option.fit is None:
        return 0
    return min(option.fit.max_model_len, wish.length) if wish.length else option.fit.max_model_len


def score(option: Option, objective: str, by_speed: bool = True) -> float:
    """The number that options of one context are ordered by, the most is best.

    Tokens per second of all replicas, or less milliseconds for one request. Where the speed of a GPU is not known, it
    is how many requests all replicas hold at once, with stages less: they hold a little more and answer later.
    """
    if option.full is None or option.single is None or not by_speed:
        held = float(option.held * option.sizes.data_parallel_size * option.replicas)
        return held * STAGES_SHARE if option.sizes.pipeline_parallel_size > 1 else held
    if objective == LATENCY:
        return -option.single.request_ms
    return option.full.tokens_per_second * option.replicas


def order(option: Option, wish: Wish, by_speed: bool = True) -> tuple[Any, ...]:
    """Order options that work, the best least: context, score, then what an operator would rather run.

    What an engine that is to have the fewest GPUs takes comes before all of these. The score is rounded to six digits,
    so that what differs in the last bits only counts as equal. A request that is as fast on two layouts goes to the one
    that answers more of them.
    """
    sizes, fit = option.sizes, option.fit
    found = score(option, wish.objective, by_speed)
    asked = targets.order(option.goal) if wish.targets and by_speed else ()
    other = option.tokens_per_second if wish.objective == LATENCY else None
    return (
        option.gpus if wish.fewest else 0,
        -context(option, wish),
        *asked,
        -float(f"{found:.6g}"),
        -float(f"{other or 0.0:.6g}"),
        sizes.pipeline_parallel_size,
        option.gpus,
        -(fit.cache.tokens if fit else 0) * option.replicas,
        sizes.decode_context_parallel_size,
        sizes.enable_expert_parallel,
        sizes.data_parallel_size,
        sizes.tensor_parallel_size,
    )


def aimed(option: Option, wish: Wish) -> Option:
    """Add what an option gives of the targets that are asked for."""
    if not wish.targets or option.runner is None or option.full is None:
        return option
    load = option.full.workload
    return replace(option, goal=targets.goal(wish.targets, option.runner, load, option.held, option.replicas))


def bounded(option: Option, wish: Wish, gpu: Gpu) -> Option:
    """Let an option run no more requests at once than keep the latencies that are asked for."""
    if option.goal is None or option.engine is None or not wish.may_lower_sequences:
        return option
    if option.goal.requests >= option.held or not option.goal.quick:
        return option
    assert option.fit is not None and option.place is not None
    engine = replace(option.engine, max_num_seqs=option.goal.requests)
    there, length = replace(gpu, fast_links=option.place.fast_links), option.fit.max_model_len
    fit = memory.fit(wish.model, option.sizes, engine, there, length, min_concurrency=wish.min_concurrency)
    return replace(option, engine=engine, fit=fit)


def ranked(wish: Wish, options: Sequence[Option]) -> list[Option]:
    """Return the options that work, the best first."""
    return sorted((option for option in options if option.works), key=lambda option: order(option, wish))


def missing(option: Option) -> tuple[Any, ...]:
    """Order options by how much they lack, the least first."""
    fit = option.fit
    return (fit is None, -(fit.cache.longest if fit else 0), -(fit.account.kv_cache_gib if fit else 0.0))


def closest(options: Sequence[Option]) -> Option:
    """Return the option that comes closest to working, for a sentence on what is missing."""
    return min(options, key=missing)
