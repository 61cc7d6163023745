# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Say why a layout is what it is, each sentence a predicate over the numbers of the plan. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import asdict

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import choice, kv_cache, memory
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.choice import Option
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.decision import Decision
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instances import Instance
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.memory import Engine, Fit
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.pools import Pool
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.refusal import Refused
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.settings import Settings
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.space import Wish
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.findings import gpus_named

# Predictions of the KV cache are off by this much at most in nine of ten cases (make accuracy).
CLOSE = 0.08


def named(sizes: Sizes, replicas: int = 1) -> str:
    """Name sizes as a person writes them."""
    parts = [f"tensor_parallel_size {sizes.tensor_parallel_size}"]
    if sizes.pipeline_parallel_size > 1:
        parts.append(f"pipeline_parallel_size {sizes.pipeline_parallel_size}")
    if sizes.data_parallel_size * replicas > 1:
        parts.append(f"data_parallel_size {sizes.data_parallel_size * replicas}")
    if sizes.enable_expert_parallel:
        parts.append("enable_expert_parallel")
    if sizes.decode_context_parallel_size > 1:
        parts.append(f"decode_context_parallel_size {sizes.decode_context_parallel_size}")
    return ", ".join(parts)


def of(option: Option) -> str:
    """Name the sizes of an option with its replicas."""
    return named(option.sizes, option.replicas)


def reasons(
    instance: Instance, wish: Wish, option: Option, options: Sequence[Option], settings: Settings, pool: Pool
) -> list[str]:
    """Say why an option was taken of ``options``, and what its memory account is."""
    sizes, fit, engine = option.sizes, option.fit, option.engine
    assert engine is not None and option.place is not None
    found = _sizes_reasons(instance, wish, option, options, pool)
    if sizes.tensor_parallel_size > 1 and option.place.link:
        found.append(f"The ranks of a tensor parallel group talk over {_link(option.place.link)}.")
    if fit is None:
        return found
    if option.replicas > 1:
        each = f"{sizes.gpus} GPU{'' if sizes.gpus == 1 else 's'}"
        found.append(f"{option.replicas} replicas of {each} each behind one port.")
    found.append(_memory_reason(engine, fit.account))
    if math.isfinite(fit.cache.concurrency):
        whose = " of each replica" if option.replicas > 1 else ""
        found.append(
            f"The KV cache{whose} holds {fit.cache.tokens} tokens: {fit.cache.concurrency:.2f} requests of "
            f"{fit.max_model_len} tokens at once."
        )
    if option.goal and engine.max_num_seqs == option.goal.requests < option.held:
        found.append(
            f"max_num_seqs {engine.max_num_seqs} of {option.held} that the KV cache holds: with more at once a latency "
            "that is asked for would be missed (estimate)."
        )
    elif engine.max_num_seqs < settings.engine.max_num_seqs:
        found.append(
            f"max_num_seqs {engine.max_num_seqs} instead of {settings.engine.max_num_seqs}: what sampling and CUDA "
            "graphs take grows with it, and here the KV cache needs it."
        )
    if pool.left_out:
        found.append(f"Not used: {'; '.join(pool.left_out)}.")
    return found


def _sizes_reasons(instance: Instance, wish: Wish, option: Option, options: Sequence[Option], pool: Pool) -> list[str]:
    found = []
    written = [
        f"{name} {value}"
        for name, value in (
            ("tensor_parallel_size", instance.tensor_parallel_size),
            ("pipeline_parallel_size", instance.pipeline_parallel_size),
            ("data_parallel_size", instance.data_parallel_size),
        )
        if value
    ]
    if instance.gpus != "auto":
        written.append(gpus_named(instance.gpus) if isinstance(instance.gpus, tuple) else f"gpus {instance.gpus}")
    if written:
        found.append(f"{', '.join(written)}: as written.")
    if option.fit is None:
        return found
    if len(options) > 1:
        found.append(f"{of(option)}: {_comparison(instance, wish, option, options, pool)}.")
    if option.full and option.single:
        found.append(_speed(wish, option))
    dearer = _shorter_and_faster(wish, option, options)
    if dearer:
        found.append(
            f"{of(dearer)} would give {dearer.tokens_per_second:.0f} tokens per second and hold "
            f"{choice.context(dearer, wish)} tokens only; write max_model_len where that is enough."
        )
    return found


def _holding(wish: Wish, option: Option, options: Sequence[Option]) -> list[Option]:
    """The best option of each size that holds as long a context, but for the size that was taken."""
    length = choice.context(option, wish)
    best: dict[Sizes, Option] = {}
    for other in choice.ranked(wish, options):
        if other.sizes != option.sizes and choice.context(other, wish) == length:
            best.setdefault(other.sizes, other)
    return list(best.values())


def _comparison(instance: Instance, wish: Wish, option: Option, options: Sequence[Option], pool: Pool) -> str:
    """Say what the option is better in than the rest; every number is the plan's own."""
    others = _holding(wish, option, options)
    context = _context(wish, option)
    if not others:
        return f"of {len({one.sizes for one in options})} sizes that were tried the only one that holds {context}"
    several = f"of {len(others) + 1} sizes that hold {context}"
    if instance.shared_gpus:
        return f"{several}, on as few GPUs as any, since it shares them"
    next_one = others[0]
    if option.full is None or option.single is None:
        requests = option.held * option.sizes.data_parallel_size * option.replicas
        return f"{several}, the most requests at once ({requests}); the speed of {pool.name or 'this GPU'} is not known"
    if wish.targets:
        if option.goal is None or next_one.goal is None:
            return f"{several}, one whose speed is known"
        if not option.goal.quick:
            return f"{several}, the one that misses the latencies that are asked for by the least"
        if not next_one.goal.quick:
            return f"{several}, the only one that keeps the latencies that are asked for (estimate)"
        return (
            f"{several}, the most requests per second within the targets: {option.goal.per_second:.1f}, and "
            f"{next_one.goal.per_second:.1f} with {of(next_one)} (estimate)"
        )
    if wish.objective == choice.LATENCY:
        assert next_one.single is not None
        return (
            f"{several}, the shortest time for one request: {option.single.request_ms:.0f} ms, and "
            f"{next_one.single.request_ms:.0f} with {of(next_one)} (estimate)"
        )
    return (
        f"{several}, the most tokens per second: {option.tokens_per_second:.0f}, and "
        f"{next_one.tokens_per_second:.0f} with {of(next_one)} (estimate)"
    )


def _context(wish: Wish, option: Option) -> str:
    length = choice.context(option, wish)
    times = f" {wish.min_concurrency:g} times" if wish.min_concurrency > 1 else ""
    if wish.length is None and length < int(wish.model.get("max_model_len") or 0):
        return f"{length} tokens{times}, the most that any does"
    return f"a request of {length} tokens{times}"


def _speed(wish: Wish, option: Option) -> str:
    assert option.full is not None and option.single is not None
    load = option.full.workload
    assumed = ", which is assumed" if wish.assumed else ""
    kind = f"prompts of {load.prompt_tokens} tokens" + (
        f" and answers of {load.answer_tokens}" if load.answer_tokens else ""
    )
    alone = (
        f"{1000 / option.single.served.tpot_ms:.0f} tokens per second for one request alone"
        if load.answer_tokens
        else f"{option.single.request_ms:.0f} ms for one request alone"
    )
    at_once = option.full.requests * option.replicas
    in_all = f"{option.tokens_per_second:.0f} tokens per second in all with {at_once} requests at once"
    served = option.full.served
    factor = (served.high / served.low) ** 0.5
    rests = f"Rests on: {served.source}; four of five measurements lie within a factor of {factor:.3g}."
    return f"Estimate for {kind}{assumed}: {alone}, {in_all}. {rests}"


def _shorter_and_faster(wish: Wish, option: Option, options: Sequence[Option]) -> Option | None:
    """The fastest option that holds a shorter context than the one taken, where it is faster than that."""
    if wish.length is not None or option.tokens_per_second is None or wish.objective != choice.THROUGHPUT:
        return None
    length = choice.context(option, wish)
    shorter = [one for one in options if one.works and one.tokens_per_second and choice.context(one, wish) < length]
    fastest = max(shorter, key=lambda one: choice.score(one, wish.objective), default=None)
    if fastest is None or choice.score(fastest, wish.objective) <= choice.score(option, wish.objective):
        return None
    return fastest


def _memory_reason(engine: Engine, account: memory.Account) -> str:
    graphs = account.cuda_graphs_gib if engine.subtracts_cuda_graphs else 0.0
    return (
        f"Of the {account.budget_gib:.1f} GiB that vLLM may use of each GPU, weights take {account.weights_gib:.1f}, "
        f"activation {account.activation_gib:.1f}, CUDA graphs {graphs:.1f}, memory outside of PyTorch "
        f"{account.non_torch_gib:.1f}; {account.kv_cache_gib:.1f} are left for the KV cache (predicted)."
    )


def _link(name: str) -> str:
    return {
        "nvlink": "NVLink",
        "xgmi": "Infinity Fabric",
        "pcie_switch": "PCIe, through a switch",
        "pcie_host": "PCIe, through the processor",
        "pcie_cross_numa": "PCIe, and the link between the processors",
        "pcie": "PCIe (assumed)",
        "network": "the network between the hosts",
    }.get(name, name)


def idle(instance: Instance, decision: Decision, unused: Sequence[int]) -> list[str]:
    """Say why nobody uses the ``unused`` GPUs of the kind that an instance runs on, or some of another kind."""
    wish, option = decision.wish, decision.option
    if not unused:
        return []
    several = len(unused) > 1
    if instance.tensor_parallel_size and instance.data_parallel_size:
        why = "the sizes that are written use the others only"
    elif not wish.replicated:
        why = "replicas of a pooling model on one host are not planned"
    elif option.full is None:
        why = f"no layout of this model with {'them' if several else 'it'} holds more requests at once"
    else:
        what = "is faster for one request" if wish.objective == choice.LATENCY else "gives more tokens per second"
        why = f"no layout of this model with {'them' if several else 'it'} {what} (estimate)"
    return [f"{gpus_named(unused)} stay{'' if several else 's'} idle: {why}."]


def other_kinds(pools: Sequence[Pool], closed: Collection[int]) -> list[str]:
    """Say why GPUs of other kinds than the one taken are not used."""
    found = []
    for pool in pools:
        unused = [index for index in pool.devices if index not in closed]
        if unused:
            verb, are = ("stays", "it is") if len(unused) == 1 else ("stay", "they are")
            found.append(
                f"{gpus_named(unused)} ({pool.name or 'unnamed'}) {verb} idle: {are} of another kind, and an engine "
                "and its replicas have GPUs of one."
            )
    return found


def warnings(instance: Instance, option: Option) -> list[str]:
    """Say what may go wrong with an option that was taken."""
    said = (*option.warnings, *(option.place.warnings if option.place else ()))
    found = [Refused(one.rstrip("."), "").sentence() for one in said]
    fit = option.fit
    asked = instance.max_model_len
    if fit and asked and math.isfinite(fit.cache.concurrency) and fit.cache.longest < asked * (1 + CLOSE):
        found.append(
            f"The KV cache holds max_model_len {asked} with less to spare than predictions are off by; it may turn out "
            "too small when vLLM starts."
        )
    return found


def capacity(cache: kv_cache.Cache) -> tuple[int | None, float | None]:
    """Give tokens and concurrency as vLLM logs them; None each for a model without a KV cache."""
    if math.isinf(cache.concurrency):
        return None, None
    return cache.tokens, round(cache.concurrency, 2)


def account_of(fit: Fit) -> dict[str, float]:
    """Give the memory account of the poorest rank in GiB, rounded to 1/1000."""
    return {key: round(value, 3) for key, value in asdict(fit.account).items()}
