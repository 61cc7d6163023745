# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decide how an instance runs on GPUs, of one host or of several. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import (
    accepted,
    choice,
    placement,
    rating,
    space,
    targets,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.choice import Option, Place
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.decision import Decision, Part
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
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.space import Wish

FAST = ("nvlink", "xgmi")
NETWORK = "network"


@dataclass(frozen=True)
class Ground:
    """The hosts of an engine: ``facts`` are gpu_facts by host, ``taken`` GPU indexes given away, by host.

    ``part`` is what the instance has of the one host where others leave their GPUs open too, None for all that is free.
    """

    facts: Mapping[str, Mapping[str, Any]]
    taken: Mapping[str, Collection[int]] = field(default_factory=dict)
    part: Part | None = None

    @property
    def host(self) -> str:
        """The first host, which is the head of an engine over several."""
        return next(iter(self.facts))


def decide(instance: Instance, model: Mapping[str, Any], ground: Ground) -> Decision:
    """Decide for an instance. Raises :class:`Refused` when no layout works."""
    if len(ground.facts) > 1:
        # hosts without one GPU of the same kind are named here, and sizes that do not fit below
        across_hosts(ground.facts, len(ground.facts), 1, ground.taken)
    tried = on_pools(instance, model, ground)
    working = [found for found in tried if found.option.works]
    if not working:
        best = min(tried, key=lambda found: choice.missing(found.option))
        raise refusal(instance, model, best.options, best.pool, best.settings)
    by_speed = all(found.option.full for found in working)
    best = min(working, key=lambda found: choice.order(found.option, found.wish, by_speed))
    return replace(best, others=tuple(found.pool for found in tried if found is not best))


def on_pools(instance: Instance, model: Mapping[str, Any], ground: Ground) -> list[Decision]:
    """Decide on each kind of GPU that there is; the option of an answer may be one that does not work.

    Raises :class:`Refused` where no kind has sizes to try.
    """
    tried, refused = [], []
    for pool in _pools(instance, ground):
        try:
            tried.append(_on_pool(instance, model, ground, pool))
        except Refused as no:
            refused.append(no)
    if not tried:
        raise refused[0]
    return tried


def _pools(instance: Instance, ground: Ground) -> Sequence[Pool]:
    facts, taken = ground.facts[ground.host], ground.taken.get(ground.host, ())
    if isinstance(instance.gpus, tuple):
        return [placement.explicit(facts, instance.gpus, taken)]
    found = placement.pools(facts, taken)
    if ground.part:
        return [pool for pool in found if pool.kind == ground.part.kind]
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
    asked = instance.targets or {}
    return Wish(
        model=model,
        length=instance.max_model_len,
        min_concurrency=instance.min_concurrency,
        objective=instance.objective,
        tensor_parallel_size=instance.tensor_parallel_size,
        pipeline_parallel_size=instance.pipeline_parallel_size,
        data_parallel_size=instance.data_parallel_size,
        enable_expert_parallel=instance.enable_expert_parallel,
        decode_context_parallel_size=instance.decode_context_parallel_size,
        may_lower_sequences=not settings.chosen_seqs,
        sizes_written=bool(instance.tensor_parallel_size or instance.gpus != "auto"),
        # copies of a pooling model were not tried, and who shares a GPU is to leave the others alone
        replicated=model.get("runner") != "pooling" and not instance.shared_gpus,
        fewest=instance.shared_gpus,
        workload=rating.of(model, asked.get("prompt_tokens"), asked.get("answer_tokens")),
        assumed=not set(asked) & set(targets.LENGTHS),
        targets=asked or None,
    )


def _on_pool(instance: Instance, model: Mapping[str, Any], ground: Ground, pool: Pool) -> Decision:
    """Try every size on GPUs of one kind; the option of the answer may be one that does not work."""
    facts = ground.facts[ground.host]
    nodes = len(ground.facts)
    settings = resolve(instance, model, pool, str(facts.get("accelerator")))
    wish = _wish(instance, model, settings)
    place = _across(ground) if nodes > 1 else _inside(facts, pool)

    def check(sizes: Sizes, engine: Engine, copies: int) -> Sequence[Broken]:
        where = place(sizes, copies) if sizes.tensor_parallel_size > 2 else None
        joined = where.fast_links if where else None
        return accepted.broken(model, sizes, engine, pool, instance, str(facts.get("accelerator")), joined)

    gpu = gpu_of(pool, True)
    most = min(len(pool.devices), ground.part.most) if ground.part else len(pool.devices)
    exact = instance.gpus if isinstance(instance.gpus, int) else len(instance.gpus) if instance.gpus != "auto" else None
    if exact:
        most = exact

    known: dict[tuple[Sizes, Place | None], Option] = {}

    def evaluated(sizes: Sizes, copies: int) -> Option:
        """Copies that lie on links of one class are equal but for their number and their devices."""
        where = place(sizes, copies)
        key = sizes, replace(where, devices=(), warnings=()) if where else None
        if key not in known:
            known[key] = choice.evaluate(
                wish, sizes, settings.engine, gpu, lambda *_: where, check, pool.name or "", copies
            )
            return known[key]
        return replace(known[key], place=where if known[key].place else None, replicas=copies)

    def tried(sizes: Sizes) -> Iterator[Option]:
        for copies in space.replicas(wish, sizes, most * nodes):
            count, groups = sizes.gpus * copies, sizes.data_parallel_size * copies
            # as many GPUs on each host, and no replica that spans hosts beside others
            even = count % nodes == 0 and (groups == 1 or groups % nodes == 0 or bool(instance.data_parallel_size))
            if even and exact in (None, count // nodes):
                yield evaluated(sizes, copies)

    shapes = [sizes for sizes in space.shapes(wish, most * nodes) if _over_hosts(instance, sizes, nodes)]
    options = [option for sizes in shapes for option in tried(sizes)]
    if not options:
        raise _no_size(instance, most * nodes, exact)
    longest = instance.max_model_len or int(model.get("max_model_len") or 0)
    if not any(option.works and choice.context(option, wish) >= longest for option in options):
        spread = [option for sizes in shapes for more in space.with_contexts(wish, sizes) for option in tried(more)]
        options += [option for option in spread if option.works]
    options = [choice.aimed(option, wish) for option in options]
    found = choice.ranked(wish, options)
    best = choice.bounded(found[0], wish, gpu) if found else choice.closest(options)
    devices = _devices(ground, best) if best.works else {}
    return Decision(best, tuple(options), pool, settings, devices, wish, warnings=pool.warnings)


def _over_hosts(instance: Instance, sizes: Sizes, nodes: int) -> bool:
    """Whether sizes can be spread over hosts: pipeline stages are as many as the hosts, or one, or as written."""
    return nodes == 1 or sizes.pipeline_parallel_size in (1, nodes, instance.pipeline_parallel_size)


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


def _inside(facts: Mapping[str, Any], pool: Pool) -> choice.Placing:
    @cache
    def staged(tensor: int, stages: int) -> placement.StagedGroup:
        return placement.staged_groups(facts, pool, tensor, stages)

    @cache
    def place(sizes: Sizes, replicas: int) -> Place | None:
        stages = sizes.pipeline_parallel_size * sizes.data_parallel_size * replicas
        if sizes.tensor_parallel_size * stages > len(pool.devices):
            return None
        found = staged(sizes.tensor_parallel_size, stages)
        link = max((stage.link_class for stage in found.stages), key=_slowness)
        if sizes.enable_expert_parallel or sizes.data_parallel_size > 1:
            link = placement.describe(facts, found.devices).link_class
        warnings = found.warnings if sizes.tensor_parallel_size > 1 else ()
        return Place(found.devices, link, link in (*FAST, "none"), warnings, found.stage_link_class)

    return place


SLOWNESS = ("none", "nvlink", "xgmi", "pcie_switch", "pcie_host", "pcie", "pcie_cross_numa", NETWORK)


def _slowness(link: str) -> int:
    return SLOWNESS.index(link) if link in SLOWNESS else len(SLOWNESS)


def _across(ground: Ground) -> choice.Placing:
    """Place an engine over all hosts, with equally many GPUs on each."""
    nodes = len(ground.facts)

    @cache
    def place(sizes: Sizes, replicas: int) -> Place | None:
        each = sizes.gpus * replicas // nodes
        try:
            found = across_hosts(ground.facts, nodes, each, ground.taken)
        except Refused:
            return None
        inside = max((host.group.link_class for host in found), key=_slowness)
        if replicas % nodes == 0:
            spans = False
        else:
            spans = sizes.tensor_parallel_size > each or (sizes.data_parallel_size > 1 and sizes.enable_expert_parallel)
        # ranks that share layers or experts wait for one another; stages only hand over
        link = NETWORK if spans else inside if sizes.tensor_parallel_size > 1 else "none"
        warnings = tuple(dict.fromkeys(text for host in found for text in host.group.warnings))
        devices = tuple(device for host in found for device in host.group.devices)
        between = inside if replicas % nodes == 0 else NETWORK
        return Place(devices, link, link in (*FAST, "none"), warnings, between)

    return place


def _devices(ground: Ground, best: Option) -> dict[str, tuple[int, ...]]:
    assert best.place is not None
    if len(ground.facts) == 1:
        return {ground.host: best.place.devices}
    found = across_hosts(ground.facts, len(ground.facts), best.gpus // len(ground.facts), ground.taken)
    by_host = {one.host: one.group.devices for one in found}
    return {host: by_host[host] for host in ground.facts}


def shared_utilization(instance: Instance) -> float | None:
    """Return the utilization of an instance that shares its GPUs, None for one that does not."""
    return float(option(instance, "gpu_memory_utilization") or 0) if instance.shared_gpus else None
