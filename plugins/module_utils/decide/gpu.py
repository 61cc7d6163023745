# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decide how an instance runs on GPUs, of one host or of several. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import accepted, choice, kv_cache, placement
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.choice import Option, Place, Wish
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.explain import refusal
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.host_groups import across_hosts
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instances import Instance
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.memory import Engine
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.pools import Pool
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.refusal import Refused
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.rules import Broken
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.settings import (
    Settings,
    gpu_of,
    option,
    resolve,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.sizes import Sizes

FAST = ("nvlink", "xgmi")
NETWORK = "network"


@dataclass(frozen=True)
class Decision:
    """How an instance runs: the option taken, what was tried beside it, its GPUs by host.

    ``replicas`` counts independent copies of the option, beyond its own data parallel size.
    """

    option: Option
    options: tuple[Option, ...]
    pool: Pool
    settings: Settings
    devices: Mapping[str, tuple[int, ...]]
    replicas: int = 1
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ground:
    """The hosts of an engine: ``facts`` are gpu_facts by host, ``taken`` GPU indexes given away, by host.

    ``alone`` says that no other instance leaves its GPUs to the planner, so that replicas may take what is free.
    """

    facts: Mapping[str, Mapping[str, Any]]
    taken: Mapping[str, Collection[int]] = field(default_factory=dict)
    alone: bool = True

    @property
    def host(self) -> str:
        """The first host, which is the head of an engine over several."""
        return next(iter(self.facts))


def decide(instance: Instance, model: Mapping[str, Any], ground: Ground) -> Decision:
    """Decide for an instance. Raises :class:`Refused` when no layout works."""
    if len(ground.facts) > 1:
        # hosts without one GPU of the same kind are named here, and sizes that do not fit below
        across_hosts(ground.facts, len(ground.facts), 1, ground.taken)
    pools = _pools(instance, ground)
    tried, refused = [], []
    for pool in pools:
        try:
            tried.append(_on_pool(instance, model, ground, pool))
        except Refused as no:
            refused.append(no)
    if not tried:
        raise refused[0]
    working = [found for found in tried if found.option.works]
    if not working:
        best = min(tried, key=lambda found: choice.missing(found.option))
        raise refusal(instance, model, best.options, best.pool, best.settings)
    best = min(working, key=lambda found: found.option.sizes.gpus)
    return _with_replicas(instance, model, ground, best)


def _pools(instance: Instance, ground: Ground) -> Sequence[Pool]:
    facts, taken = ground.facts[ground.host], ground.taken.get(ground.host, ())
    if isinstance(instance.gpus, tuple):
        return [placement.explicit(facts, instance.gpus, taken)]
    found = placement.pools(facts, taken)
    if isinstance(instance.gpus, int):
        enough = [pool for pool in found if len(pool.devices) >= instance.gpus]
        if not enough:
            most = len(found[0].devices)
            raise Refused(
                f"{instance.gpus} GPUs of one kind are asked for and {most} are free",
                "too_few_gpus",
                (f"write 'gpus: {most}' or less", "use a host with more GPUs"),
            )
        return enough
    return found


def _wish(instance: Instance, model: Mapping[str, Any], settings: Settings) -> Wish:
    return Wish(
        model=model,
        length=instance.max_model_len,
        min_concurrency=instance.min_concurrency,
        objective=instance.objective,
        tensor_parallel_size=instance.tensor_parallel_size,
        pipeline_parallel_size=instance.pipeline_parallel_size,
        data_parallel_size=instance.data_parallel_size,
        enable_expert_parallel=instance.enable_expert_parallel,
        decode_context_parallel_size=instance.decode_context_parallel_size or 1,
        may_lower_sequences=not settings.chosen_seqs,
        sizes_written=bool(instance.tensor_parallel_size or instance.gpus != "auto"),
    )


def _on_pool(instance: Instance, model: Mapping[str, Any], ground: Ground, pool: Pool) -> Decision:
    """Try every size on GPUs of one kind; the option of the answer may be one that does not work."""
    facts = ground.facts[ground.host]
    nodes = len(ground.facts)
    settings = resolve(instance, model, pool, str(facts.get("accelerator")))
    wish = _wish(instance, model, settings)
    mixed_links = _has_fast_pairs(facts, pool)
    place = _across(ground) if nodes > 1 else _inside(facts, pool, mixed_links)

    def check(sizes: Sizes, engine: Engine) -> Sequence[Broken]:
        where = place(sizes) if sizes.tensor_parallel_size > 2 else None
        joined = where.fast_links if where else None
        return accepted.broken(model, sizes, engine, pool, instance, str(facts.get("accelerator")), joined)

    gpu = gpu_of(pool, True)
    most = len(pool.devices)
    exact = instance.gpus if isinstance(instance.gpus, int) else len(instance.gpus) if instance.gpus != "auto" else None
    counts = [exact] if exact else range(1, most + 1)
    options = []
    for count in counts:
        for sizes in choice.sizes_to_try(wish, most, count * nodes):
            if nodes > 1 and sizes.pipeline_parallel_size not in (1, nodes, instance.pipeline_parallel_size):
                continue
            options.append(choice.evaluate(wish, sizes, settings.engine, gpu, place, check, pool.name or ""))
    if not options:
        raise _no_size(instance, most * nodes, exact)
    best = choice.best(wish, options) or choice.closest(options)
    devices = _devices(ground, best) if best.works else {}
    return Decision(best, tuple(options), pool, settings, devices, warnings=pool.warnings)


def _no_size(instance: Instance, most: int, exact: int | None) -> Refused:
    asked = {
        "tensor_parallel_size": instance.tensor_parallel_size,
        "pipeline_parallel_size": instance.pipeline_parallel_size,
        "data_parallel_size": instance.data_parallel_size,
    }
    written = " x ".join(f"{name} {size}" for name, size in asked.items() if size)
    needed = 1
    for size in asked.values():
        needed *= size or 1
    if exact and written:
        return Refused(
            f"'gpus' gives it {exact} GPUs, and {written} does not use exactly these",
            "sizes_do_not_match_gpus",
            ("make the product of the sizes as many as the GPUs", "leave 'gpus' out"),
        )
    return Refused(
        f"{written or 'it'} needs {needed} GPUs of one kind and {most} are free",
        "too_few_gpus",
        (f"write sizes with a product of at most {most}", "use a host with more GPUs"),
    )


def _has_fast_pairs(facts: Mapping[str, Any], pool: Pool) -> bool:
    if len(pool.devices) < 2:
        return False
    return placement.groups(facts, pool, 2)[0].link_class in FAST


def _inside(facts: Mapping[str, Any], pool: Pool, fast_pairs: bool) -> choice.Placing:
    def place(sizes: Sizes) -> Place | None:
        stages = sizes.pipeline_parallel_size * sizes.data_parallel_size
        if sizes.tensor_parallel_size * stages > len(pool.devices):
            return None
        found = placement.staged_groups(facts, pool, sizes.tensor_parallel_size, stages)
        link = max((stage.link_class for stage in found.stages), key=_slowness)
        if sizes.enable_expert_parallel or sizes.data_parallel_size > 1:
            link = placement.describe(facts, found.devices).link_class
        slow = link not in (*FAST, "none")
        warnings = found.warnings if sizes.tensor_parallel_size > 1 else ()
        return Place(found.devices, link, not slow, slow and fast_pairs, warnings, found.stage_link_class)

    return place


SLOWNESS = ("none", "nvlink", "xgmi", "pcie_switch", "pcie_host", "pcie", "pcie_cross_numa", NETWORK)


def _slowness(link: str) -> int:
    return SLOWNESS.index(link) if link in SLOWNESS else len(SLOWNESS)


def _across(ground: Ground) -> choice.Placing:
    """Place an engine over all hosts, with equally many GPUs on each."""
    nodes = len(ground.facts)

    def place(sizes: Sizes) -> Place | None:
        each = sizes.gpus // nodes
        try:
            found = across_hosts(ground.facts, nodes, each, ground.taken)
        except Refused:
            return None
        inside = max((host.group.link_class for host in found), key=_slowness)
        spans = sizes.tensor_parallel_size > each or (sizes.data_parallel_size > 1 and sizes.enable_expert_parallel)
        # ranks that share layers or experts wait for one another; stages only hand over
        link = NETWORK if spans else inside if sizes.tensor_parallel_size > 1 else "none"
        warnings = tuple(dict.fromkeys(text for host in found for text in host.group.warnings))
        devices = tuple(device for host in found for device in host.group.devices)
        return Place(devices, link, link in (*FAST, "none"), spans, warnings, NETWORK, True)

    return place


def _devices(ground: Ground, best: Option) -> dict[str, tuple[int, ...]]:
    assert best.place is not None
    if len(ground.facts) == 1:
        return {ground.host: best.place.devices}
    found = across_hosts(ground.facts, len(ground.facts), best.sizes.gpus // len(ground.facts), ground.taken)
    by_host = {one.host: one.group.devices for one in found}
    return {host: by_host[host] for host in ground.facts}


def _with_replicas(instance: Instance, model: Mapping[str, Any], ground: Ground, found: Decision) -> Decision:
    """For throughput, run the engine on the other free GPUs too: each replica behind the same port.

    Dense models have independent replicas (v1/engine/core.py:1546-1555 of vLLM 0.33.0). A mixture of experts shares
    its experts among them, which only pays with whole experts on every rank.
    """
    best = found.option
    open_count = instance.gpus == "auto" and instance.data_parallel_size is None and not instance.shared_gpus
    if (
        best.fit is None
        or not open_count
        or not ground.alone
        or instance.objective != "throughput"
        or len(ground.facts) > 1
        or model.get("runner") == "pooling"
    ):
        return found
    count = len(found.pool.devices) // best.sizes.gpus
    if count < 2:
        return found
    facts = ground.facts[ground.host]
    fast_pairs = _has_fast_pairs(facts, found.pool)
    if model.get("is_moe"):
        return _with_shared_experts(instance, model, ground, found, count)
    sizes = replace(best.sizes, data_parallel_size=best.sizes.data_parallel_size * count)
    where = _inside(facts, found.pool, fast_pairs)(sizes)
    if where is None or best.place is None:
        return found
    wider = replace(best, place=replace(best.place, devices=where.devices))
    return replace(found, option=wider, devices={ground.host: where.devices}, replicas=count)


def _with_shared_experts(
    instance: Instance, model: Mapping[str, Any], ground: Ground, found: Decision, count: int
) -> Decision:
    """Try data parallel replicas that share their experts; keep them when each GPU then does more."""
    best = found.option
    wanted = replace(
        instance,
        tensor_parallel_size=best.sizes.tensor_parallel_size,
        pipeline_parallel_size=best.sizes.pipeline_parallel_size,
        data_parallel_size=best.sizes.data_parallel_size * count,
        enable_expert_parallel=True,
        gpus="auto",
    )
    if best.sizes.pipeline_parallel_size > 1:
        return found
    try:
        wider = _on_pool(wanted, model, ground, found.pool)
    except (Refused, kv_cache.Unknown):
        return found
    if not wider.option.works or not wider.option.estimate or not best.estimate:
        return found
    if wider.option.estimate.throughput_tokens_per_second <= best.estimate.throughput_tokens_per_second:
        return found
    return replace(wider, options=found.options)


def shared_utilization(instance: Instance) -> float | None:
    """Return the utilization of an instance that shares its GPUs, None for one that does not."""
    return float(option(instance, "gpu_memory_utilization") or 0) if instance.shared_gpus else None
