# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Choose the parallel sizes of one engine: try every size, keep what vLLM accepts and what fits, take the best. Pure.

For ``throughput`` the fewest GPUs that fit, since replicas on the others serve more than a wider engine; for
``latency`` the widest group that still gains. Where nothing fits: a shorter context, then quantization, then more GPUs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Optional

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import kv_cache, memory, speed
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.memory import Engine, Fit, Gpu
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules import Broken
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes

# With max_model_len left open, a context shorter than this is not worth a layout with fewer GPUs.
USEFUL_TOKENS = 8192
# A KV cache is useful when it holds this many requests of the asked length, or of USEFUL_TOKENS if that is less.
USEFUL_REQUESTS = 3
# Sequences at once that a full GPU falls back to when max_num_seqs was left open: the sampler and the CUDA graphs
# then leave more for the KV cache.
FEWER_SEQUENCES = (64, 16)
# Speed is estimated for requests of this many tokens: one alone, and as many as the KV cache holds.
LOAD_TOKENS = 2048
# A wider group has to shorten a token by this much to be worth its GPUs.
LATENCY_GAIN = 0.10
# Utilizations above this leave too little for what vLLM takes outside of its budget.
MOST_UTILIZATION = 0.97


@dataclass(frozen=True)
class Wish:
    """What is asked of an engine. Sizes that are None are open; ``length`` None asks for the longest that fits."""

    model: Mapping[str, Any]
    length: int | None
    min_concurrency: float
    objective: str
    tensor_parallel_size: int | None = None
    pipeline_parallel_size: int | None = None
    data_parallel_size: int | None = None
    enable_expert_parallel: bool | None = None
    decode_context_parallel_size: int = 1
    may_lower_sequences: bool = True
    sizes_written: bool = False


@dataclass(frozen=True)
class Place:
    """Where an engine of some sizes would lie.

    ``link`` is the class of the worst link inside a tensor parallel group, ``stage_link`` that between stages.
    ``crosses_pcie`` says that the group leaves a faster link domain that the host has.
    """

    devices: tuple[int, ...]
    link: str | None
    fast_links: bool
    crosses_pcie: bool
    warnings: tuple[str, ...] = ()
    stage_link: str = "none"
    several_hosts: bool = False


@dataclass(frozen=True)
class Option:
    """One way to run an engine, and why it cannot when ``refusal`` says so."""

    sizes: Sizes
    place: Place | None = None
    engine: Engine | None = None
    fit: Fit | None = None
    estimate: speed.Estimate | None = None
    refusal: str | None = None
    rule: str = ""
    remedies: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    warned: frozenset[str] = frozenset()

    @property
    def works(self) -> bool:
        """Whether vLLM would start it and hold the asked length."""
        return self.refusal is None

    def useful(self, length: int | None) -> bool:
        """Whether its KV cache holds a few requests at once, not just the one that has to fit."""
        if not self.works or self.fit is None:
            return self.works
        cache = self.fit.cache
        return math.isinf(cache.concurrency) or cache.tokens >= USEFUL_REQUESTS * min(
            length or USEFUL_TOKENS, USEFUL_TOKENS
        )


Placing = Callable[[Sizes], Optional[Place]]
Checking = Callable[[Sizes, Engine], Sequence[Broken]]


def sizes_to_try(wish: Wish, most: int, exactly: int | None = None) -> Iterator[Sizes]:
    """Give the sizes that use up to ``most`` GPUs, or ``exactly`` that many, fewest first.

    Data parallel sizes are tried for mixtures of experts alone, which share their experts, and not together with
    stages. Replicas of other models are independent, and added afterwards.
    """
    moe = bool(wish.model.get("is_moe"))
    for count in [exactly] if exactly else range(1, most + 1):
        for tensor in range(count, 0, -1):
            for stages in range(1, count // tensor + 1):
                ranks, rest = divmod(count, tensor * stages)
                if rest or (ranks > 1 and not wish.data_parallel_size and (not moe or stages > 1)):
                    continue
                for experts in _expert_choices(wish, moe, tensor * ranks, ranks):
                    made = Sizes(tensor, stages, ranks, experts, wish.decode_context_parallel_size)
                    if _as_written(wish, made):
                        yield made


def _expert_choices(wish: Wish, moe: bool, spread: int, ranks: int) -> Sequence[bool]:
    if wish.enable_expert_parallel is not None:
        return (wish.enable_expert_parallel,)
    # a tensor parallel size that was written is judged as it stands, without experts being spread to rescue it
    if not moe or spread == 1 or (ranks == 1 and wish.tensor_parallel_size):
        return (False,)
    return (True,) if ranks > 1 else (False, True)


def _as_written(wish: Wish, sizes: Sizes) -> bool:
    return all(
        written is None or written == size
        for written, size in (
            (wish.tensor_parallel_size, sizes.tensor_parallel_size),
            (wish.pipeline_parallel_size, sizes.pipeline_parallel_size),
            (wish.data_parallel_size, sizes.data_parallel_size),
        )
    )


def evaluate(wish: Wish, sizes: Sizes, engine: Engine, gpu: Gpu, place: Placing, check: Checking, name: str) -> Option:
    """Try one size. ``name`` is the GPU's, for the estimate of speed."""
    broken = check(sizes, engine)
    refusals = [one for one in broken if one.severity == "refuse"]
    if refusals:
        first = refusals[0]
        reasons = " and ".join(dict.fromkeys(one.reason for one in refusals))
        return Option(
            sizes,
            refusal=reasons,
            rule=first.rule_id,
            remedies=tuple(dict.fromkeys(remedy for one in refusals for remedy in one.remedies)),
        )
    where = place(sizes)
    if where is None:
        return Option(sizes, refusal="there is no group of GPUs for it", rule="no_group")
    warnings = tuple(one.reason for one in broken if one.severity != "refuse") + where.warnings
    warned = frozenset(one.rule_id for one in broken)
    there = replace(gpu, fast_links=where.fast_links)
    try:
        tried = _fitted(Option(sizes, where, engine, warnings=warnings, warned=warned), wish, there)
    except kv_cache.Unknown as unknown:
        # sizes that a person wrote are taken without an account
        if not wish.sizes_written:
            raise
        said = (*warnings, f"{unknown} is not known, so neither memory nor speed could be planned")
        return Option(sizes, where, engine, warnings=said, warned=warned)
    for sequences in _fewer_sequences(wish, tried):
        if tried.useful(wish.length):
            break
        smaller = replace(engine, max_num_seqs=sequences)
        tried = _fitted(Option(sizes, where, smaller, warnings=warnings, warned=warned), wish, there)
    if not tried.works or tried.fit is None:
        return tried
    return replace(tried, estimate=_estimate(wish, tried, name))


def _fewer_sequences(wish: Wish, tried: Option) -> Sequence[int]:
    """Give lower values of max_num_seqs to try, where vLLM would start with its own default.

    What it would refuse is refused here as well, with the remedy, rather than mended unasked.
    """
    starts = tried.works or (wish.length is None and tried.rule == "kv_cache_too_small")
    if not wish.may_lower_sequences or not starts or tried.engine is None:
        return ()
    return [fewer for fewer in FEWER_SEQUENCES if fewer < tried.engine.max_num_seqs]


def _fitted(option: Option, wish: Wish, gpu: Gpu) -> Option:
    engine, sizes = option.engine, option.sizes
    assert engine is not None
    fit = memory.fit(wish.model, sizes, engine, gpu, wish.length, min_concurrency=wish.min_concurrency)
    option = replace(option, fit=fit)
    problem = memory.start_problem(wish.model, sizes, engine, gpu, fit.account)
    if problem:
        return replace(option, refusal=problem.reason, rule=problem.rule, remedies=problem.remedies)
    account = fit.account
    if account.kv_cache_gib <= 0:
        return replace(
            option,
            rule="out_of_memory",
            refusal=(
                f"{account.weights_gib:.1f} GiB of weights and {memory.rest_gib(engine, account):.1f} GiB for the rest "
                f"do not fit the {account.budget_gib:.1f} GiB that vLLM may use of each GPU"
            ),
        )
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


def _estimate(wish: Wish, option: Option, name: str) -> speed.Estimate | None:
    assert option.engine is not None and option.fit is not None and option.place is not None
    length = min(LOAD_TOKENS, option.fit.max_model_len)
    cache = option.fit.cache
    held = option.engine.max_num_seqs if math.isinf(cache.concurrency) else cache.tokens // length
    settings: dict[str, Any] = {
        "context_tokens": length,
        "account": option.fit.account,
        "kv_bytes": option.engine.kv_bytes,
        "stage_link": option.place.stage_link,
        "enforce_eager": option.engine.enforce_eager,
    }
    ranks = option.sizes.data_parallel_size
    full = max(1, min(option.engine.max_num_seqs, held)) * ranks
    alone = speed.estimate(wish.model, option.sizes, name, option.place.link, batch=1, **settings)
    loaded = speed.estimate(wish.model, option.sizes, name, option.place.link, batch=full, **settings)
    if alone is None or loaded is None:
        return None
    return replace(alone, throughput_tokens_per_second=loaded.throughput_tokens_per_second)


def _class(option: Option, length: int | None) -> tuple[bool, ...]:
    """Order kinds of options, the best least.

    Experts evenly spread before unevenly; tensor parallel groups that stay in their link domain before those that leave
    it; one stage before several, but for an engine over several hosts; a useful KV cache before one that just fits.
    """
    place, sizes = option.place, option.sizes
    spread = sizes.tensor_parallel_size * sizes.data_parallel_size
    crosses = bool(place and place.crosses_pcie and spread > 1)
    staged = sizes.pipeline_parallel_size > 1 and bool(place and not place.several_hosts)
    return "ep_experts_uneven" in option.warned, crosses, staged, not option.useful(length)


def _score(option: Option) -> tuple[Any, ...]:
    """Order options of one kind and GPU count, the best least: speed, then room."""
    estimate, fit = option.estimate, option.fit
    speed_of = -estimate.throughput_tokens_per_second if estimate else 0.0
    return (
        speed_of,
        option.sizes.pipeline_parallel_size,
        -(fit.cache.tokens if fit else 0),
        option.sizes.data_parallel_size,
        option.sizes.enable_expert_parallel,
    )


def best_for_throughput(options: Sequence[Option], length: int | None) -> Option | None:
    """Return the best option with the fewest GPUs, of the best kind of option that there is."""
    working = [option for option in options if option.works]
    return min(working, key=lambda option: (_class(option, length), option.sizes.gpus, _score(option)), default=None)


def best_for_latency(options: Sequence[Option], length: int | None) -> Option | None:
    """Return the widest option that still shortens a token by LATENCY_GAIN over the next narrower one."""
    single = [option for option in options if option.works and option.sizes.data_parallel_size == 1]
    kind = min((_class(option, length) for option in single), default=None)
    working = sorted(
        (option for option in single if _class(option, length) == kind),
        key=lambda option: (option.sizes.gpus, _decode_ms(option), _score(option)),
    )
    best = working[0] if working else None
    for option in working[1:]:
        assert best is not None
        if option.sizes.gpus > best.sizes.gpus and _decode_ms(option) <= _decode_ms(best) * (1 - LATENCY_GAIN):
            best = option
    return best or best_for_throughput(options, length)


def _decode_ms(option: Option) -> float:
    return option.estimate.decode_ms if option.estimate else math.inf


def best(wish: Wish, options: Sequence[Option]) -> Option | None:
    """Return the best option for what is asked, None when none works."""
    choose = best_for_latency if wish.objective == "latency" else best_for_throughput
    return choose(options, wish.length)


def missing(option: Option) -> tuple[Any, ...]:
    """Order options by how much they lack, the least first."""
    fit = option.fit
    return (fit is None, -(fit.cache.longest if fit else 0), -(fit.account.kv_cache_gib if fit else 0.0))


def closest(options: Sequence[Option]) -> Option:
    """Return the option that comes closest to working, for a sentence on what is missing."""
    return min(options, key=missing)
