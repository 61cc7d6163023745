# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which hosts run one engine together, and with which GPUs. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.placement import Group, groups
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.pools import Kind, Pool, pools
from ansible_collections.gpufleet.vllm.plugins.module_utils.decide.refusal import Refused


@dataclass(frozen=True)
class HostGroup:
    """The GPUs of one host of several; ``node_rank`` counts from 0."""

    host: str
    node_rank: int
    group: Group


@dataclass(frozen=True)
class _Host:
    name: str
    pools: tuple[Pool, ...]
    problem: str | None = None

    def pool_of(self, kind: Kind) -> Pool | None:
        return next((pool for pool in self.pools if pool.kind == kind), None)

    def room(self, kind: Kind) -> int:
        pool = self.pool_of(kind)
        return len(pool.devices) if pool else 0


def across_hosts(
    hosts: Mapping[str, Mapping[str, Any]],
    nodes: int,
    per_host_size: int,
    taken: Mapping[str, Collection[int]] | None = None,
    ours: Mapping[str, Collection[int]] | None = None,
) -> list[HostGroup]:
    """``per_host_size`` GPUs of one kind on each of ``nodes`` hosts, hosts by name.

    ``hosts`` maps host names to their ``gpu_facts``, ``taken`` and ``ours`` to indexes as for ``pools``. vLLM
    wants as many GPUs on every host (engine/arg_utils.py:2390-2420 of 0.33.0), and GPUs of one kind compute in
    step. Raises Refused, naming the hosts that do not fit.
    """
    seen = [_look(name, hosts[name], (taken or {}).get(name, ()), (ours or {}).get(name, ())) for name in sorted(hosts)]
    if nodes > len(seen):
        raise Refused(
            f"{nodes} hosts are needed and {len(seen)} {'is' if len(seen) == 1 else 'are'} given",
            "too_few_hosts",
            (f"use at most {len(seen)}", "add hosts"),
        )
    kind = _best_kind(seen, nodes, per_host_size)
    fitting = [host for host in seen if kind and host.room(kind) >= per_host_size]
    if kind is None or len(fitting) < nodes:
        raise _odd(seen, kind, nodes, per_host_size)
    found = []
    for rank, host in enumerate(fitting[:nodes]):
        pool = host.pool_of(kind)
        assert pool is not None
        found.append(HostGroup(host.name, rank, groups(hosts[host.name], pool, per_host_size)[0]))
    return found


def has_rdma(hosts: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether every host shows an RDMA network adapter; without one the hosts talk over plain sockets."""
    return bool(hosts) and all(facts.get("nics") for facts in hosts.values())


def _look(name: str, facts: Mapping[str, Any], taken: Collection[int], ours: Collection[int]) -> _Host:
    try:
        return _Host(name, tuple(pools(facts, taken, ours)))
    except Refused as refused:
        return _Host(name, (), refused.reason)


def _best_kind(hosts: list[_Host], nodes: int, size: int) -> Kind | None:
    """The kind that most hosts have enough GPUs of; then the one with most GPUs, most memory, the first one."""
    kinds = list(dict.fromkeys(pool.kind for host in hosts for pool in host.pools))

    def order(kind: Kind) -> tuple[int, int, int]:
        rooms = [host.room(kind) for host in hosts]
        fitting = sum(room >= size for room in rooms)
        return -fitting, -sum(rooms), -(kind[1] or 0) if fitting >= nodes else 0

    return min(kinds, key=order, default=None)


def _odd(hosts: list[_Host], kind: Kind | None, nodes: int, size: int) -> Refused:
    """Says of each host that does not fit what it has instead."""
    named = f"{size} free {(kind[0] if kind else None) or 'like'} GPU{'' if size == 1 else 's'}"
    odd = [f"{host.name} {_instead(host, kind)}" for host in hosts if kind is None or host.room(kind) < size]
    fitting = len(hosts) - len(odd)
    return Refused(
        f"each of {nodes} hosts must have {named}, all of one kind, and {fitting} of {len(hosts)} do: {'; '.join(odd)}",
        "unlike_hosts",
        ("leave out the hosts that differ", "use fewer GPUs per host"),
    )


def _instead(host: _Host, kind: Kind | None) -> str:
    if host.problem:
        return f"cannot take part ({host.problem})"
    parts = []
    for pool in host.pools:
        memory = f" with {pool.memory_total_mib} MiB" if kind and pool.name == kind[0] and pool.kind != kind else ""
        parts.append(f"{len(pool.devices)} x {pool.name or 'unnamed'}{memory}")
    return f"has {', '.join(parts)}"
