# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decide how each instance of a host is run: sizes, devices, options and environment of vllm serve. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide import (
    accepted,
    agreement,
    alternatives,
    as_run,
    cpu,
    engine_versions,
    gpu,
    kept,
    kv_cache,
    reasons,
    remedies,
    targets,
    together,
)
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.decision import Decision, Part
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instances import Instance
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.instances import arguments as instance_arguments
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.pools import Kind
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.refusal import Refused
from ansible_collections.gpufleet.vllm.plugins.module_utils.observe.state import GPU_LOST, READY

# What instances that share a GPU may take of it together: the rest is for what vLLM takes outside of its budget.
SHARED_MOST = 0.95


@dataclass
class Layout:
    """How one instance runs. Sizes are counts of ranks; ``devices`` are GPU indexes on this host.

    ``ports`` are those that it listens on here and that were chosen before. ``together`` is what keeps the hosts of an
    engine over several together: the ``port`` on the head where they meet, and a digest of their ``agreement``; None on
    one host.
    """

    name: str
    unit: str
    model: str
    model_source: str | None
    origin: str
    revision: str
    host: str
    port: int
    accelerator: str
    engine_version: str | None = None
    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    data_parallel_size: int = 1
    enable_expert_parallel: bool = False
    decode_context_parallel_size: int = 1
    nodes: list[dict[str, Any]] = field(default_factory=list)
    node_rank: int = 0
    together: dict[str, Any] | None = None
    ports: list[int] = field(default_factory=list)
    devices: list[int] = field(default_factory=list)
    start_after: list[str] = field(default_factory=list)
    dtype: str | None = None
    max_model_len: int | None = None
    memory: dict[str, float] | None = None
    assumed: dict[str, Any] | None = None
    kv_cache_tokens: int | None = None
    max_concurrency: float | None = None
    estimate: dict[str, Any] | None = None
    targets: dict[str, Any] | None = None
    serve_args: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    reasons: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    alternatives: list[dict[str, Any]] = field(default_factory=list)
    rejected: dict[str, Any] | None = None

    def reject(self, refused: Refused) -> None:
        """Turn the layout into a refusal."""
        self.rejected = {
            "reason": refused.reason,
            "rule": refused.rule,
            "remedies": list(refused.remedies),
            "sentence": f"{self.name}: {refused.sentence()}",
        }


@dataclass
class Free:
    """What of the hosts is given away: whole GPUs, and shares of GPUs that instances agreed to share, by host.

    ``decisions`` are those that gave them away, by the name of the instance.
    """

    taken: dict[str, set[int]] = field(default_factory=dict)
    shared: dict[str, dict[int, list[tuple[str, float]]]] = field(default_factory=dict)
    decisions: dict[str, Decision] = field(default_factory=dict)

    def closed_to(self, host: str, utilization: float | None) -> set[int]:
        """Return the GPUs that an instance cannot have; ``utilization`` is what it wants of a shared one, or None."""
        closed = set(self.taken.get(host, ()))
        for device, holders in self.shared.get(host, {}).items():
            # rounded: 0.45 + 0.5 is a hair more than 0.95
            if utilization is None or round(sum(part for _, part in holders) + utilization, 6) > SHARED_MOST:
                closed.add(device)
        return closed

    def give(self, host: str, devices: Collection[int], name: str, utilization: float | None) -> list[str]:
        """Give GPUs away; returns the names of the instances that already share them."""
        if utilization is None:
            self.taken.setdefault(host, set()).update(devices)
            return []
        before: list[str] = []
        for device in devices:
            holders = self.shared.setdefault(host, {}).setdefault(device, [])
            before.extend(holder for holder, _ in holders)
            holders.append((name, utilization))
        return list(dict.fromkeys(before))


def _text(value: object) -> str:
    # YAML's true is what vLLM's environment reads as 1
    return str(int(value)) if isinstance(value, bool) else str(value)


def _plain_arguments(instance: Instance, revision: str) -> dict[str, Any]:
    """Options that are passed on as they were written."""
    arguments: dict[str, Any] = {
        "model": instance.model,
        "served-model-name": [instance.name],
        "host": instance.host,
        "port": instance.port,
        "revision": revision if instance.origin == "hub" else None,
        **instance_arguments(instance),
    }
    return {key: value for key, value in arguments.items() if value is not None}


def _on_cpu(
    layout: Layout, instance: Instance, model: Mapping[str, Any], facts: Mapping[str, Mapping[str, Any]], peers: int
) -> dict[str, str]:
    """Decide on the cores of a host or of several; returns the binding of the ranks on each."""
    if len(facts) > 1:
        instance = _over_cpus(layout, instance, len(facts))
    refused = next((one for one in accepted.on_cpu(model, instance) if one.severity == "refuse"), None)
    if refused:
        raise Refused(refused.reason, refused.rule_id, refused.remedies)
    plans = {host: cpu.plan(instance, model, there, peers, len(facts)) for host, there in facts.items()}
    # the ranks of an engine have caches of one size
    found = min(plans.values(), key=lambda one: one.kv_cache_gib)
    layout.tensor_parallel_size = instance.tensor_parallel_size or 1
    layout.serve_args["kv-cache-memory-bytes"] = int(found.kv_cache_gib * 1024**3)
    layout.max_model_len = instance.max_model_len or model.get("max_model_len")
    layout.dtype = model.get("dtype") if instance.dtype == "auto" else instance.dtype
    if found.cache:
        layout.kv_cache_tokens, layout.max_concurrency = reasons.capacity(found.cache)
    layout.reasons.extend(found.reasons)
    layout.warnings.extend(found.warnings)
    layout.nodes = [{"host": host, "devices": []} for host in facts]
    return {host: one.threads_bind for host, one in plans.items()}


def _over_cpus(layout: Layout, instance: Instance, hosts: int) -> Instance:
    """Settle the sizes of an engine over the cores of several hosts; what is left open is one rank on each."""
    if (instance.data_parallel_size or 1) > 1:
        raise Refused(
            "data_parallel_size over the cores of several hosts is not planned",
            "data_parallel_on_cpu",
            ("leave it out", "run an instance on each host"),
        )
    if instance.tensor_parallel_size is None:
        layout.reasons.append(f"tensor_parallel_size {hosts}, a rank on each host.")
        return replace(instance, tensor_parallel_size=hosts)
    ranks = instance.tensor_parallel_size * (instance.pipeline_parallel_size or 1)
    if ranks % hosts:
        raise Refused(
            f"{ranks} ranks cannot be spread evenly over {hosts} hosts, as vLLM wants them",
            "uneven_hosts",
            (f"write sizes whose product is a multiple of {hosts}",),
        )
    return instance


def _on_gpus(
    layout: Layout,
    instance: Instance,
    model: Mapping[str, Any],
    facts: Mapping[str, Mapping[str, Any]],
    free: Free,
    part: Part | None,
) -> None:
    share = gpu.shared_utilization(instance)
    taken = {host: free.closed_to(host, share) for host in facts}
    try:
        found = gpu.decide(instance, model, gpu.Ground(facts, taken, part))
    except kv_cache.Unknown as unknown:
        raise Refused(
            f"{unknown} is not known, so it cannot be planned",
            "unknown",
            unknown.remedies or ("name a model whose config.json says it, or write tensor_parallel_size",),
        ) from None
    except Refused as refused:
        if refused.rule == "no_gpu_free" and share is not None:
            raise _shares_full(share, free, next(iter(facts))) from None
        raise
    option, fit = found.option, found.option.fit
    sizes = option.sizes
    free.decisions[instance.name] = found
    layout.tensor_parallel_size = sizes.tensor_parallel_size
    layout.pipeline_parallel_size = sizes.pipeline_parallel_size
    layout.data_parallel_size = sizes.data_parallel_size * option.replicas
    layout.enable_expert_parallel = sizes.enable_expert_parallel
    layout.decode_context_parallel_size = sizes.decode_context_parallel_size
    _check_replicas(layout, len(facts))
    layout.nodes = [{"host": host, "devices": list(devices)} for host, devices in found.devices.items()]
    layout.devices = list(found.devices[next(iter(facts))])
    for host, devices in found.devices.items():
        layout.start_after.extend(free.give(host, devices, instance.name, share))
    layout.dtype = found.settings.dtype
    layout.max_model_len = fit.max_model_len if fit else instance.max_model_len or model.get("max_model_len")
    if fit:
        layout.memory = reasons.account_of(fit)
        layout.assumed = dict(fit.assumed)
        layout.kv_cache_tokens, layout.max_concurrency = reasons.capacity(fit.cache)
    layout.estimate = alternatives.estimate_of(option, found.wish)
    layout.reasons.extend(reasons.reasons(instance, found.wish, option, found.options, found.settings, found.pool))
    layout.warnings.extend(found.warnings)
    layout.warnings.extend(reasons.warnings(instance, option))
    if instance.targets:
        layout.targets = targets.report(instance.targets, option.goal)
        met, missed = targets.sentences(instance.targets, option.goal)
        layout.reasons.extend(met)
        layout.warnings.extend(missed)
    layout.alternatives = alternatives.alternatives(found.options, option, found.wish)
    _gpu_arguments(layout, instance, model, found)


def _shares_full(share: float, free: Free, host: str) -> Refused:
    """Say that the shares of a GPU would add up to too much, and what is left of the emptiest one."""
    held = {index: of for index, of in free.shared.get(host, {}).items() if index not in free.taken.get(host, ())}
    if not held:
        return Refused("every GPU of this host is given to an earlier instance", "no_gpu_free", ("remove one of them",))
    holders = min(held.values(), key=lambda of: (sum(part for _, part in of), of))
    left = round(SHARED_MOST - sum(part for _, part in holders), 2)
    others = " and ".join(f"{name} has {part:g}" for name, part in holders)
    return Refused(
        f"it asks for {share:g} of a GPU, {others}, and the shares of one GPU add up to {SHARED_MOST:g} at most",
        "no_gpu_free",
        (*((f"write gpu_memory_utilization: {left:g} or less",) if left > 0 else ()), "use a host with more GPUs"),
    )


def _gpu_arguments(layout: Layout, instance: Instance, model: Mapping[str, Any], found: Decision) -> None:
    option, engine, settings = found.option, found.option.engine, found.settings
    assert engine is not None
    arguments = layout.serve_args
    if layout.data_parallel_size > 1:
        arguments["data-parallel-size"] = layout.data_parallel_size
    if layout.enable_expert_parallel:
        arguments["enable-expert-parallel"] = True
    if layout.decode_context_parallel_size > 1:
        arguments["decode-context-parallel-size"] = layout.decode_context_parallel_size
    if option.fit and not instance.max_model_len and layout.max_model_len != model.get("max_model_len"):
        arguments["max-model-len"] = layout.max_model_len
        layout.reasons.append(
            f"max_model_len {layout.max_model_len} instead of the model's {model.get('max_model_len')}: the longest "
            "that fits with a little to spare."
        )
    if engine.max_num_seqs != settings.engine.max_num_seqs:
        arguments["max-num-seqs"] = engine.max_num_seqs
    if instance.dtype == "auto" and settings.dtype != "bfloat16" and model.get("dtype") != settings.dtype:
        arguments["dtype"] = settings.dtype
        layout.reasons.append(
            f"{settings.dtype}, because compute capability {found.pool.compute_capability} has no bfloat16"
            + (" and the model does not work in float16." if settings.dtype == "float32" else ".")
        )
    # nvidia-smi's order; CUDA's own default is fastest first.
    layout.environment["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    arguments.update(settings.arguments)
    layout.reasons.extend(settings.reasons)
    layout.warnings.extend(settings.warnings)
    if len(layout.nodes) == 1:
        _choose_devices(layout)


def _choose_devices(layout: Layout) -> None:
    """Name the GPUs to vLLM: as an option, or before there was one in its environment."""
    devices = ",".join(map(str, layout.devices))
    if engine_versions.of(layout.engine_version).argument_problem("device-ids"):
        layout.environment["CUDA_VISIBLE_DEVICES"] = devices
    else:
        layout.serve_args["device-ids"] = devices


def _for_node(layout: Layout, instance: Instance, rank: int) -> None:
    """Add what each host of an engine over several needs: vLLM's native start (engine/arg_utils.py:2390-2446)."""
    nodes = layout.nodes
    node, head = nodes[rank], nodes[0]
    layout.node_rank = rank
    layout.devices = node["devices"]
    arguments = layout.serve_args
    if layout.devices:
        _choose_devices(layout)
    arguments.update(
        {
            "nnodes": len(nodes),
            "node-rank": rank,
            "master-addr": head.get("address") or head["host"],
            "master-port": instance.master_port,
        }
    )
    if layout.data_parallel_size > 1:
        here = layout.data_parallel_size // len(nodes)
        arguments["data-parallel-size-local"] = here
        arguments["data-parallel-address"] = arguments["master-addr"]
        # vLLM's default would be the port of every engine
        arguments["data-parallel-rpc-port"] = instance.data_parallel_port
        if rank:
            # the head's would turn its balancing between the hosts off (entrypoints/cli/serve.py:99-105)
            arguments["data-parallel-start-rank"] = rank * here
    if rank:
        arguments["headless"] = True
        layout.ports = []
    else:
        layout.ports = [instance.port, instance.master_port, instance.meeting_port]
        if layout.data_parallel_size > 1:
            layout.ports.append(instance.data_parallel_port)
    if node.get("address"):
        layout.environment["VLLM_HOST_IP"] = node["address"]
    if instance.network_interface:
        layout.environment["NCCL_SOCKET_IFNAME"] = instance.network_interface
        layout.environment["GLOO_SOCKET_IFNAME"] = instance.network_interface


def _check(instance: Instance, model: Mapping[str, Any], facts: Mapping[str, Mapping[str, Any]]) -> None:
    if model.get("problem"):
        raise Refused(str(model["problem"]).rstrip("."), "model_unreadable")
    for host, found in facts.items():
        if found.get("state") not in (READY, GPU_LOST):
            where = "this host" if len(facts) == 1 else host
            message = str(found.get("message")).rstrip(".")
            raise Refused(f"the GPUs of {where} cannot be used: {message}", "gpus_not_ready")
    if len(facts) > 1 and isinstance(instance.gpus, tuple):
        raise Refused(
            "a list of GPUs is that of one host, and this engine runs on several",
            "gpus_of_several_hosts",
            (f"write how many it gets on each host (gpus: {len(instance.gpus)})",),
        )
    if len(facts) > 1 and instance.distributed_executor_backend == "ray":
        raise Refused(
            "an engine over several hosts is run by vLLM's own --nnodes here, which does not go with "
            "distributed_executor_backend ray",
            "ray_over_hosts",
            ("leave distributed_executor_backend out",),
        )
    if len(facts) > 1 and not instance.network_interface:
        raise Refused(
            "an engine over several hosts has to know the network interface that its ranks talk over",
            "network_interface_missing",
            ("write network_interface (as ip addr names it, the same on each host)",),
        )


def _check_replicas(layout: Layout, hosts: int) -> None:
    if layout.data_parallel_size > 1 and layout.data_parallel_size % hosts:
        raise Refused(
            f"{layout.data_parallel_size} replicas (data_parallel_size) on {hosts} hosts would need one that spans "
            "hosts, which is not planned",
            "replica_over_hosts",
            (f"write a data_parallel_size that is a multiple of {hosts}", "use replicas of one host each"),
        )


def _decided(
    layout: Layout,
    instance: Instance,
    model: Mapping[str, Any],
    facts: Mapping[str, Mapping[str, Any]],
    free: Free,
    peers: int,
    part: Part | None,
) -> dict[str, str]:
    """Decide on cores or on GPUs; returns the binding of the ranks on the cores of each host."""
    if layout.accelerator == "cpu":
        return _on_cpu(layout, instance, model, facts, peers)
    _on_gpus(layout, instance, model, facts, free, part)
    return {}


def _refusal(
    layout: Layout,
    instance: Instance,
    model: Mapping[str, Any],
    facts: Mapping[str, Mapping[str, Any]],
    free: Free,
    peers: int,
    part: Part | None,
) -> Refused | None:
    """Say why an entry would be refused, without giving anything away; None where it would not."""
    tried = replace(layout, serve_args={}, environment={}, reasons=[], warnings=[], nodes=[], start_after=[])
    left = Free(
        {host: set(devices) for host, devices in free.taken.items()},
        {host: {one: list(of) for one, of in shared.items()} for host, shared in free.shared.items()},
    )
    try:
        _check(instance, model, facts)
        _decided(tried, instance, model, facts, left, peers, part)
    except Refused as refused:
        return refused
    return None


def _rejected(layout: Layout, refused: Refused, facts: Mapping[str, Mapping[str, Any]]) -> list[Layout]:
    layout.reject(refused)
    layout.nodes = [{"host": host, "devices": []} for host in facts]
    return [layout] * len(facts)


def one_layout(
    instance: Instance,
    model: Mapping[str, Any],
    facts: Mapping[str, Mapping[str, Any]],
    free: Free,
    peers: int = 1,
    part: Part | None = None,
    addresses: Mapping[str, str | None] | None = None,
) -> list[Layout]:
    """Decide for one instance, on one host or over several: one layout for each host of ``facts``, head first.

    ``free`` is what earlier instances left and is written to, ``peers`` how many instances the host has in all,
    ``addresses`` those of the hosts of an engine over several on the network between them, where they are known.
    """
    raw, model = model, kept.of(as_run.adapted(instance, model))
    accelerator = str(next(iter(facts.values())).get("accelerator"))
    revision = str(model.get("revision") or instance.revision)
    layout = Layout(
        name=instance.name,
        unit=f"vllm@{instance.name}.service",
        model=instance.model,
        model_source=instance.model_source,
        origin=instance.origin,
        revision=revision,
        host=instance.host,
        port=instance.port,
        ports=[instance.port],
        accelerator=accelerator,
        engine_version=instance.engine_version,
        tensor_parallel_size=instance.tensor_parallel_size or 1,
        pipeline_parallel_size=instance.pipeline_parallel_size or 1,
        serve_args=_plain_arguments(instance, revision),
        warnings=[*(model.get("warnings") or ()), *filter(None, [engine_versions.outside(instance.engine_version)])],
    )
    try:
        _check(instance, model, facts)
    except Refused as refused:
        return _rejected(layout, refused, facts)
    try:
        binds = _decided(layout, instance, model, facts, free, peers, part)
    except Refused as refused:

        def again(changed: Instance) -> Refused | None:
            other = as_run.adapted(changed, raw)
            return _refusal(layout, changed, model if other == model else kept.of(other), facts, free, peers, part)

        return _rejected(layout, remedies.checked(instance, refused, again), facts)
    layout.serve_args["tensor-parallel-size"] = layout.tensor_parallel_size
    layout.serve_args["pipeline-parallel-size"] = layout.pipeline_parallel_size
    for node in layout.nodes:
        if addresses and addresses.get(node["host"]):
            node["address"] = addresses[node["host"]]
    if len(facts) > 1:
        agreed = agreement.digest(asdict(layout), instance.master_port, instance.environment)
        layout.together = {"port": instance.meeting_port, "agreement": agreed}
    copies = [Layout(**asdict(layout)) for _ in facts]
    for rank, copy in enumerate(copies):
        if len(facts) > 1:
            _for_node(copy, instance, rank)
        if copy.nodes[rank]["host"] in binds:
            copy.environment["VLLM_CPU_OMP_THREADS_BIND"] = binds[copy.nodes[rank]["host"]]
        copy.environment.update(_own_environment(instance))
    return copies


def _own_environment(instance: Instance) -> dict[str, str]:
    return {key: _text(value) for key, value in (instance.environment or {}).items()}


def layouts(
    wanted: Sequence[Instance],
    facts: Mapping[str, Any],
    models: Mapping[str, Mapping[str, Any]],
    host: str = "localhost",
    free: Free | None = None,
) -> list[dict[str, Any]]:
    """Decide a layout for every instance of one host; the order of ``wanted`` changes nothing but that of the answer.

    Who names its GPUs has them, then come those with a count of GPUs and those that share GPUs. The others divide what
    is left (:mod:`together`). ``facts`` is ``gpu_facts`` of the host, ``models`` maps an instance's name to its
    ``model_facts`` (or to ``{"problem": sentence}``). An instance that cannot run has ``rejected`` set. Instances over
    several hosts are not decided here but by :func:`plan.plan_hosts`, and refused.
    """
    free = free or Free()
    facts, models = kept.of(facts), {name: kept.of(model) for name, model in models.items()}
    found: dict[str, Layout] = {}

    def decide(one: Instance, part: Part | None = None, left: Free | None = None) -> Layout:
        return one_layout(one, models.get(one.name, {}), {host: facts}, left or free, len(wanted), part)[0]

    for one in sorted(wanted, key=_precedence):
        if not _is_open(one):
            found[one.name] = decide(one)
    still_open = sorted((one for one in wanted if _is_open(one)), key=lambda one: one.name)
    if len(still_open) < 2 or facts.get("accelerator") == "cpu":
        found.update({one.name: decide(one) for one in still_open})
    else:
        found.update(_divided(still_open, facts, models, host, free, decide))
    for one in wanted:
        if one.nodes:
            found[one.name].reject(
                Refused(
                    "an engine over several hosts ('nodes') is decided from the facts of all of them, and only this "
                    "host's are given",
                    "several_hosts",
                    ("give the others in 'hosts'", "take 'nodes' out and let it run on one host"),
                )
            )
    _say_idle(still_open, found, host, free)
    return [asdict(found[one.name]) for one in wanted]


def _is_open(one: Instance) -> bool:
    return one.gpus == "auto" and not one.shared_gpus and not one.nodes


def _precedence(one: Instance) -> tuple[Any, ...]:
    """Lists of GPUs first, then counts, the largest first, then shares of GPUs."""
    count = one.gpus if isinstance(one.gpus, int) else 0
    return not isinstance(one.gpus, tuple), one.shared_gpus, -count, one.name


def _divided(
    instances: Sequence[Instance],
    facts: Mapping[str, Any],
    models: Mapping[str, Mapping[str, Any]],
    host: str,
    free: Free,
    decide: Callable[..., Layout],
) -> dict[str, Layout]:
    """Decide instances that leave their GPUs open, together."""
    closed = free.closed_to(host, None)
    placed: dict[str, Layout] = {}
    tried: dict[str, dict[int, together.Tried]] = {}
    rooms: dict[Kind, int] = {}
    for one in instances:
        works = [found for found in _decisions(one, facts, models, host, closed) if found.option.works]
        if not works:
            # refused for what it is, as if it were alone
            placed[one.name] = decide(one, None, Free({host: set(closed)}))
        for found in works:
            rooms[found.pool.kind] = len(found.pool.devices)
            options = together.Tried(found.wish, found.options)
            tried.setdefault(one.name, {})[list(rooms).index(found.pool.kind)] = options
    kinds = list(rooms)
    parts = together.divide([rooms[kind] for kind in kinds], tried, {one.name: one.share for one in instances})
    by_name = {one.name: one for one in instances}
    for name in sorted(parts, key=lambda name: (-parts[name].most, name)):
        placed[name] = decide(by_name[name], Part(kinds[parts[name].pool], parts[name].most))
        if placed[name].rejected is None:
            placed[name].reasons.insert(0, _said_part(name, parts, rooms[kinds[parts[name].pool]]))
    for name in sorted(set(tried) - set(parts)):
        placed[name] = decide(by_name[name], None, Free({host: set(closed)}))
        _left_without(placed[name], tried[name], sorted(parts))
    return placed


def _decisions(
    one: Instance, facts: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]], host: str, closed: Collection[int]
) -> list[Decision]:
    """What an instance could run on each kind of GPU, none where it is refused."""
    try:
        model = kept.of(as_run.adapted(one, models.get(one.name, {})))
        _check(one, model, {host: facts})
        return gpu.on_pools(one, model, gpu.Ground({host: facts}, {host: closed}))
    except (Refused, kv_cache.Unknown):
        return []


def _said_part(name: str, parts: Mapping[str, together.Part], room: int) -> str:
    mine = parts[name]
    others = [
        f"{other} ({part.most})" for other, part in sorted(parts.items()) if other != name and part.pool == mine.pool
    ]
    if not others:
        return f"It has {mine.most} of {room} GPUs of its kind; the other instances have none of these."
    return f"It has {mine.most} of {room} GPUs that it divides with {', '.join(others)} by their shares."


def _left_without(layout: Layout, tried: Mapping[int, together.Tried], others: Sequence[str]) -> None:
    """Refuse an instance that would run if the others did not."""
    least = min(option.gpus for one in tried.values() for option in one.options if option.works)
    empty = Layout(layout.name, "", "", None, "", "", "", 0, "")
    for name in ("devices", "start_after", "alternatives", "reasons", "memory", "estimate", "kv_cache_tokens"):
        setattr(layout, name, getattr(empty, name))
    layout.max_concurrency = layout.max_model_len = layout.dtype = layout.assumed = None
    layout.nodes = [{"host": node["host"], "devices": []} for node in layout.nodes]
    layout.reject(
        Refused(
            f"it needs {least} GPU{'' if least == 1 else 's'}, and what {', '.join(others)} "
            f"({'an earlier instance' if len(others) == 1 else 'earlier instances'} by name) "
            f"{'has' if len(others) == 1 else 'have'} of this host leaves fewer",
            "no_gpu_free",
            ("remove an instance from this host", "use a host with more GPUs"),
        )
    )


def _say_idle(instances: Sequence[Instance], found: Mapping[str, Layout], host: str, free: Free) -> None:
    """Add to the instances that leave their GPUs open which GPUs nobody uses, and why."""
    closed = set(free.taken.get(host, ())) | set(free.shared.get(host, {}))
    decisions = {one.name: free.decisions[one.name] for one in instances if one.name in free.decisions}
    used = {found.pool.kind for found in decisions.values()}
    for one in instances:
        decision = decisions.get(one.name)
        if decision is None or found[one.name].rejected:
            continue
        said = reasons.idle(one, decision, [index for index in decision.pool.devices if index not in closed])
        said += reasons.other_kinds([pool for pool in decision.others if pool.kind not in used], closed)
        found[one.name].reasons.extend(said)
